//! Whether containers are still frozen, checked for all of them with one system call.
//!
//! Nothing of a frozen container runs, so its usage need not be read repeatedly. But another program may have thawed it
//! meanwhile. This check notices that at nearly no cost, unless the container has been frozen again before the check.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::{Clock, ThawCount};
use super::{Freezer, State};

/// Returns the [`ThawCount`] of each container that is still frozen by this process, and `None` for the others. Equal
/// values for a container mean that no thaw was noticed in between. A thaw by another program goes unnoticed if the
/// container is frozen again before the next call.
///
/// Makes one system call for all of them and reads no file: `cgroup.events` of the v2 tree, which a freeze has left
/// open, raises POLLPRI when it changes (kernfs_fop_poll; cgroup-v2.rst). Only a file that has changed is read, and
/// that of a v1 freezer, which reports no changes. If the file changed shortly before, a thaw by another program is
/// seen some 10 ms late: the kernel keeps that distance between its notifications (CGROUP_FILE_NOTIFY_MIN_INTV).
pub(crate) fn still_frozen(freezers: &[&Freezer]) -> Vec<Option<ThawCount>> {
    let mut counts: Vec<_> = freezers
        .iter()
        .map(|freezer| freezer.clock().and_then(Clock::current_freeze))
        .collect();
    let mut asked = Vec::new();
    let mut files = Vec::new();
    for (at, freezer) in freezers.iter().enumerate() {
        if counts.get(at).is_some_and(Option::is_some)
            && let Freezer::V2(v2) = freezer
            && let Some(events) = v2.events()
        {
            asked.push(at);
            files.push(PollFd::new(events, PollFlags::PRI));
        }
    }
    // A failed poll proves nothing, so every file then counts as changed.
    let polled = files.is_empty() || poll(&mut files, Some(&Timespec::default())).is_ok();
    let mut unchanged = vec![false; freezers.len()];
    for (at, file) in asked.into_iter().zip(&files) {
        if let Some(unchanged) = unchanged.get_mut(at) {
            *unchanged = polled && file.revents().is_empty();
        }
    }
    for ((freezer, count), unchanged) in freezers.iter().zip(&mut counts).zip(unchanged) {
        if count.is_some() && !unchanged && !matches!(freezer.state(), Ok(State::Frozen)) {
            // Unless this process has thawed or frozen it meanwhile.
            if let Some(clock) = freezer.clock().filter(|clock| clock.current_freeze() == *count) {
                clock.thawed_by_other();
            }
            *count = None;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cgroup::testing::{Cgroup, eventually};

    /// Freezes, and lets the kernel's last notification of the freeze pass: the kernel sends them at most 100 times a
    /// second.
    async fn freeze(freezer: &Freezer) {
        freezer.freeze(None).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        assert!(still_frozen(&[freezer])[0].is_some());
    }

    async fn only_what_it_froze_itself_stands(
        cgroup: Option<Cgroup>,
        file: &str,
        thawed: &str,
        frozen: &str,
    ) {
        let Some(mut cgroup) = cgroup else { return };
        cgroup.spawn(1);
        let freezer = Freezer::of(cgroup.paths()).unwrap();
        freezer.count_from_birth();
        assert_eq!(still_frozen(&[&freezer]), [None]);
        freeze(&freezer).await;
        let first = still_frozen(&[&freezer, &Freezer::None("/".into())]);
        assert_eq!((first[0], first[1]), (still_frozen(&[&freezer])[0], None));
        let time = freezer.frozen_time().unwrap();
        assert!(time.as_millis() >= 30, "{time:?}");
        freezer.thaw(None).await.unwrap();
        assert_eq!(still_frozen(&[&freezer]), [None]);
        freeze(&freezer).await;
        assert_ne!(still_frozen(&[&freezer])[0], first[0], "it ran in between");
        // Another program thaws the container, and freezes it.
        let dir = cgroup.paths().dirs().next().unwrap().to_owned();
        fs::write(dir.join(file), thawed).unwrap();
        cgroup.assert_runs();
        // The kernel may report the thaw later than the process runs.
        eventually("seen thawed", || still_frozen(&[&freezer]) == [None]);
        assert_eq!(freezer.frozen_time(), None);
        fs::write(dir.join(file), frozen).unwrap();
        assert_eq!(still_frozen(&[&freezer]), [None]);
    }

    #[tokio::test]
    async fn in_the_v2_tree_only_what_it_froze_itself_stands() {
        only_what_it_froze_itself_stands(Cgroup::v2("standing"), "cgroup.freeze", "0", "1").await;
    }

    #[tokio::test]
    async fn under_the_v1_freezer_only_what_it_froze_itself_stands() {
        let cgroup = Cgroup::v1("standing");
        only_what_it_froze_itself_stands(cgroup, "freezer.state", "THAWED", "FROZEN").await;
    }

    #[tokio::test]
    async fn an_untouched_frozen_cgroup_is_not_read() {
        let Some(mut cgroup) = Cgroup::v2("unread") else {
            return;
        };
        cgroup.spawn(1);
        let freezer = Freezer::of(cgroup.paths()).unwrap();
        freeze(&freezer).await;
        // The kernel resets the mark of a changed file only when the file is read: without a read the mark stays.
        let Freezer::V2(v2) = &freezer else {
            panic!("{freezer:?}")
        };
        let quiet = || {
            let mut files = [PollFd::new(v2.events().unwrap(), PollFlags::PRI)];
            poll(&mut files, Some(&Timespec::default())).unwrap() == 0
        };
        assert!(quiet());
        let reads = || {
            let io = fs::read_to_string("/proc/thread-self/io").unwrap();
            let line = io.lines().find_map(|line| line.strip_prefix("syscr: "));
            line.unwrap().parse::<u64>().unwrap()
        };
        // The number of reads that counting itself costs.
        let (before, between) = (reads(), reads());
        for _ in 0..10 {
            assert!(still_frozen(&[&freezer])[0].is_some());
        }
        assert_eq!(reads() - between, between - before, "reads in ten looks");
    }
}
