//! A running scripted program: its streams, whether it is frozen, and how it ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{MockAction, MockProgram, Name, World};
use crate::driver::{
    ContainerTask, ExitFacts, Input, OutOfMemory, Output, RunResult, StandardStream, StreamFailed,
    WaitResult, Whose, outcome,
};
use crate::{ByteSize, Context, Interrupted};

/// The parameters of a new process.
pub(super) struct Start {
    pub(super) name: Arc<Name>,
    pub(super) program: MockProgram,
    pub(super) env: BTreeMap<String, String>,
    pub(super) task: Arc<dyn ContainerTask>,
}

/// A handle to a process.
#[derive(Debug)]
pub(super) struct Process {
    killed: CancellationToken,
    frozen: watch::Sender<bool>,
    exit: watch::Receiver<Option<ExitFacts>>,
}

impl Process {
    /// Starts the process on the driver's tracker. Must be called within a tokio runtime.
    pub(super) fn spawn(world: &World, start: Start) -> Self {
        let killed = world.closing.child_token();
        let (frozen, standing) = watch::channel(false);
        let (ended, exit) = watch::channel(None);
        let (kill, closing) = (killed.clone(), world.closing.clone());
        world.processes.spawn(async move {
            let Start {
                name,
                program,
                env,
                task,
            } = start;
            let (stdout, stderr) = task.logger();
            let running = Running {
                frozen: standing,
                env,
                input: task.input(),
                stdout: Sink::new(stdout),
                stderr: Sink::new(stderr),
                input_error: None,
                task,
            };
            let facts = tokio::select! {
                biased;
                () = kill.cancelled() => match closing.is_cancelled() {
                    true => ExitFacts {
                        driver_closed: true,
                        ..ExitFacts::default()
                    },
                    false => ExitFacts::exited(137),
                },
                facts = running.run(program) => facts,
            };
            // The name is released before the end is reported to the waiters.
            drop(name);
            ended.send_replace(Some(facts));
        });
        Self { killed, frozen, exit }
    }

    pub(super) fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Kills the process, frozen or not. The returned future waits for the end of the process.
    pub(super) fn kill(&self) -> impl Future<Output = ()> + Send + use<> {
        self.killed.cancel();
        let mut exit = self.exit.clone();
        async move {
            // An error means that the process's task was dropped without a result, which is an end too.
            let _ended = exit.wait_for(Option::is_some).await.is_ok();
        }
    }
}

/// Waits for a process.
#[derive(Debug)]
pub(super) struct Waiter {
    exit: watch::Receiver<Option<ExitFacts>>,
    run: Context,
}

impl Waiter {
    /// `run` is the context with which the process was started; the waiter watches it too.
    pub(super) fn new(process: &Process, run: &Context) -> Self {
        Self {
            exit: process.exit.clone(),
            run: run.clone(),
        }
    }
}

#[async_trait]
impl WaitResult for Waiter {
    async fn wait(&self, ctx: &Context) -> RunResult {
        let mut exit = self.exit.clone();
        let ended = async {
            let facts = exit.wait_for(Option::is_some).await.ok()?;
            facts.clone()
        };
        match ctx.run(self.run.run(ended)).await {
            Ok(Ok(Some(facts))) => outcome(&facts, ctx.interrupted().or_else(|| self.run.interrupted())),
            // The tokio runtime that ran the process is shutting down.
            Ok(Ok(None)) => outcome(&ExitFacts::default(), Some(Interrupted::Cancelled)),
            Ok(Err(why)) | Err(why) => outcome(&ExitFacts::default(), Some(why)),
        }
    }
}

struct Running {
    frozen: watch::Receiver<bool>,
    env: BTreeMap<String, String>,
    input: Input,
    stdout: Sink,
    stderr: Sink,
    input_error: Option<io::Error>,
    task: Arc<dyn ContainerTask>,
}

impl Running {
    async fn run(mut self, program: MockProgram) -> ExitFacts {
        let mut facts = ExitFacts::exited(program.exit_code);
        for action in program.actions {
            self.stand_still().await;
            match action {
                MockAction::Sleep(time) => tokio::time::sleep(time).await,
                MockAction::Stdout(bytes) => self.stdout.write(&bytes).await,
                MockAction::Stderr(bytes) => self.stderr.write(&bytes).await,
                MockAction::Echo => self.echo().await,
                MockAction::PrintEnv(name) => {
                    let value = self.env.get(&name).map_or("", String::as_str);
                    self.stdout.write(format!("{value}\n").as_bytes()).await;
                }
                MockAction::Stat(stat) => self.task.write_stat(&Context::new(), stat).await,
                MockAction::OutOfMemory => {
                    let limit = Some(ByteSize(self.task.memory())).filter(|limit| limit.0 != 0);
                    facts = ExitFacts::exited(137);
                    let whose = limit.map_or(Whose::Machine, |_| Whose::Own);
                    facts.oom = Some(OutOfMemory { limit, whose });
                    break;
                }
            }
        }
        self.stand_still().await;
        let errors = [
            self.input_error,
            self.stdout.finish().await,
            self.stderr.finish().await,
        ];
        let streams = [
            StandardStream::Input,
            StandardStream::Output,
            StandardStream::Error,
        ];
        let failed = streams.into_iter().zip(errors).find_map(|(stream, error)| {
            let error = Arc::new(error?);
            Some(StreamFailed::new(Some(stream), error))
        });
        facts.stream_error = failed;
        facts
    }

    /// Returns once the process is not frozen.
    async fn stand_still(&mut self) {
        // An error means that the handle was dropped, so nothing can thaw the process; dropping the cookie kills it.
        let _thawed = self.frozen.wait_for(|frozen| !frozen).await.is_ok();
    }

    async fn echo(&mut self) {
        let mut reader: Box<dyn AsyncRead + Send + Unpin> = match std::mem::take(&mut self.input) {
            Input::Null => return,
            Input::Stream(reader) => reader,
        };
        let mut chunk = vec![0; 16 << 10];
        loop {
            let read = reader.read(&mut chunk).await;
            self.stand_still().await;
            match read {
                Ok(0) => return,
                Ok(n) => self.stdout.write(chunk.get(..n).unwrap_or_default()).await,
                Err(error) => {
                    self.input_error = Some(error);
                    return;
                }
            }
        }
    }
}

/// An output that continues after its writer failed, like a pipe whose reader discards the rest.
struct Sink {
    writer: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    error: Option<io::Error>,
}

impl Sink {
    fn new(output: Output) -> Self {
        let writer = match output {
            Output::Null => None,
            Output::Stream(writer) => Some(writer),
        };
        Self { writer, error: None }
    }

    async fn write(&mut self, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.write_all(bytes).await
        {
            self.error = Some(error);
            self.writer = None;
        }
    }

    async fn finish(mut self) -> Option<io::Error> {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.shutdown().await
        {
            self.error = Some(error);
        }
        self.error
    }
}
