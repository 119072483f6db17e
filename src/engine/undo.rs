//! The order in which a container is made, which is the reverse of the order in which it is undone, whoever undoes it: the
//! process that made it, or a later one that found it by its record.
//!
//! The record is first, so that it guards the name until all the rest is gone. Each step is pushed by one function of its
//! noun's file, which both ways use.

use super::{disk, network, record, remains, rootfs, task};
use crate::stdio::Fifos;
use crate::teardown::Teardown;

/// The fifos and the other files of a container.
const STREAMS: &str = "streams";

/// Every step, in the order in which they are pushed, and whether every container has it.
const ORDER: [(&str, bool); 7] = [
    (record::STEP, true),
    (network::STEP, false),
    (rootfs::STEP, true),
    (disk::STEP, false),
    (STREAMS, true),
    (remains::STEP, true),
    (task::STEP, true),
];

/// Whether a list has every step that it must have, in the order of all.
pub(super) fn is_whole(undo: &Teardown) -> bool {
    let steps: Vec<_> = undo.steps().collect();
    let mut left = steps.iter().rev().peekable();
    let all = ORDER.iter().all(|(name, required)| {
        let there = left.next_if(|step| *step == name).is_some();
        there || !required
    });
    all && left.next().is_none()
}

/// Puts the removal of the fifos' directory on the list.
pub(super) fn defer_streams(undo: &mut Teardown, dir: &std::path::Path) {
    let dir = dir.to_owned();
    undo.defer(STREAMS, move |_| std::future::ready(Fifos::remove(&dir)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&'static str]) -> bool {
        let mut undo = Teardown::new("c1");
        for name in names {
            undo.defer(name, |_| std::future::ready(Ok::<_, &str>(())));
        }
        let whole = is_whole(&undo);
        undo.forget();
        whole
    }

    #[test]
    fn a_list_is_whole_with_every_step_in_its_place() {
        assert!(list(&["record", "snapshot", "streams", "cgroup", "task"]));
        assert!(list(&[
            "record",
            "network",
            "snapshot",
            "disk quota",
            "streams",
            "cgroup",
            "task"
        ]));
        for wrong in [
            &["network", "record", "snapshot", "streams", "cgroup", "task"][..],
            &["record", "snapshot", "streams", "task"],
            &["record", "snapshot", "streams", "task", "cgroup"],
            &["record", "snapshot", "streams", "cgroup", "task", "task"],
            &[],
        ] {
            assert!(!list(wrong), "{wrong:?}");
        }
    }
}
