//! Tests the freezer on a directory whose kernel is a thread, and on the kernel of this host.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::cgroup::testing::{Cgroup, eventually};
use crate::cgroup::*;

/// A v2 cgroup in a directory, and a thread in the kernel's role: it confirms each request some time after it was made.
struct Fake {
    dir: TempDir,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    kernel: Option<JoinHandle<()>>,
}

impl Fake {
    /// `lag` is how long a freeze takes; with `None` it never ends. A thaw is immediate.
    fn new(lag: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.freeze"), "0").unwrap();
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(vec!["0".to_owned()]));
        let (at, stopped, log) = (dir.path().to_owned(), Arc::clone(&stop), Arc::clone(&requests));
        let kernel = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let asked = fs::read_to_string(at.join("cgroup.freeze")).unwrap();
                if log.lock().unwrap().last() != Some(&asked) {
                    log.lock().unwrap().push(asked.clone());
                    match (asked.as_str(), lag) {
                        ("1", Some(lag)) => {
                            std::thread::sleep(lag);
                            Self::confirm(&at, 1);
                        }
                        ("1", None) => {}
                        _ => Self::confirm(&at, 0),
                    }
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        Self {
            dir,
            stop,
            requests,
            kernel: Some(kernel),
        }
    }

    fn confirm(at: &Path, frozen: u8) {
        // Overwritten in place with one write, because the freezer keeps the file open.
        let events = fs::File::options()
            .write(true)
            .open(at.join("cgroup.events"))
            .unwrap();
        let text = format!("populated 1\nfrozen {frozen}\n");
        std::os::unix::fs::FileExt::write_all_at(&events, text.as_bytes(), 0).unwrap();
    }

    fn freezer(&self) -> Freezer {
        let paths = Paths {
            v2: Some(self.dir.path().to_owned()),
            ..Paths::default()
        };
        Freezer::of(&paths).unwrap()
    }

    fn requested(&self) -> String {
        fs::read_to_string(self.dir.path().join("cgroup.freeze")).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.kernel.take().unwrap().join().unwrap();
    }
}

/// Far longer than a freeze takes, on any machine.
const LONG: Duration = Duration::from_secs(60);

fn within(limit: Duration) -> Option<Instant> {
    Some(Instant::now() + limit)
}

#[tokio::test]
async fn a_slow_kernel_is_polled_until_it_confirms() {
    // The fake kernel confirms nothing yet, so the fast part gives up, however long that takes on a busy machine.
    let fake = Fake::new(None);
    let freezer = fake.freezer();
    let Attempt::Pending(pending) = freezer.freeze_fast(within(LONG)).unwrap() else {
        panic!("confirmed by nobody");
    };
    let kernel = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Fake::confirm(fake.dir.path(), 1);
    };
    let (confirmed, ()) = tokio::join!(pending.confirm(), kernel);
    let confirmed = confirmed.unwrap();
    assert_eq!(confirmed.by, By::Poll);
    assert!(confirmed.took >= Duration::from_millis(20), "{confirmed:?}");
    assert_eq!(freezer.state().unwrap(), State::Frozen);
    freezer.thaw(within(LONG)).await.unwrap();
    assert_eq!(freezer.state().unwrap(), State::Thawed);
}

#[tokio::test]
async fn a_freeze_that_times_out_is_taken_back_and_reports_its_limit() {
    let fake = Fake::new(None);
    let freezer = fake.freezer();
    let error = freezer
        .freeze(within(Duration::from_millis(300)))
        .await
        .unwrap_err();
    let Error::NotFrozen { limit, .. } = error else {
        panic!("{error}");
    };
    assert!(
        limit > Duration::ZERO && limit <= Duration::from_millis(300),
        "{limit:?}"
    );
    assert_eq!(fake.requested(), "0");
    assert_eq!(freezer.state().unwrap(), State::Thawed);
    eventually("the kernel saw both requests", || {
        *fake.requests.lock().unwrap() == ["0", "1", "0"]
    });
}

#[tokio::test]
async fn the_fast_part_gives_up_after_the_spin_and_leaves_the_rest_to_be_awaited() {
    let fake = Fake::new(None);
    let freezer = fake.freezer();
    let started = Instant::now();
    let Attempt::Pending(pending) = freezer.freeze_fast(None).unwrap() else {
        panic!("confirmed by nobody");
    };
    assert!(started.elapsed() >= super::freezer::SPIN);
    assert_eq!(freezer.state().unwrap(), State::Freezing);
    drop(pending);
    assert_eq!(fake.requested(), "0");
}

#[tokio::test]
async fn a_dropped_wait_takes_the_freeze_back() {
    let fake = Fake::new(None);
    let freezer = fake.freezer();
    let waited = tokio::time::timeout(Duration::from_millis(20), freezer.freeze(None)).await;
    assert!(waited.is_err());
    assert_eq!(fake.requested(), "0");
}

#[tokio::test]
async fn a_freeze_without_time_is_not_begun_and_a_thaw_is() {
    let fake = Fake::new(Some(Duration::ZERO));
    let freezer = fake.freezer();
    let now = Some(Instant::now());
    let error = freezer.freeze(now).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NotFrozen {
                limit: Duration::ZERO,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(*fake.requests.lock().unwrap(), ["0"]);
    freezer.freeze(None).await.unwrap();
    // A container that is already frozen needs no time.
    freezer.freeze(now).await.unwrap();
    let error = freezer.thaw(now).await;
    assert_eq!(fake.requested(), "0", "{error:?}");
}

#[tokio::test]
async fn a_cgroup_with_no_freezer_says_so_and_one_that_is_gone_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Paths {
        v2: Some(dir.path().to_owned()),
        ..Paths::default()
    };
    let freezer = Freezer::of(&paths).unwrap();
    assert!(matches!(freezer, Freezer::None(_)));
    assert!(matches!(
        freezer.freeze(None).await,
        Err(Error::Unsupported { .. })
    ));
    paths.v2 = Some(dir.path().join("gone"));
    assert!(Freezer::of(&paths).unwrap_err().is_gone());
}

/// On the real kernel: a process that stops counting proves that the cgroup is frozen.
async fn freezes_and_thaws(cgroup: Option<Cgroup>, processes: usize) {
    let Some(mut cgroup) = cgroup else { return };
    cgroup.spawn(processes);
    let freezer = Freezer::of(cgroup.paths()).unwrap();
    for _ in 0..3 {
        let confirmed = freezer.freeze(None).await.unwrap();
        cgroup.assert_stands();
        assert_eq!(freezer.state().unwrap(), State::Frozen, "{confirmed:?}");
        freezer.freeze(None).await.unwrap();
        freezer.thaw(None).await.unwrap();
        assert_eq!(freezer.state().unwrap(), State::Thawed);
        cgroup.assert_runs();
        freezer.thaw(None).await.unwrap();
    }
}

#[tokio::test]
async fn one_process_stands_while_frozen_and_runs_again() {
    freezes_and_thaws(Cgroup::v2("one"), 1).await;
}

#[tokio::test]
async fn ten_processes_stand_while_frozen_and_run_again() {
    freezes_and_thaws(Cgroup::v2("ten"), 10).await;
}

#[tokio::test]
async fn a_hundred_processes_stand_while_frozen_and_run_again() {
    freezes_and_thaws(Cgroup::v2("hundred"), 100).await;
}

#[tokio::test]
async fn the_v1_freezer_does_the_same() {
    freezes_and_thaws(Cgroup::v1("v1-one"), 1).await;
    freezes_and_thaws(Cgroup::v1("v1-fifty"), 50).await;
}

#[tokio::test]
async fn a_container_that_forks_all_the_time_is_frozen_too() {
    for cgroup in [Cgroup::v2("forks"), Cgroup::v1("v1-forks")] {
        let Some(mut cgroup) = cgroup else { continue };
        cgroup.spawn_forking();
        let freezer = Freezer::of(cgroup.paths()).unwrap();
        for _ in 0..20 {
            freezer.freeze(None).await.unwrap();
            cgroup.assert_stands();
            freezer.thaw(None).await.unwrap();
            cgroup.assert_runs();
        }
    }
}

#[tokio::test]
async fn whatever_the_deadline_the_answer_is_what_the_kernel_did() {
    let Some(mut cgroup) = Cgroup::v2("deadline") else {
        return;
    };
    cgroup.spawn(40);
    let freezer = Freezer::of(cgroup.paths()).unwrap();
    let (mut frozen, mut refused) = (0, 0);
    for micros in (0..400).step_by(5) {
        match freezer.freeze(within(Duration::from_micros(micros))).await {
            Ok(_) => {
                frozen += 1;
                assert_eq!(freezer.state().unwrap(), State::Frozen);
                freezer.thaw(None).await.unwrap();
            }
            Err(Error::NotFrozen { .. }) => {
                refused += 1;
                assert_eq!(freezer.state().unwrap(), State::Thawed);
                cgroup.assert_runs();
            }
            Err(error) => panic!("{error}"),
        }
    }
    eprintln!("{frozen} in time, {refused} too late");
    assert!(refused > 0, "even no time at all was enough");
}

#[tokio::test]
async fn a_thousand_rounds_end_where_they_began() {
    let Some(mut cgroup) = Cgroup::v2("rounds") else {
        return;
    };
    cgroup.spawn(2);
    let freezer = Freezer::of(cgroup.paths()).unwrap();
    for round in 0..1000 {
        freezer.freeze(None).await.unwrap();
        let before = cgroup.count();
        assert_eq!(freezer.state().unwrap(), State::Frozen, "round {round}");
        assert_eq!(cgroup.count(), before, "round {round}");
        freezer.thaw(None).await.unwrap();
    }
    cgroup.assert_runs();
}

#[tokio::test]
async fn a_freeze_that_meets_a_kill_lets_it_win() {
    for round in 0..20_u64 {
        let Some(mut cgroup) = Cgroup::v2("race") else {
            return;
        };
        cgroup.spawn(5);
        let freezer = Freezer::of(cgroup.paths()).unwrap();
        let paths = cgroup.paths().clone();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(50 * round));
            kill_all(&paths).unwrap();
        });
        for _ in 0..50 {
            freezer.freeze(None).await.unwrap();
            freezer.thaw(None).await.unwrap();
        }
        freezer.freeze(None).await.unwrap();
        killer.join().unwrap();
        cgroup.wait_empty();
        cgroup.remove();
        for gone in [freezer.freeze(None).await, freezer.thaw(None).await] {
            assert!(gone.unwrap_err().is_gone());
        }
        assert!(freezer.state().unwrap_err().is_gone());
    }
}

#[tokio::test]
async fn descriptors_that_are_kept_never_mean_a_later_cgroup_of_the_same_name() {
    let Some(cgroup) = Cgroup::v2("reused") else {
        return;
    };
    let freezer = Freezer::of(cgroup.paths()).unwrap();
    freezer.thaw(None).await.unwrap();
    cgroup.remove();
    let later = Cgroup::v2("reused").unwrap();
    assert!(freezer.freeze(None).await.unwrap_err().is_gone());
    assert_eq!(
        Freezer::of(later.paths()).unwrap().state().unwrap(),
        State::Thawed
    );
}

#[tokio::test]
async fn a_v1_frozen_container_dies_at_its_thaw() {
    let Some(mut cgroup) = Cgroup::v1("v1-kill") else {
        return;
    };
    cgroup.spawn(5);
    let freezer = Freezer::of(cgroup.paths()).unwrap();
    freezer.freeze(None).await.unwrap();
    cgroup.kill();
    freezer.thaw(None).await.unwrap();
    cgroup.wait_empty();
    cgroup.remove();
    assert!(freezer.freeze(None).await.unwrap_err().is_gone());
}

#[tokio::test]
async fn a_cgroup_frozen_from_above_is_frozen_and_does_not_thaw_by_itself() {
    let Some(parent) = Cgroup::v2("above") else { return };
    let child = parent.paths().v2.as_ref().unwrap().join("child");
    fs::create_dir(&child).unwrap();
    let below = Freezer::of(&Paths {
        v2: Some(child.clone()),
        ..Paths::default()
    });
    let (above, below) = (Freezer::of(parent.paths()).unwrap(), below.unwrap());
    above.freeze(None).await.unwrap();
    let thawed = below.thaw(within(Duration::from_millis(20))).await;
    let state = below.state();
    above.thaw(None).await.unwrap();
    fs::remove_dir(&child).unwrap();
    assert!(matches!(thawed, Err(Error::NotThawed { .. })), "{thawed:?}");
    assert_eq!(state.unwrap(), State::Frozen);
}
