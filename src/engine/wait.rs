//! Waits until a container's process has really ended.
//!
//! The end is learned in three ways, whichever is first: the reply to Tasks/Wait, the exit event, and the process
//! itself being gone (a pidfd, see pidfd_open(2), becomes readable). The third knows no exit code, but it works while
//! containerd is down; the code is asked for afterwards. Never kills anything: see [`super::signal`].

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use super::Deps;
use crate::cgroup::{self, OomCount};
use crate::containerd::{TaskExit, TaskStatus};
use crate::{ContainerId, Context};

/// Before a containerd that does not answer is asked again; doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(1);

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, 128 + N for signal N; `None` if the process vanished and nobody can tell.
    pub(crate) code: Option<u32>,
    /// Out-of-memory kills in the container's cgroup, read before the cgroup goes; `None` if they cannot be read.
    pub(crate) oom: Option<OomCount>,
    /// When, by containerd's clock.
    pub(crate) at: Option<SystemTime>,
}

/// Follows the process until it ends. The receiver holds `None` until then, and is never closed before it holds an end
/// unless `ctx` ends.
pub(super) fn watch(
    deps: &Arc<Deps>,
    ctx: &Context,
    id: &ContainerId,
    pid: Option<u32>,
    paths: Option<cgroup::Paths>,
) -> watch::Receiver<Option<Exit>> {
    let (tx, rx) = watch::channel(None);
    let (deps, ctx, id) = (Arc::clone(deps), ctx.clone(), id.clone());
    let event = pid.map(|pid| deps.exits.of(&id, pid));
    let vanished = pid.and_then(pidfd);
    let tracker = deps.tracker.clone();
    let work = async move {
        let learned = ctx.run(learn(&deps, &ctx, &id, pid, event, vanished)).await;
        deps.exits.forget(&id);
        if let Ok(ended) = learned {
            tx.send_replace(Some(exit_of(&id, ended, paths.as_ref())));
        }
    };
    tracker.spawn(work.in_current_span());
    rx
}

/// The watch of a process that has ended already.
pub(super) fn known(
    id: &ContainerId,
    ended: Ended,
    paths: Option<&cgroup::Paths>,
) -> watch::Receiver<Option<Exit>> {
    watch::channel(Some(exit_of(id, ended, paths))).1
}

/// An end, with what its cgroup says before it goes.
fn exit_of(id: &ContainerId, (code, at): Ended, paths: Option<&cgroup::Paths>) -> Exit {
    let oom = paths.and_then(|paths| match cgroup::oom_kills(paths) {
        Ok(count) => count,
        Err(error) => {
            tracing::warn!(%id, error = %crate::chain(&error), "cannot tell whether memory ran out");
            None
        }
    });
    Exit { code, oom, at }
}

/// The exit code, if anybody can tell, and the time.
pub(super) type Ended = (Option<u32>, Option<SystemTime>);

/// The first of the three that knows.
async fn learn(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
    pid: Option<u32>,
    event: Option<oneshot::Receiver<TaskExit>>,
    vanished: Option<AsyncFd<OwnedFd>>,
) -> Ended {
    let by_event = async {
        match event {
            Some(event) => match event.await {
                Ok(exit) => (Some(exit.code), exit.at),
                // The engine ends.
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        told = by_reply(deps, ctx, id) => told,
        told = by_event => told,
        told = by_absence(deps, ctx, id, pid, vanished) => told,
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
            Err(error) => tracing::debug!(%id, %error, "the wait for the container broke; asking again"),
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
    pidfd: Option<AsyncFd<OwnedFd>>,
) -> Ended {
    let Some(pidfd) = pidfd else {
        return std::future::pending().await;
    };
    if pidfd.readable().await.is_err() {
        return std::future::pending().await;
    }
    drop(pidfd);
    // The reply or the event follow within microseconds when containerd is well; only then is asking a detour.
    let mut pause = RETRY;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_RETRY);
        match deps.session.tasks().get(ctx, id).await {
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

/// A file descriptor that becomes readable when the process ends; `None` if the process is gone already or the kernel
/// is older than 5.3, where the other two ways serve alone.
fn pidfd(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Deprecated for descriptors that something else may close; this one is owned.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, and the descriptor is owned, which is what that asks for"
    )]
    AsyncFd::with_interest(fd, Interest::READABLE).ok()
}

/// Waits for the end that a watch will hold, or for the end of `ctx`.
pub(super) async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Option<Exit> {
    match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone(),
        // The watch ended with the engine, without an answer.
        Err(_) => None,
    }
}
