//! The order in which a container and its run are made, which is the reverse of the order in which they are undone, whoever
//! undoes them: the process that made them, or a later one that found them by the record.
//!
//! ```text
//! container:  record · snapshot · disk quota        run:  network · streams · cgroup · task
//! ```
//!
//! The record is first, so that it guards the name until all the rest is gone. Each step is pushed by one function of its
//! noun's file, which both ways use.

use super::{disk, network, record, remains, rootfs, task};
use crate::Context;
use crate::stdio::Fifos;
use crate::teardown::{Failed, Teardown};

/// The fifos and the other files of a container.
pub(super) const STREAMS: &str = "streams";

/// The steps of a container, in the order in which they are pushed, and whether every container has them.
const CONTAINER: [(&str, bool); 3] = [(record::STEP, true), (rootfs::STEP, true), (disk::STEP, false)];
/// The same of a run.
const RUN: [(&str, bool); 4] = [
    (network::STEP, false),
    (STREAMS, true),
    (remains::STEP, true),
    (task::STEP, true),
];

/// Whether the list of a container has every step that it must have, in the order of all.
pub(super) fn is_whole_container(undo: &Teardown) -> bool {
    is_whole(undo, &CONTAINER)
}

/// The same for the list of a run.
pub(super) fn is_whole_run(undo: &Teardown) -> bool {
    is_whole(undo, &RUN)
}

fn is_whole(undo: &Teardown, order: &[(&str, bool)]) -> bool {
    let steps: Vec<_> = undo.steps().collect();
    let mut left = steps.iter().rev().peekable();
    let all = order.iter().all(|(name, required)| {
        let there = left.next_if(|step| *step == name).is_some();
        there || !required
    });
    all && left.next().is_none()
}

/// Undoes a container after its run, of which `failed` is what could not be undone: its record stays while anything is left.
///
/// # Cancellation
/// As for [`Teardown::run`].
pub(super) async fn rest(container: &mut Teardown, ctx: &Context, failed: &[Failed]) -> Vec<Failed> {
    if failed.is_empty() {
        container.run(ctx).await
    } else {
        container.run_but_claims(ctx).await
    }
}

/// Puts the removal of the fifos' directory on the list.
pub(super) fn defer_streams(undo: &mut Teardown, dir: &std::path::Path) {
    let dir = dir.to_owned();
    undo.defer(STREAMS, move |_| std::future::ready(Fifos::remove(&dir)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(names: &[&'static str], order: &[(&str, bool)]) -> bool {
        let mut undo = Teardown::new("c1");
        for name in names {
            undo.defer(name, |_| std::future::ready(Ok::<_, &str>(())));
        }
        let whole = is_whole(&undo, order);
        undo.forget();
        whole
    }

    #[test]
    fn a_list_is_whole_with_every_step_in_its_place() {
        for right in [&["record", "snapshot"][..], &["record", "snapshot", "disk quota"]] {
            assert!(whole(right, &CONTAINER), "{right:?}");
        }
        for wrong in [
            &["snapshot", "record"][..],
            &["record"],
            &["record", "snapshot", "network"],
            &[],
        ] {
            assert!(!whole(wrong, &CONTAINER), "{wrong:?}");
        }
        for right in [
            &["streams", "cgroup", "task"][..],
            &["network", "streams", "cgroup", "task"],
        ] {
            assert!(whole(right, &RUN), "{right:?}");
        }
        for wrong in [
            &["streams", "network", "cgroup", "task"][..],
            &["streams", "task"],
            &["streams", "task", "cgroup"],
            &["streams", "cgroup", "task", "task"],
            &[],
        ] {
            assert!(!whole(wrong, &RUN), "{wrong:?}");
        }
    }
}
