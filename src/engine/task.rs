//! The process of a container: created behind its start gate, and discarded in whatever state it is.

use super::Deps;
use super::error::{At as _, Result, Step};
use crate::containerd::{self, Mount, NewTask, Session};
use crate::stdio;
use crate::teardown::Teardown;
use crate::{ContainerId, Context};

/// SIGKILL, as containerd wants it.
pub(super) const SIGKILL: u32 = 9;

/// Creates the process; it waits for [`super::container::Container::start`]. Returns its pid.
pub(super) async fn create(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
    rootfs: &[Mount],
    stdio::Paths {
        stdin,
        stdout,
        stderr,
    }: stdio::Paths,
    undo: &mut Teardown,
) -> Result<u32> {
    defer_discard(undo, &deps.session, id);
    let options = deps.config.runtime.options();
    let new = NewTask {
        id,
        rootfs,
        stdin,
        stdout,
        stderr,
        terminal: false,
        options,
    };
    deps.session.tasks().create(ctx, &new).await.at(Step::Task, id)
}

/// Puts the end of the task on the list.
pub(super) fn defer_discard(undo: &mut Teardown, session: &Session, id: &ContainerId) {
    let (session, id) = (session.clone(), id.clone());
    undo.defer("task", move |ctx| {
        let (session, id) = (session.clone(), id.clone());
        async move { discard(&session, &ctx, &id).await }
    });
}

/// Deletes the task; one that still runs is killed first, one that is gone already is success.
async fn discard(session: &Session, ctx: &Context, id: &ContainerId) -> Result<(), containerd::Error> {
    let tasks = session.tasks();
    match tasks.delete(ctx, id).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_not_found() => return Ok(()),
        // containerd's word for "it still runs"; anything else is tried as if it were that.
        Err(error) if error.interrupted().is_some() => return Err(error),
        Err(_) => {}
    }
    match tasks.kill(ctx, id, SIGKILL, true).await {
        // A process that ended meanwhile is not found here; the wait below tells.
        Ok(()) => {}
        Err(error) if error.is_not_found() || error.is_failed_precondition() => {}
        Err(error) => return Err(error),
    }
    match tasks.wait(ctx, id).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    }
    match tasks.delete(ctx, id).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
