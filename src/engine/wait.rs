//! Waits until a container's process has really ended.
//!
//! The end is detected in three ways, whichever is first: the reply to Tasks/Wait, the exit event, and the process
//! itself being gone (a pidfd, see pidfd_open(2), becomes readable). The third works while containerd is down, too;
//! containerd is asked for the exit code afterwards. If it has lost the task or does not answer, the kernel is asked,
//! which keeps the code for the holder of a pidfd since Linux 6.15. Never kills anything: see [`super::signal`].
//!
//! ```text
//! create ──► Tasks/Wait ──┬─ replies within 2 s ─────────────────────────────────────────────┐
//!                         └─ taken back: the container idles ──► event ──────────────────────┼──► the end
//!                                                           └──► process gone ──► Tasks/Get ─┤
//!                                                                     no answer ──► kernel ──┘
//! ```
//!
//! So a container that runs for longer costs one task and one descriptor here, and nothing in containerd or its shim.
//! Without a pidfd, the wait is not taken back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Deps;
use super::exits::Watching;
use super::oom::{self, OomRecorder};
use super::pidfd::{Alive, Pidfd};
use crate::cgroup::{Above, OomCount, Paths};
use crate::containerd::TaskStatus;
use crate::metrics::RetryReason;
use crate::pauses::Pauses;
use crate::{ContainerId, Context, clock};

/// The pause before containerd is asked again if it does not answer; doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(1);
/// How long the parent of a process whose shim is gone may take to reap it.
const REAPED: Duration = Duration::from_secs(1);
/// How long to wait for the reply to Tasks/Wait if the process itself is watched too. Most functions have ended by
/// then. As long as the call is open, it costs a task and a stream of the connection here, and a call in the shim.
const STANDS: Duration = Duration::from_secs(2);
/// The pause before containerd is asked about a process that is gone and for which no reply will come; doubles up to
/// [`MAX_RETRY`]. The event, which makes the question unnecessary, follows within milliseconds.
const UNTOLD: Duration = Duration::from_millis(5);

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, 128 + N for signal N; `None` if the process is gone and its code is lost.
    pub(crate) code: Option<u32>,
    /// Out-of-memory kills in the container's cgroup, read before the cgroup is removed, otherwise those that were seen
    /// before; `None` if nothing is known.
    pub(crate) oom: Option<OomCount>,
    /// When the process ended, by containerd's clock, or by this host's if containerd did not report the end.
    pub(crate) at: Option<SystemTime>,
}

/// A process to be watched, and what is read at its end.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) id: ContainerId,
    /// `None` if the pid is not known.
    pub(super) pid: Option<u32>,
    pub(super) paths: Option<Paths>,
    /// See [`super::run_parts::RunParts::above`].
    pub(super) above: Option<Above>,
    pub(super) oom: Arc<OomRecorder>,
    /// Whether no process of the container has run yet.
    pub(super) from_birth: bool,
    /// Set once the event of its start is recorded, if that of its end is to be recorded here; see
    /// [`super::run_parts::RunParts::tells_end`].
    pub(super) start_recorded: Option<watch::Receiver<bool>>,
}

/// Watches the process until it ends. The receiver holds `None` until then, and is closed without an exit only if `ctx`
/// ends. Until then, [`Alive`] shows whether the process runs.
pub(super) fn watch(
    deps: &Arc<Deps>,
    ctx: &Context,
    watched: Watched,
) -> (watch::Receiver<Option<Exit>>, Alive) {
    let Watched {
        id,
        pid,
        paths,
        above,
        oom,
        from_birth,
        start_recorded,
    } = watched;
    let (tx, rx) = watch::channel(None);
    let (deps, ctx) = (Arc::clone(deps), ctx.clone());
    let mut event = pid.map(|pid| deps.exits.of(&id, pid, &oom));
    // A pid of another pid namespace is that of another process here.
    let vanished = pid.filter(|_| deps.host.shares_pids).and_then(Pidfd::open);
    let alive = Alive::of(vanished.as_ref());
    let above = match (above, paths.as_ref()) {
        (Some(above), Some(paths)) if above.is_of(paths) => above,
        (_, paths) => paths
            .map(|paths| Above::note(paths, from_birth))
            .unwrap_or_default(),
    };
    let tracker = deps.background.tracker.clone();
    let work = async move {
        let learned = learn(&deps, &ctx, &id, pid, event.as_mut(), vanished);
        if let Ok((code, at)) = ctx.run(learned).await {
            let verdict = oom.verdict(&ctx, &id, paths.as_ref(), &above, code);
            let oom = Box::pin(verdict).await;
            let exit = Exit { code, oom, at };
            if from_birth {
                deps.metrics().end(outcome_label(&exit));
            }
            let mut start_recorded = start_recorded;
            let is_recorded = start_recorded.as_ref().map(|recorded| *recorded.borrow());
            if is_recorded == Some(true) {
                deps.tell_end(&id, &exit);
            }
            tx.send_replace(Some(exit.clone()));
            // The reply to the start may still be on its way. For a process that was never started, no event is
            // recorded.
            if let Some(recorded) = start_recorded.as_mut().filter(|_| is_recorded == Some(false)) {
                let recorded = tokio::time::timeout(STANDS, recorded.wait_for(|recorded| *recorded));
                if let Ok(Ok(Ok(_))) = ctx.run(recorded).await {
                    deps.tell_end(&id, &exit);
                }
            }
        }
    };
    tracker.spawn(work.in_current_span());
    (rx, alive)
}

/// How a process has ended, as a label of metrics.
fn outcome_label(exit: &Exit) -> &'static str {
    const KILLED: u32 = 137;
    match exit.code {
        _ if exit.oom.as_ref().is_some_and(|oom| oom.kills > 0) => "out_of_memory",
        Some(0) => "succeeded",
        Some(KILLED) => "killed",
        Some(_) => "failed",
        None => "lost",
    }
}

/// The watch of a process that has ended already.
pub(super) fn known(
    id: &ContainerId,
    (code, at): Ended,
    paths: Option<&Paths>,
) -> watch::Receiver<Option<Exit>> {
    let above = paths.map(|paths| Above::note(paths, false)).unwrap_or_default();
    let oom = oom::record(id, paths, &above);
    watch::channel(Some(Exit { code, oom, at })).1
}

/// The exit code, if it is known, and the time.
pub(super) type Ended = (Option<u32>, Option<SystemTime>);

/// The end, by the first of the three ways that detects it.
async fn learn(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
    pid: Option<u32>,
    event: Option<&mut Watching>,
    vanished: Option<Arc<Pidfd>>,
) -> Ended {
    let began = Instant::now();
    let taken_back = vanished.is_some();
    let replied = async {
        // Boxed, so that its memory is freed when the wait is taken back.
        let reply = Box::pin(by_reply(deps, ctx, id));
        if !taken_back {
            return reply.await;
        }
        match tokio::time::timeout_at(began + STANDS, reply).await {
            Ok((Some(code), at)) => (Some(code), at),
            // It lasts, or containerd has lost a task whose process the pidfd shows.
            Ok((None, _)) | Err(_) => std::future::pending().await,
        }
    };
    let by_event = async {
        let recorded = match event {
            Some(event) => event.exit().await,
            None => None,
        };
        match recorded {
            Some(exit) => (Some(exit.code), exit.at),
            // There is no pid, or the engine ends.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        recorded = replied => recorded,
        recorded = by_event => recorded,
        recorded = by_absence(deps, ctx, id, pid, vanished, began) => recorded,
    }
}

/// Calls Tasks/Wait, again and again while containerd cannot be reached.
async fn by_reply(deps: &Deps, ctx: &Context, id: &ContainerId) -> Ended {
    let mut pauses = Pauses::new(RETRY, MAX_RETRY);
    loop {
        match deps.session.tasks().wait(ctx, id).await {
            Ok(exit) => return (Some(exit.code), exit.at),
            // Another process deleted the task: it has ended, and its exit code is lost.
            Err(error) if error.is_not_found() => return (None, None),
            Err(error) => {
                tracing::debug!(%id, %error, "the wait for the container's exit was interrupted; asking again")
            }
        }
        pauses.wait().await;
        deps.metrics().retry(RetryReason::ExitWait);
    }
}

/// Waits until the process is gone, then asks containerd for the exit code until containerd returns it or has no such
/// task, or the kernel knows the code of a process that containerd cannot be asked about.
async fn by_absence(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
    pid: Option<u32>,
    process: Option<Arc<Pidfd>>,
    began: Instant,
) -> Ended {
    let Some(process) = process else {
        return std::future::pending().await;
    };
    if !process.ended().await {
        return std::future::pending().await;
    }
    let at = clock::now();
    // If containerd works, the reply or the event follows within microseconds, and asking is unnecessary.
    let first = if began.elapsed() < STANDS { RETRY } else { UNTOLD };
    let mut pauses = Pauses::new(first, MAX_RETRY);
    loop {
        pauses.wait().await;
        match Box::pin(deps.session.tasks().get(ctx, id)).await {
            // The task is that of a later container of the same name.
            Ok(task) if task.pid != 0 && Some(task.pid) != pid => break,
            Ok(task) if task.status == TaskStatus::Stopped => return (Some(task.exit.code), task.exit.at),
            Err(error) if error.is_not_found() => break,
            // containerd has not noticed the end yet.
            Ok(_) => {}
            // It does not answer.
            Err(_) => {
                if let Some(code) = process.exit_code() {
                    return (Some(code), Some(at));
                }
            }
        }
    }
    // Its new parent may not have reaped it yet.
    if let Some(code) = process.exit_code_within(REAPED).await {
        return (Some(code), Some(at));
    }
    tracing::warn!(%id, "the container's process is gone, and neither containerd nor the kernel has its exit code");
    (None, None)
}

/// Waits until the watch holds an exit; `None` if the watch ends without one.
pub(super) async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Option<Exit> {
    match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone(),
        // The watch ended with the engine, without an exit.
        Err(_) => None,
    }
}
