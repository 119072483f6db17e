//! Waits until a container's process has really ended.
//!
//! The end is learned in three ways, whichever is first: the reply to Tasks/Wait, the exit event, and the process
//! itself being gone (a pidfd, see pidfd_open(2), becomes readable). The third knows no exit code, but it works while
//! containerd is down; the code is asked for afterwards. Never kills anything: see [`super::signal`].
//!
//! ```text
//! create ──► Tasks/Wait ──┬─ replies within 2 s ─────────────────────────────────────────────┐
//!                         └─ taken back: the container idles ──► event ──────────────────────┼──► the end
//!                                                           └──► process gone ──► Tasks/Get ─┘
//! ```
//!
//! So a container that idles costs one task and one descriptor here, and nothing in containerd or its shim. No way of
//! learning the end is lost: the process that is gone makes containerd be asked, and its reply tells. Without a pidfd the
//! wait stands until it is answered.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Deps;
use super::exits::Watching;
use super::oom::{self, Witness};
use super::pidfd::{Alive, Pidfd};
use crate::cgroup::{Above, OomCount, Paths};
use crate::containerd::TaskStatus;
use crate::{ContainerId, Context};

/// Before a containerd that does not answer is asked again; doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(1);
/// For how long the reply to Tasks/Wait is waited for where the process itself is watched too. Most functions have ended
/// by then. For one that has not, the call costs a task and a stream of the connection here, and a call in its shim.
const STANDS: Duration = Duration::from_secs(2);
/// Before containerd is asked about a process that is gone and of which no reply tells; doubles up to [`MAX_RETRY`]. The
/// event, which spares the question, follows within milliseconds.
const UNTOLD: Duration = Duration::from_millis(5);

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, 128 + N for signal N; `None` if the process vanished and nobody can tell.
    pub(crate) code: Option<u32>,
    /// Out-of-memory kills in the container's cgroup, read before the cgroup goes, else what was seen of them before;
    /// `None` if nothing is known.
    pub(crate) oom: Option<OomCount>,
    /// When, by containerd's clock.
    pub(crate) at: Option<SystemTime>,
}

/// What is watched: a process, and what will be asked about its end.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) id: ContainerId,
    /// `None` if it is not known.
    pub(super) pid: Option<u32>,
    pub(super) paths: Option<Paths>,
    pub(super) witness: Arc<Witness>,
    /// Nothing of the container has run yet.
    pub(super) from_birth: bool,
}

/// Follows the process until it ends. The receiver holds `None` until then, and is never closed before it holds an end
/// unless `ctx` ends. [`Alive`] tells of the process meanwhile.
pub(super) fn watch(
    deps: &Arc<Deps>,
    ctx: &Context,
    watched: Watched,
) -> (watch::Receiver<Option<Exit>>, Alive) {
    let Watched {
        id,
        pid,
        paths,
        witness,
        from_birth,
    } = watched;
    let (tx, rx) = watch::channel(None);
    let (deps, ctx) = (Arc::clone(deps), ctx.clone());
    let mut event = pid.map(|pid| deps.exits.of(&id, pid, &witness));
    let vanished = pid.and_then(Pidfd::open);
    let alive = Alive::of(vanished.as_ref());
    let above = paths
        .as_ref()
        .map(|paths| Above::note(paths, from_birth))
        .unwrap_or_default();
    let tracker = deps.background.tracker.clone();
    let work = async move {
        let learned = learn(&deps, &ctx, &id, pid, event.as_mut(), vanished);
        if let Ok((code, at)) = ctx.run(learned).await {
            let verdict = witness.verdict(&ctx, &id, paths.as_ref(), &above, code);
            let oom = Box::pin(verdict).await;
            tx.send_replace(Some(Exit { code, oom, at }));
        }
    };
    tracker.spawn(work.in_current_span());
    (rx, alive)
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

/// The exit code, if anybody can tell, and the time.
pub(super) type Ended = (Option<u32>, Option<SystemTime>);

/// The first of the three that knows.
async fn learn(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
    pid: Option<u32>,
    event: Option<&mut Watching>,
    vanished: Option<Arc<Pidfd>>,
) -> Ended {
    let began = Instant::now();
    // A pid of another pid namespace is a stranger's here, so its descriptor proves nothing.
    let taken_back = vanished.is_some() && deps.host.shares_pids;
    let replied = async {
        // In a box, so that what it took is given back with it.
        let reply = Box::pin(by_reply(deps, ctx, id));
        if !taken_back {
            return reply.await;
        }
        match tokio::time::timeout_at(began + STANDS, reply).await {
            Ok(told) => told,
            Err(_) => std::future::pending().await,
        }
    };
    let by_event = async {
        let told = match event {
            Some(event) => event.exit().await,
            None => None,
        };
        match told {
            Some(exit) => (Some(exit.code), exit.at),
            // Without a pid, or because the engine ends.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        told = replied => told,
        told = by_event => told,
        told = by_absence(deps, ctx, id, pid, vanished, began) => told,
    }
}

/// Tasks/Wait, asked again for as long as containerd cannot be reached.
async fn by_reply(deps: &Deps, ctx: &Context, id: &ContainerId) -> Ended {
    let mut pause = RETRY;
    loop {
        match deps.session.tasks().wait(ctx, id).await {
            Ok(exit) => return (Some(exit.code), exit.at),
            // The task was deleted by somebody else: it has ended, and nobody will ever know how.
            Err(error) if error.is_not_found() => return (None, None),
            Err(error) => {
                tracing::debug!(%id, %error, "the wait for the container's exit was interrupted; asking again")
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_RETRY);
    }
}

/// The process is gone; then containerd is asked for its code, until it tells or says that it does not know.
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
    drop(process);
    // The reply or the event follow within microseconds when containerd is well; only then is asking a detour.
    let mut pause = if began.elapsed() < STANDS { RETRY } else { UNTOLD };
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_RETRY);
        match Box::pin(deps.session.tasks().get(ctx, id)).await {
            // A later life of the same name knows nothing of this one.
            Ok(task) if task.pid != 0 && Some(task.pid) != pid => break,
            Ok(task) if task.status == TaskStatus::Stopped => return (Some(task.exit.code), task.exit.at),
            Err(error) if error.is_not_found() => break,
            // It has not noticed yet, or does not answer.
            Ok(_) | Err(_) => {}
        }
    }
    tracing::warn!(%id, "the container's process is gone and containerd cannot tell its exit code");
    (None, None)
}

/// Waits for the end that a watch will hold, or for the end of `ctx`.
pub(super) async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Option<Exit> {
    match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone(),
        // The watch ended with the engine, without an answer.
        Err(_) => None,
    }
}
