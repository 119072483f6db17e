//! The process of a container: created behind its start gate, and discarded in whatever state it is.

use std::sync::Arc;
use std::time::Duration;

use super::Deps;
use super::bundle::Bundle;
use super::error::{Error, ErrorContext as _, Judged as _, Kind, Result, Step};
use super::remains::{self, Remains};
use super::runtime::RuntimeFailed;
use super::shim::Shim;
use crate::containerd::{self, Mount, NewTask, RuntimeOptions, Tasks};
use crate::metrics::RetryReason;
use crate::stdio;
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

/// SIGKILL, as containerd expects it.
pub(super) const SIGKILL: u32 = 9;

/// The undo step that ends the task.
pub(super) const STEP: &str = "task";

/// How long a shim without a task may exist before it counts as lost: containerd takes some hundred milliseconds to
/// clean up after a create that it gave up.
const SHIM_PATIENCE: Duration = Duration::from_secs(2);
/// How long containerd may take to clean up after a create whose caller was killed. It allows its own cleaning five
/// seconds (cleanupTimeout in its runtime/v2), and is slow on a busy machine.
const CLEANING: Duration = Duration::from_secs(10);
/// How often such a shim is looked for.
const SHIM_AGAIN: Duration = Duration::from_millis(20);

/// The standard streams of a process to be created.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) paths: stdio::Paths,
    /// Whether they are one terminal.
    pub(super) terminal: bool,
}

/// Creates the process; it waits for [`super::run::Run::start_here`]. Returns its pid. `options` and `remains` are those
/// of the container's record.
pub(super) async fn create(
    deps: &Arc<Deps>,
    ctx: &Context,
    rootfs: &[Mount],
    Stdio { paths, terminal }: Stdio,
    options: Option<RuntimeOptions>,
    remains: Remains,
    undo: &mut Teardown,
) -> Result<u32> {
    let id = &remains.id().clone();
    defer_discard(undo, deps, remains);
    let new = NewTask {
        id,
        rootfs,
        stdin: paths.stdin,
        stdout: paths.stdout,
        stderr: paths.stderr,
        terminal,
        options,
    };
    let patience = ctx.halved().with_timeout(CLEANING);
    let created = loop {
        let created = deps.session.tasks().create(ctx, &new).await;
        let Some(refusal) = created.as_ref().err().filter(|error| is_in_the_way(error)) else {
            break created;
        };
        if patience.run(tokio::time::sleep(SHIM_AGAIN)).await.is_err() {
            if deps.remove_bundle_named_by(refusal, id) {
                deps.metrics().retry(RetryReason::TaskCreate);
                break deps.session.tasks().create(ctx, &new).await;
            }
            break created;
        }
        // The record reserves the name: whatever exists under it was left by an attempt that was given up.
        discard(deps, ctx, id).await.at(Step::Task, id)?;
        deps.metrics().retry(RetryReason::TaskCreate);
    };
    created.map_err(|error| match RuntimeFailed::of(&deps.config.runtime, &error) {
        Some(failed) => {
            tracing::debug!(%id, %error, "the runtime failed");
            Error::new(Step::Task, id, Kind::Unsupported, failed)
        }
        None => Error::new(Step::Task, id, error.kind(), error),
    })
}

/// Whether a create fails because containerd has not cleaned up after an earlier one, whose caller was killed: there is
/// a task of that name, or the directory for its files, or containerd removes that directory while it makes it anew
/// (os.Mkdir and os.Symlink in its runtime/v2/bundle.go), or while a shim starts in it (os.Getwd, and readSpec in its
/// runtime/v2/runc/manager).
fn is_in_the_way(error: &containerd::Error) -> bool {
    error.is_already_exists()
        || (error.says("mkdir") && error.says("file exists"))
        || (["symlink", "getwd", "/config.json"]
            .iter()
            .any(|call| error.says(call))
            && error.says("no such file or directory"))
}

/// Puts the end of the task on the list, and after it the removal of what its runtime may leave.
pub(super) fn defer_discard(undo: &mut Teardown, deps: &Arc<Deps>, remains: Remains) {
    let id = remains.id().clone();
    remains::defer_removal(undo, deps, remains);
    let deps = Arc::clone(deps);
    undo.defer(STEP, move |ctx| {
        let (deps, id) = (Arc::clone(&deps), id.clone());
        async move {
            let discarded = discard(&deps, &ctx, &id).await;
            discarded.inspect(|()| deps.remove_dead_shim_socket(&id))
        }
    });
}

/// Ends the task, whatever state it is in, and its shim. Without a task there may still be a shim: containerd is just
/// making the task, or cleans it up, or has lost it.
async fn discard(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<(), containerd::Error> {
    let tasks = deps.session.tasks();
    let until = ctx.halved().with_timeout(SHIM_PATIENCE);
    let lost = loop {
        if delete(&tasks, ctx, id).await? == Deleted::Task {
            return Ok(());
        }
        let shims = deps.own_shims_of(id);
        if shims.is_empty() {
            deps.remove_mounted_bundles(id);
            return Ok(());
        }
        if until.run(tokio::time::sleep(SHIM_AGAIN)).await.is_err() {
            break shims;
        }
    };
    lost.iter().for_each(Shim::kill);
    // A containerd that still has the shim cleans up after it, by means of another shim.
    let until = ctx.halved().with_timeout(SHIM_PATIENCE);
    while until.run(tokio::time::sleep(SHIM_AGAIN)).await.is_ok() {
        if deps.own_shims_of(id).is_empty() {
            break;
        }
    }
    lost.iter()
        .filter_map(|shim| shim.bundle.as_ref())
        .for_each(Bundle::remove);
    delete(&tasks, ctx, id).await.map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deleted {
    Task,
    /// There was no task.
    Nothing,
}

/// Deletes the task. If it still runs, kills it first.
async fn delete(tasks: &Tasks, ctx: &Context, id: &ContainerId) -> Result<Deleted, containerd::Error> {
    match tasks.delete(ctx, id).await {
        Ok(_) => return Ok(Deleted::Task),
        Err(error) if error.is_not_found() => return Ok(Deleted::Nothing),
        // Only an interruption is final. Any other error is treated as "it still runs".
        Err(error) if error.interrupted().is_some() => return Err(error),
        Err(_) => {}
    }
    match tasks.kill_all(ctx, id, SIGKILL).await {
        // A process that ended meanwhile is not found here; the wait below shows it.
        Ok(()) => {}
        Err(error) if error.is_not_found() || error.is_failed_precondition() => {}
        Err(error) => return Err(error),
    }
    match tasks.wait(ctx, id).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => return Ok(Deleted::Nothing),
        Err(error) => return Err(error),
    }
    match tasks.delete(ctx, id).await {
        Err(error) if error.is_not_found() => Ok(Deleted::Nothing),
        other => other.map(|_| Deleted::Task),
    }
}
