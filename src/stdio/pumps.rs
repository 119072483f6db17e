//! The running copies of one container's streams: their progress, the tasks that wait for them, and how they are
//! stopped.
//!
//! The exit of a process is not reported through this module. So a slow writer delays the function and the end of
//! [`Pumps::finished`], but not the notice of the exit.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::copy::{self, InputEnd, OutputEnd};
use super::fifo::{Fifos, Output};
use super::{Stream, StreamError};
use crate::Context;

/// The running copies. Several tasks may wait on one value; dropping it aborts the copies that still run.
#[derive(Debug)]
pub(crate) struct Pumps {
    progress: Arc<watch::Sender<Progress>>,
    all: Context,
    stdin: Context,
}

/// How many bytes of each stream were carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Delivered {
    /// Bytes of input that the runtime took. The function need not have read all of them.
    pub(crate) stdin: u64,
    /// Bytes of standard output that the writer took.
    pub(crate) stdout: u64,
    /// Bytes of standard error that the writer took.
    pub(crate) stderr: u64,
}

/// The state that the waiters observe.
#[derive(Debug, Clone)]
struct Progress {
    stdin: Phase,
    stdout: Phase,
    stderr: Phase,
    delivered: Delivered,
    first_error: Option<StreamError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Copying,
    /// The input has ended and the fifo is closed. Only stdin reaches this phase.
    InputEnded,
    /// Nothing is left to do. A null stream starts in this phase.
    Over,
    /// The copy's task was dropped before its stream ended.
    Abandoned,
}

impl Progress {
    fn over(&self) -> bool {
        ![self.stdin, self.stdout, self.stderr].contains(&Phase::Copying)
    }

    fn phase(&mut self, stream: Stream) -> &mut Phase {
        match stream {
            Stream::Stdin => &mut self.stdin,
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn outcome(self) -> Result<Delivered, StreamError> {
        if let Some(error) = self.first_error {
            return Err(error);
        }
        if [self.stdout, self.stderr].contains(&Phase::Abandoned) {
            return Err(StreamError::Abandoned);
        }
        Ok(self.delivered)
    }
}

impl Pumps {
    /// The pumps of a container whose streams are null or belong to another process.
    pub(crate) fn none() -> Self {
        Self::start(
            Fifos {
                stdin: None,
                stdout: None,
                stderr: None,
                hold: None,
            },
            &TaskTracker::new(),
            &Context::new(),
        )
    }

    pub(super) fn start(fifos: Fifos, tracker: &TaskTracker, life: &Context) -> Self {
        let begin = |attached: bool| if attached { Phase::Copying } else { Phase::Over };
        let is_carried = |output: &Option<Output>| output.as_ref().is_some_and(|output| output.to.is_some());
        let all = life.child();
        let pumps = Self {
            progress: Arc::new(watch::Sender::new(Progress {
                stdin: begin(fifos.stdin.is_some()),
                stdout: begin(is_carried(&fifos.stdout)),
                stderr: begin(is_carried(&fifos.stderr)),
                delivered: Delivered::default(),
                first_error: None,
            })),
            stdin: all.child(),
            all,
        };
        let hold = fifos.hold;
        if let Some(input) = fifos.stdin {
            let (report, stop) = (pumps.report(Stream::Stdin), pumps.stdin.clone());
            let hold = hold.clone();
            let pump = async move {
                let _hold = hold;
                if let Ok(end) = stop.run(copy::feed(&input.path, input.from)).await {
                    report.input(end);
                }
            };
            tracker.spawn(pump.in_current_span());
        }
        for (stream, output) in [(Stream::Stdout, fifos.stdout), (Stream::Stderr, fifos.stderr)] {
            let Some(Output {
                pipe, to: Some(to), ..
            }) = output
            else {
                continue;
            };
            let (report, stop) = (pumps.report(stream), pumps.all.clone());
            let hold = hold.clone();
            let pump = async move {
                let _hold = hold;
                if let Ok(end) = stop.run(copy::deliver(stream, pipe, to)).await {
                    report.output(end);
                }
            };
            tracker.spawn(pump.in_current_span());
        }
        pumps
    }

    /// Waits until the input has ended and its fifo is closed on this side. `true` means that the runtime must now
    /// close the write end that it holds itself; otherwise the function never sees the end of file. `false` means that
    /// there is nothing to close, because the stream is null, the function no longer reads it, or the pumps were
    /// stopped.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stdin_done(&self) -> bool {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| now.stdin != Phase::Copying).await;
        reached.is_ok_and(|now| now.stdin == Phase::InputEnded)
    }

    /// Waits until all output has been written and flushed. Call this once the process has exited: it stops the copy of
    /// stdin, which has no reader any more. If no process ever opened the fifos, this waits until `ctx` ends;
    /// [`Pumps::abort`] ends the wait earlier.
    ///
    /// # Errors
    /// The first error of any stream. After [`StreamError::Interrupted`] the copies still run, and the caller may wait
    /// again.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn finished(&self, ctx: &Context) -> Result<Delivered, StreamError> {
        self.stdin.cancel();
        let mut progress = self.progress.subscribe();
        let over = async {
            match progress.wait_for(Progress::over).await {
                Ok(now) => now.clone().outcome(),
                Err(_) => Err(StreamError::Abandoned),
            }
        };
        ctx.run(over)
            .await
            .unwrap_or_else(|why| Err(StreamError::Interrupted(why)))
    }

    /// Ends with the copies, when they are aborted or their owner ends.
    pub(crate) fn life(&self) -> &Context {
        &self.all
    }

    /// Ends all copies now, however far they are, and closes the fifos. Does nothing to streams that have ended.
    pub(crate) fn abort(&self) {
        self.all.cancel();
    }

    fn report(&self, stream: Stream) -> Report {
        Report {
            stream,
            progress: Arc::clone(&self.progress),
        }
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Reports to the waiters how a copy ended. If a copy ends without a report (abort, panic), `Drop` reports that.
struct Report {
    stream: Stream,
    progress: Arc<watch::Sender<Progress>>,
}

impl Report {
    fn input(self, end: InputEnd) {
        let phase = if end.close { Phase::InputEnded } else { Phase::Over };
        self.end(phase, end.delivered, end.error);
    }

    fn output(self, end: OutputEnd) {
        self.end(Phase::Over, end.delivered, end.error);
    }

    fn end(&self, phase: Phase, delivered: u64, error: Option<StreamError>) {
        self.progress.send_modify(|now| {
            *now.phase(self.stream) = phase;
            match self.stream {
                Stream::Stdin => now.delivered.stdin = delivered,
                Stream::Stdout => now.delivered.stdout = delivered,
                Stream::Stderr => now.delivered.stderr = delivered,
            }
            if now.first_error.is_none() {
                now.first_error = error;
            }
        });
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.progress.send_if_modified(|now| {
            let phase = now.phase(self.stream);
            let abandoned = *phase == Phase::Copying;
            if abandoned {
                *phase = Phase::Abandoned;
            }
            abandoned
        });
    }
}
