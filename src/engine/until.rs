//! Waits for what will happen to a container: its next end, or its removal. Unlike the wait for the current run, this
//! survives the removal of the container.

use std::time::Duration;

use super::container::Container;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::record::{self, Owner};
use crate::events::{Action, Event, Follower, Kind as EventKind, Next};
use crate::{ContainerId, Context};

/// How often the record is looked for beside the events, which a full disk may swallow.
const LOOK: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The container does not run. A kept one that has never run does not either.
    NotRunning,
    /// A run ends from now on: the current one, or the next one.
    NextExit,
    /// The container is removed.
    Removed,
}

impl Container {
    /// Waits; returns the exit code of the run that ended last. `None` if there was no run, its code is lost, or the
    /// container was removed before its next end.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the events cannot be read; those of a look at the record.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn wait_until(&self, ctx: &Context, until: Until) -> Result<Option<u32>> {
        if until == Until::NotRunning {
            return self.wait(ctx).await;
        }
        let unread = |error| Error::new(Step::Wait, self.id(), Kind::Internal, error);
        // Before the container is looked at, so that nothing is missed in between.
        let mut events = self.deps().events.follow(None).map_err(unread)?;
        let mut code = self.last_code();
        loop {
            let is_removed = self.is_removed(ctx).await?;
            let of_this = tokio::time::timeout(LOOK, next_of(&mut events, self.id()));
            match ctx.run(of_this).await.at(Step::Wait, self.id())? {
                Ok(event) => match event.map_err(unread)? {
                    (Action::Die, ended) if until == Until::NextExit => return Ok(ended),
                    (Action::Die, ended) => code = ended,
                    (Action::Destroy, _) if self.is_removed(ctx).await? => break,
                    _ => {}
                },
                // The events of a removal follow it at once, or were swallowed.
                Err(_) if is_removed => break,
                Err(_) => {}
            }
        }
        Ok(code.filter(|_| until == Until::Removed))
    }

    /// Whether the container's record is gone. Another container may have its name by now.
    async fn is_removed(&self, ctx: &Context) -> Result<bool> {
        let owner = record::owner(&self.deps().session, ctx, self.id(), self.attempt()).await;
        Ok(owner.at(Step::Find, self.id())? != Owner::This)
    }

    /// The exit code of the last run, if it has ended.
    fn last_code(&self) -> Option<u32> {
        let current = self.current();
        let of_run = current
            .run
            .and_then(|run| run.exit_now())
            .and_then(|exit| exit.code);
        of_run.or_else(|| current.last.and_then(|last| last.code()))
    }
}

/// The next event of a container, with the exit code of an end.
///
/// # Cancellation
/// Safe to drop.
async fn next_of(events: &mut Follower, id: &ContainerId) -> std::io::Result<(Action, Option<u32>)> {
    loop {
        let Next::Event(Event {
            kind: EventKind::Container,
            action,
            id: of,
            attributes,
            ..
        }) = events.next().await?
        else {
            continue;
        };
        if of == id.as_str() {
            let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            return Ok((action, code));
        }
    }
}
