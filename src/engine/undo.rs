//! The order in which a container and its run are made. They are undone in reverse order, either by the process that
//! made them or by a later one that found them by the record.
//!
//! ```text
//! container:  volumes · record · snapshot · disk quota · log        run:  network · streams · cgroup · task
//! ```
//!
//! The record is first but for volumes that nobody has named, which stay for as long as it states that they are used. It reserves
//! the name until everything else is gone. Each step is put on the list in the
//! file of its subject, for both cases.

use super::{disk, logs, network, record, remains, rootfs, task, volumes};
use crate::Context;
use crate::stdio::Fifos;
use crate::teardown::{Failed, Teardown};

/// The step that removes the fifos and the other files of a container.
pub(super) const STREAMS: &str = "streams";

/// The steps of a container, in the order in which they are put on the list, and whether every container has them.
const CONTAINER: [(&str, bool); 5] = [
    (volumes::STEP, false),
    (record::STEP, true),
    (rootfs::STEP, true),
    (disk::STEP, false),
    (logs::STEP, false),
];
/// The steps of a run, likewise.
const RUN: [(&str, bool); 4] = [
    (network::STEP, false),
    (STREAMS, true),
    (remains::STEP, true),
    (task::STEP, true),
];

/// Whether the list of a container has every required step, and all steps in the right order.
pub(super) fn is_whole_container(undo: &Teardown) -> bool {
    is_whole(undo, &CONTAINER)
}

/// Whether the list of a run has every required step, and all steps in the right order.
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

/// Undoes the first half of a run: its processes, and their cgroup.
///
/// # Cancellation
/// As for [`Teardown::run`].
pub(super) async fn processes(run: &mut Teardown, ctx: &Context) -> Vec<Failed> {
    run.run_without(ctx, &[network::STEP, STREAMS]).await
}

/// Undoes the second half of a run, which is of no use without processes.
///
/// # Cancellation
/// As for [`Teardown::run`].
pub(super) async fn rest_of_run(run: &mut Teardown, ctx: &Context) -> Vec<Failed> {
    run.run_without(ctx, &[remains::STEP, task::STEP]).await
}

/// Undoes the second half of a run, and its container at the same time: containerd removes the snapshot while this
/// process removes files. The processes are gone.
///
/// # Cancellation
/// As for [`Teardown::run`].
pub(super) async fn rest_of_both(run: &mut Teardown, container: &mut Teardown, ctx: &Context) -> Vec<Failed> {
    let of_run = async {
        // Lets the call to containerd be sent first.
        tokio::task::yield_now().await;
        rest_of_run(run, ctx).await
    };
    let layer = container.run_without(ctx, &[volumes::STEP, record::STEP]);
    let (mut failed, of_run) = tokio::join!(layer, of_run);
    failed.extend(of_run);
    if failed.is_empty() {
        failed = container.run(ctx).await;
    }
    failed
}

/// Undoes a container after its run. `failed` are the steps of the run that failed: if there are any, the record stays,
/// and so does the disk quota unless only the network is left.
///
/// # Cancellation
/// As for [`Teardown::run`].
pub(super) async fn rest(container: &mut Teardown, ctx: &Context, failed: &[Failed]) -> Vec<Failed> {
    if failed.is_empty() {
        return container.run(ctx).await;
    }
    // Processes that may still run can write to the disk; a network that is left cannot.
    let is_quiet = failed.iter().all(|failed| failed.step == network::STEP);
    let held: &[&str] = if is_quiet {
        &[volumes::STEP, record::STEP]
    } else {
        &[volumes::STEP, record::STEP, disk::STEP]
    };
    container.run_without(ctx, held).await
}

/// Puts the removal of the fifos' directory on the list.
pub(super) fn defer_streams(undo: &mut Teardown, dir: &std::path::Path) {
    let dir = dir.to_owned();
    undo.defer(STREAMS, move |_| std::future::ready(Fifos::remove(&dir)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;

    fn whole(names: &[&'static str], order: &[(&str, bool)]) -> bool {
        let mut undo = Teardown::new("c1", &Arc::new(Metrics::new()));
        for name in names {
            undo.defer(name, |_| std::future::ready(Ok::<_, &str>(())));
        }
        let whole = is_whole(&undo, order);
        undo.forget();
        whole
    }

    #[test]
    fn a_list_is_whole_with_every_step_in_its_place() {
        for right in [
            &["record", "snapshot"][..],
            &["record", "snapshot", "disk quota"],
            &["record", "snapshot", "log"],
            &["record", "snapshot", "disk quota", "log"],
            &["volumes", "record", "snapshot"],
        ] {
            assert!(whole(right, &CONTAINER), "{right:?}");
        }
        for wrong in [
            &["snapshot", "record"][..],
            &["record", "volumes", "snapshot"],
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
