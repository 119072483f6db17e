//! Attaches to the streams of a container, which this process holds, or another one, or none if their holder has ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::container::Container;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::input;
use super::log_plan::LogPlan;
use super::logs;
use super::run::Run;
use super::{find, kept};
use crate::Context;
use crate::stdio::{
    Chunk, Fifos, Hub, InputWriter, Listener, Over, Pumps, Remote, RemoteListener, SharedInput, Sink, Source,
    Stream, Streams, StreamsLock, Tee, Wants,
};

/// How many times an attach tries to reach streams that another process holds and does not share yet.
const TRIES: u32 = 20;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(25);

/// The streams of a container that others may attach to. Clones refer to the same streams.
#[derive(Debug, Clone)]
pub(crate) struct SharedStreams {
    hub: Hub,
    input: Option<SharedInput>,
}

/// Why nobody can attach to a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAttached {
    /// It does not run.
    #[error("it is not running")]
    NotRunning,
    /// It has null streams.
    #[error("it was started without streams, and its output is discarded")]
    NoStreams,
    /// The process that made it keeps them to itself, as a platform does.
    #[error("another process has its streams, and does not share them")]
    NotShared,
    /// The socket or the fifos fail.
    #[error("its streams cannot be reached")]
    Io(#[source] io::Error),
}

impl SharedStreams {
    /// Output for any number of readers, and no input.
    pub(crate) fn output() -> Self {
        Self {
            hub: Hub::default(),
            input: None,
        }
    }

    /// The same with an input. The attachments of this process can end it.
    pub(crate) fn with_input() -> Self {
        Self {
            hub: Hub::default(),
            input: Some(SharedInput::default()),
        }
    }

    /// A destination of standard output that writes to `first` and to these streams.
    pub(crate) fn stdout_beside<W>(&self, first: W) -> Tee<W> {
        Tee::new(first, self.hub.writer(Stream::Stdout))
    }

    /// A destination of standard error that writes to `first` and to these streams.
    pub(crate) fn stderr_beside<W>(&self, first: W) -> Tee<W> {
        Tee::new(first, self.hub.writer(Stream::Stderr))
    }

    /// The streams for a container that starts, whose output goes to `stdout` and `stderr` too.
    pub(crate) fn streams_beside(
        &self,
        stdout: impl AsyncWrite + Send + Unpin + 'static,
        stderr: impl AsyncWrite + Send + Unpin + 'static,
        terminal: bool,
    ) -> Streams {
        Streams {
            stdin: self.source(),
            stdout: Sink::Writer(Box::new(self.stdout_beside(stdout))),
            stderr: match terminal {
                true => Sink::Null,
                false => Sink::Writer(Box::new(self.stderr_beside(stderr))),
            },
        }
    }

    /// A writer of the input of the current run, or of the next one.
    pub(crate) fn writer(&self, ends: bool) -> Option<InputWriter> {
        self.input.as_ref().map(|input| input.writer(ends))
    }

    /// A reader of the output within this process, from now on, for which the container waits.
    pub(crate) fn listen_patiently(&self, wants: Wants) -> Listener {
        self.hub.listen_patiently(wants)
    }

    /// Ends the streams of those who wait for a run that will not come. During a run, it does nothing.
    pub(super) fn end(&self) {
        if self.hub.end()
            && let Some(input) = &self.input
        {
            input.discard();
        }
    }

    /// The process has ended: what is left of its output waits for no reader.
    pub(super) fn exited(&self) {
        self.hub.exited();
    }

    /// The streams for a run of the container. A terminal has one output: a second one would be given up at once, which
    /// readers take for the end of its holder.
    pub(super) fn streams(&self, terminal: bool) -> Streams {
        Streams {
            stdin: self.source(),
            stdout: self.hub.sink(Stream::Stdout),
            stderr: match terminal {
                true => Sink::Null,
                false => self.hub.sink(Stream::Stderr),
            },
        }
    }

    fn source(&self) -> Source {
        self.input.as_ref().map(SharedInput::source).unwrap_or_default()
    }

    /// The same output, without the input.
    pub(super) fn without_input(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            input: None,
        }
    }

    /// Attaches within this process. The reader receives the output from now on; the end of its input is that of the
    /// container's if it `ends`.
    pub(crate) fn attach(&self, wants: Wants, ends: bool) -> Attachment {
        Attachment {
            output: Output::Here(self.hub.listen(wants)),
            input: self.writer(ends).map(|input| Box::new(input) as _),
            held: None,
        }
    }
}

/// One attachment to the streams of a container. Dropping it leaves the container as it is, unless nothing else holds
/// the streams: then the container blocks as soon as its output fills the pipe.
pub(crate) struct Attachment {
    output: Output,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// The streams, if this attachment holds them because no process did.
    held: Option<HeldStreams>,
}

#[derive(Debug)]
enum Output {
    Here(Listener),
    There(RemoteListener),
}

impl Attachment {
    /// The next part of the output.
    ///
    /// # Errors
    /// [`Over`] is the reason why there is none.
    ///
    /// # Cancellation
    /// Not safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Chunk, Over> {
        match &mut self.output {
            Output::Here(listener) => listener.next().await,
            Output::There(listener) => listener.next().await,
        }
    }

    /// The writer of the container's input; `None` if it has no input, or the writer was taken before. If this process
    /// holds the streams, shutting the writer down ends the input.
    pub(crate) fn take_input(&mut self) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        self.input.take()
    }
}

impl Run {
    /// Lets other processes attach to the streams that this process holds, until the run is removed or left.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the socket cannot be made.
    pub(crate) fn share(&self, streams: &SharedStreams) -> Result<()> {
        let deps = self.deps();
        // Without streams there is nothing to share.
        let Some(hold) = self.hold() else { return Ok(()) };
        let (hub, input) = (streams.hub.clone(), streams.input.clone());
        let shared = hold.serve(hub, input, &deps.background.tracker, self.life());
        shared.map_err(|error| Error::new(Step::Attach, self.id(), Kind::Internal, NotAttached::Io(error)))
    }
}

impl Container {
    /// Attaches to the container's streams. If the process that held them has ended, this process holds them from now
    /// on, and shares them; what was written meanwhile comes first.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] if the container does not run, has no streams, or its streams are not shared.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn attach(&self, ctx: &Context, wants: Wants) -> Result<Attachment> {
        let refuse = |kind, why| Err(Error::new(Step::Attach, self.id(), kind, why));
        let Some(run) = self.run().filter(|run| run.exit_now().is_none()) else {
            return refuse(Kind::OutOfOrder, NotAttached::NotRunning);
        };
        let dir = self.deps().fifo_dir(self.id());
        // A holder may be about to share the streams, or to end.
        for _ in 0..TRIES {
            match ctx.run(Remote::connect(&dir, wants)).await {
                Ok(Ok(Some(remote))) => return Ok(of_remote(remote)),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return refuse(Kind::Unavailable, NotAttached::Io(error)),
                Err(why) => return Err(why).at(Step::Attach, self.id()),
            }
            if run.exit_now().is_some() {
                return refuse(Kind::OutOfOrder, NotAttached::NotRunning);
            }
            if !Fifos::are_in(&dir) {
                return refuse(Kind::OutOfOrder, NotAttached::NoStreams);
            }
            match StreamsLock::take(&dir) {
                Ok(Some(hold)) => {
                    let record = find::get(self.deps(), ctx, self.id()).await?;
                    let log = kept::plan_of(&record).ok().and_then(|plan| plan.log);
                    return self.hold(&run, &hold, log.as_ref(), wants);
                }
                Ok(None) => {}
                Err(error) => return refuse(Kind::Internal, NotAttached::Io(error)),
            }
            ctx.run(tokio::time::sleep(PAUSE))
                .await
                .at(Step::Attach, self.id())?;
        }
        refuse(Kind::OutOfOrder, NotAttached::NotShared)
    }

    /// Takes over streams that no process holds.
    fn hold(&self, run: &Run, hold: &StreamsLock, log: Option<&LogPlan>, wants: Wants) -> Result<Attachment> {
        let reopened = self.reopen_streams(run, hold, log, SharedStreams::with_input())?;
        // Before anything flows, so that nothing is missed.
        let mut attachment = reopened.held.attach(wants, !run.has_terminal());
        attachment.held = Some(reopened.start(self, run));
        Ok(attachment)
    }

    /// Takes over streams that no process holds. Nothing flows yet.
    pub(super) fn reopen_streams(
        &self,
        run: &Run,
        hold: &StreamsLock,
        log: Option<&LogPlan>,
        mut held: SharedStreams,
    ) -> Result<ReopenedStreams> {
        let (deps, id) = (self.deps(), self.id());
        let internal = |error| Error::new(Step::Attach, id, Kind::Internal, error);
        let streams = logs::attach(deps, log, held.streams(run.has_terminal()));
        let fifos = Fifos::reopen(&deps.fifo_dir(id), hold.clone(), streams).map_err(internal)?;
        if !fifos.has_input() {
            held.input = None;
        }
        let (tracker, life) = (&deps.background.tracker, run.life());
        if let Err(error) = hold.serve(held.hub.clone(), held.input.clone(), tracker, life) {
            tracing::warn!(%id, %error, "other processes cannot attach to the container");
        }
        Ok(ReopenedStreams { held, fifos })
    }
}

/// Streams of a container that this process takes over, before anything flows.
#[derive(Debug)]
pub(super) struct ReopenedStreams {
    held: SharedStreams,
    fifos: Fifos,
}

impl ReopenedStreams {
    /// Lets the streams flow, until the result is dropped or the run is removed or left.
    pub(super) fn start(self, container: &Container, run: &Run) -> HeldStreams {
        let deps = container.deps();
        let is_fed = self.fifos.has_input() && !run.has_terminal();
        let pumps = Arc::new(self.fifos.start(&deps.background.tracker, run.life()));
        if is_fed {
            input::end_at_its_end(deps, container.id(), None, &pumps);
        }
        HeldStreams(pumps)
    }
}

/// Streams of a container that flow through this process. Dropping it leaves them to another process.
#[derive(Debug, Clone)]
pub(super) struct HeldStreams(Arc<Pumps>);

impl HeldStreams {
    /// Waits until all output of a run that has ended is with those who are attached.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn delivered(&self, ctx: &Context) {
        // A reader that was cut off is no failure of the streams.
        drop(self.0.finished(ctx).await);
    }

    /// Whether this process still copies them.
    pub(super) fn are_carried(&self) -> bool {
        self.0.life().check().is_ok()
    }
}

fn of_remote(remote: Remote) -> Attachment {
    let has_input = remote.has_input();
    let (listener, writer) = remote.into_parts();
    Attachment {
        output: Output::There(listener),
        input: has_input.then(|| Box::new(writer) as _),
        held: None,
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
