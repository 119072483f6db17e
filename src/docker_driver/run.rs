//! One run of a container: when and how it ended, and whether its streams were delivered.
//!
//! ```text
//! start ──► watch: wait · inspect ──► Exit ──┐
//!      └──► carry: streams ──────────► done ─┴──► the result
//! ```
//!
//! Both run on tasks of their own. They end with the driver: what it no longer watches has no result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::container::Watched;
use super::daemon::{Attached, Failed};
use super::streams::{Streams, lost};
use crate::Context;
use crate::driver::StreamFailed;
use crate::pauses::Pauses;

/// The exit code of a process that SIGKILL has ended: 128 + 9.
const KILLED: u32 = 137;
/// The first and the longest pause before the engine is asked again for the end of a container.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The first and the longest pause before the engine is asked again whether it has written down an end.
const WRITTEN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// How long an engine may take to write down an end. It is also how long the end of a container may take to be known once
/// the container is removed.
const SETTLE: Duration = Duration::from_secs(10);
/// How often a container is looked at while the engine has not told its end: a connection may be dead without either side
/// having noticed.
const LOOK: Duration = Duration::from_secs(60);
/// How long the host's own streams may take to receive the rest of a removed container's output.
const REST: Duration = Duration::from_secs(2);

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// `None` if it is lost.
    pub(super) code: Option<u32>,
    /// Whether the kernel has killed a process of it for lack of memory; `None` if that is not known.
    pub(super) oom: Option<bool>,
}

/// What is known about a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) exit: Option<Exit>,
    pub(super) streams: Delivery,
}

/// What has become of the streams.
#[derive(Debug, Clone, Default)]
pub(super) enum Delivery {
    /// They flow.
    #[default]
    Flowing,
    /// Everything was delivered, or a stream has failed.
    Over(Option<StreamFailed>),
    /// They were given up.
    CutOff,
}

/// A run. It is watched whether or not anybody holds this.
#[derive(Debug)]
pub(super) struct Run {
    known: watch::Sender<Known>,
    /// Cancelled when the container has ended.
    ended: Context,
    /// Cancelled to give the streams up.
    cut_off: Context,
    /// Whether the engine went away while the container ran, and its output with it.
    was_interrupted: AtomicBool,
}

impl Run {
    pub(super) fn new(driver: &Context) -> Arc<Self> {
        Arc::new(Self {
            known: watch::Sender::new(Known::default()),
            ended: Context::new(),
            cut_off: driver.child(),
            was_interrupted: AtomicBool::new(false),
        })
    }

    /// Watches a container that was started, until it ends or the driver does.
    pub(super) fn watch(
        self: &Arc<Self>,
        container: Watched,
        streams: Option<(Streams, Attached)>,
        tracker: &TaskTracker,
        driver: &Context,
    ) {
        let (run, life) = (Arc::clone(self), driver.clone());
        let watch = async move {
            if let Ok(exit) = life.run(end_of(&container, &run.was_interrupted)).await {
                tracing::debug!(
                    id = container.id(),
                    code = exit.code,
                    oom = exit.oom,
                    "a container ended"
                );
                run.known.send_modify(|known| known.exit = Some(exit));
                run.ended.cancel();
            }
        };
        tracker.spawn(watch.in_current_span());
        let run = Arc::clone(self);
        let carry = async move {
            let delivery = match streams {
                None => Delivery::Over(None),
                Some((streams, attached)) => {
                    let carried = streams.carry(attached, run.ended.clone());
                    let delivered = async {
                        let failed = carried.await;
                        // An engine that goes away ends the output, too, as if the container had.
                        run.ended.cancelled().await;
                        failed.or_else(|| run.interruption())
                    };
                    match run.cut_off.run(delivered).await {
                        Ok(failed) => Delivery::Over(failed),
                        Err(_) => Delivery::CutOff,
                    }
                }
            };
            run.known.send_modify(|known| known.streams = delivery);
        };
        tracker.spawn(carry.in_current_span());
    }

    /// Waits for the end of the container and of its streams.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn over(&self) {
        let mut known = self.known.subscribe();
        let is_over = |known: &Known| known.exit.is_some() && !matches!(known.streams, Delivery::Flowing);
        // The sender lives as long as this.
        drop(known.wait_for(is_over).await);
    }

    fn interruption(&self) -> Option<StreamFailed> {
        let why =
            "the engine went away while the container ran, and what the container has written since is lost";
        self.was_interrupted.load(Ordering::Acquire).then(|| lost(why))
    }

    /// What is known now.
    pub(super) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// A context that is cancelled when the container has ended.
    pub(super) fn ended(&self) -> &Context {
        &self.ended
    }

    /// Waits until the end of a removed container is known, and then for its output, each for a while; then gives the
    /// streams up.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn settle(&self, driver: &Context) {
        if driver.check().is_ok() {
            drop(tokio::time::timeout(SETTLE, self.ended.cancelled()).await);
            drop(tokio::time::timeout(REST, self.over()).await);
        }
        self.cut_off.cancel();
    }
}

/// Waits for the end of a container, however often the engine goes away meanwhile, which `was_interrupted` then says.
async fn end_of(container: &Watched, was_interrupted: &AtomicBool) -> Exit {
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    loop {
        let told = tokio::time::timeout(LOOK, container.daemon().wait(container.id()));
        match told.await {
            Ok(Ok(code)) => return exit(container, u32::try_from(code).ok()).await,
            Ok(Err(failed)) if failed.is_missing() => return gone(container),
            // It lasts, or nobody will tell.
            Err(_) => {}
            Ok(Err(failed)) => {
                was_interrupted.store(true, Ordering::Release);
                let error = crate::chain(&failed);
                tracing::debug!(
                    id = container.id(),
                    error,
                    "cannot wait for a container; asking again"
                );
            }
        }
        pauses.wait().await;
        match container.daemon().state(container.id()).await {
            Ok(state) if state.is_over => {
                return Exit {
                    code: state.exit_code.and_then(|code| u32::try_from(code).ok()),
                    oom: Some(state.is_oom),
                };
            }
            Err(failed) if failed.is_missing() => return gone(container),
            // It runs, or the engine is away.
            Ok(_) | Err(_) => {}
        }
    }
}

/// The end of a container that does not exist any more. If this driver has removed it, SIGKILL has ended it.
fn gone(container: &Watched) -> Exit {
    Exit {
        code: container.is_being_removed().then_some(KILLED),
        oom: None,
    }
}

/// An exit, with the kernel's own record of memory that ran out, which the engine has. An engine may tell of the end
/// before it has written down how it came.
async fn exit(container: &Watched, code: Option<u32>) -> Exit {
    let mut pauses = Pauses::new(WRITTEN.0, WRITTEN.1);
    let until = Instant::now() + SETTLE;
    loop {
        let state = container.daemon().state(container.id()).await;
        let oom = match state {
            Ok(state) if !state.is_over && Instant::now() < until => {
                pauses.wait().await;
                continue;
            }
            Ok(state) => Some(state.is_oom),
            Err(failed) if !failed.is_missing() && Instant::now() < until => {
                pauses.wait().await;
                continue;
            }
            Err(failed) => {
                report(container, &failed);
                None
            }
        };
        return Exit { code, oom };
    }
}

fn report(container: &Watched, failed: &Failed) {
    if !container.is_being_removed() {
        tracing::warn!(id = container.id(), error = %crate::chain(failed), "it is not known whether memory ran out");
    }
}
