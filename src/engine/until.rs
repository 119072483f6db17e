//! Waits for what will happen to a container: its next end, or its removal. Unlike the wait for the current run, this
//! survives the removal of the container.

use std::time::Duration;

use super::container::Container;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::kept::{self, LastRun};
use super::run::Run;
use super::{find, record};
use crate::containerd::Record;
use crate::events::{Action, Event, Follower, Kind as EventKind, Next};
use crate::{ContainerId, Context};

/// How often the record is looked at beside the events, which a full disk may swallow.
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
        let (over, mut code) = (self.current().over(), self.last_code());
        // The last run is over, and its end is not on the record yet: the event of that end may still come.
        let mut is_told = !matches!(self.current().last, Some(LastRun::Started { .. })) || over.is_none();
        // No event tells the end of a container that is not kept and whose owner was killed.
        let mut exited = std::pin::pin!(exit_of(self.run()));
        let mut has_exited = false;
        loop {
            let record = self.record(ctx).await?;
            // The event of an end may be missing, the record has it.
            if let (Until::NextExit, Some(LastRun::Ended(end))) =
                (until, record.as_ref().and_then(kept::last_run))
                && end.started_at != over
            {
                return Ok(end.code);
            }
            let happened = async {
                tokio::select! {
                    event = next_of(&mut events, self.id()) => event.map(Happened::Event),
                    code = &mut exited, if !has_exited => Ok(Happened::Exit(code)),
                    () = tokio::time::sleep(LOOK) => Ok(Happened::Nothing),
                }
            };
            let happened = ctx.run(happened).await.at(Step::Wait, self.id())?;
            match happened.map_err(unread)? {
                Happened::Event((Action::Die, _)) if !is_told => is_told = true,
                Happened::Event((Action::Die, ended)) if until == Until::NextExit => return Ok(ended),
                Happened::Event((Action::Die, ended)) => code = ended,
                Happened::Event((Action::Destroy, _)) if self.record(ctx).await?.is_none() => break,
                Happened::Exit(ended) if until == Until::NextExit && (ended.is_some() || !self.is_kept()) => {
                    return Ok(ended);
                }
                Happened::Exit(ended) => {
                    code = ended.or(code);
                    has_exited = true;
                }
                // The events of a removal follow it at once, or were swallowed.
                Happened::Nothing if record.is_none() => break,
                Happened::Event(_) | Happened::Nothing => {}
            }
        }
        Ok(code.filter(|_| until == Until::Removed))
    }

    /// The container's record, if it is there. Another container may have its name by now.
    async fn record(&self, ctx: &Context) -> Result<Option<Record>> {
        match find::get(self.deps(), ctx, self.id()).await {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            found => Ok(found
                .map(Some)?
                .filter(|found| record::attempt_of(found) == self.attempt())),
        }
    }

    /// The exit code of the last run, if it has ended.
    pub(super) fn last_code(&self) -> Option<u32> {
        let current = self.current();
        let of_run = current
            .run
            .and_then(|run| run.exit_now())
            .and_then(|exit| exit.code);
        of_run.or_else(|| current.last.and_then(|last| last.code()))
    }
}

/// What a wait has seen.
enum Happened {
    /// An event, with the exit code of an end.
    Event((Action, Option<u32>)),
    /// The end of the run that the container had at the beginning, with its exit code if it is known.
    Exit(Option<u32>),
    /// Nothing for a while.
    Nothing,
}

/// Waits for the end of a run; for ever if there is none, if it has ended before, or if the watch of it ends.
pub(super) async fn exit_of(run: Option<Run>) -> Option<u32> {
    let running = run.filter(|run| run.exit_now().is_none());
    let exit = match running {
        Some(run) => run.wait_exit().await,
        None => None,
    };
    match exit {
        Some(exit) => exit.code,
        None => std::future::pending().await,
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
