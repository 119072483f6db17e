//! What a fake task does: a script that uses real fifos as a shim does, beside a real process that has the pid.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use containerd_client::events::TaskExit;
use containerd_client::types::v1::Status as Phase;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost_types::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::Fake;
use super::state::now;

/// One thing that a scripted process does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes to stdout.
    Out(Vec<u8>),
    /// Writes to stderr.
    Err(Vec<u8>),
    /// Waits.
    Sleep(Duration),
    /// Copies stdin to stdout until the end of file.
    Echo,
    /// Never ends, until it is killed.
    Forever,
}

/// What a scripted process does from start to exit.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// In this order.
    pub steps: Vec<Step>,
    /// How it exits when nobody kills it.
    pub exit_status: u32,
    /// SIGTERM does nothing.
    pub ignores_term: bool,
    /// `Tasks/Create` fails with this text, as when the runtime refuses the bundle.
    pub refused: Option<String>,
}

impl Script {
    /// A process that does this and exits with 0.
    pub fn steps(steps: impl Into<Vec<Step>>) -> Self {
        Self {
            steps: steps.into(),
            ..Self::default()
        }
    }
}

/// A task as the service knows it.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) phase: Phase,
    pub(super) paths: [String; 3],
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) signals: mpsc::UnboundedSender<u32>,
    pub(super) start: Option<oneshot::Sender<()>>,
    /// The write end of stdin that the shim holds until `Tasks/CloseIO`.
    pub(super) stdin: Option<pipe::Sender>,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub(super) struct Exit {
    pub(super) status: u32,
    pub(super) at: Option<Timestamp>,
}

/// The shim's ends of the fifos. A null stream is `None`.
struct Io {
    stdin: Option<pipe::Receiver>,
    stdout: Option<pipe::Sender>,
    stderr: Option<pipe::Sender>,
}

/// Opens the fifos and starts the process that has the pid. Its script waits for `start`.
pub(super) async fn create(
    fake: &Arc<Fake>,
    namespace: String,
    id: String,
    script: Script,
    paths: [String; 3],
) -> Result<Process, Status> {
    let [stdin, stdout, stderr] = &paths;
    let stdin = open_stdin(stdin)?;
    let (stdin, held) = stdin.map_or((None, None), |(read, write)| (Some(read), Some(write)));
    let io = Io {
        stdin,
        stdout: open_output(stdout).await?,
        stderr: open_output(stderr).await?,
    };
    // It ends with the code that it reads, so that whoever asks the kernel learns the same as from this server.
    let mut child = Command::new("sh")
        .args(["-c", "read code && exit $code"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("sh: {error}")))?;
    let pid = child.id().unwrap();
    // Taken: a wait for the child would close it.
    let orders = child.stdin.take();
    let (start, started) = oneshot::channel();
    let (signals, received) = mpsc::unbounded_channel();
    let (exited, exit) = watch::channel(None);
    let life = Life {
        fake: Arc::clone(fake),
        namespace,
        id,
        pid,
        script,
        child,
        orders,
    };
    fake.tracker.spawn(life.run(io, started, received, exited));
    Ok(Process {
        pid,
        phase: Phase::Created,
        paths,
        exit,
        signals,
        start: Some(start),
        stdin: held,
    })
}

/// What a failure of the shim looks like to a client.
pub(super) fn failed(text: impl std::fmt::Display) -> Status {
    Status::unknown(format!("failed to create shim task: {text}: unknown"))
}

fn open_stdin(path: &str) -> Result<Option<(pipe::Receiver, pipe::Sender)>, Status> {
    if path.is_empty() {
        return Ok(None);
    }
    let fifo = pipe::OpenOptions::new();
    let read = fifo
        .open_receiver(path)
        .map_err(|e| failed(format!("{path}: {e}")))?;
    let write = fifo
        .open_sender(path)
        .map_err(|e| failed(format!("{path}: {e}")))?;
    Ok(Some((read, write)))
}

/// A shim blocks here until the client has opened its read end; so does this, without a thread.
async fn open_output(path: &str) -> Result<Option<pipe::Sender>, Status> {
    if path.is_empty() || path == "/dev/null" {
        return Ok(None);
    }
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Ok(write) => return Ok(Some(write)),
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {}
            Err(error) => return Err(failed(format!("{path}: {error}"))),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Everything that the process is, on its own task.
struct Life {
    fake: Arc<Fake>,
    namespace: String,
    id: String,
    pid: u32,
    script: Script,
    child: Child,
    /// Where it reads the code to end with.
    orders: Option<ChildStdin>,
}

impl Life {
    async fn run(
        mut self,
        mut io: Io,
        started: oneshot::Receiver<()>,
        mut signals: mpsc::UnboundedReceiver<u32>,
        exited: watch::Sender<Option<Exit>>,
    ) {
        let (stop, script) = (self.fake.stop.clone(), self.script.clone());
        let played = async {
            if started.await.is_err() {
                std::future::pending::<()>().await;
            }
            io.play(&script.steps).await;
        };
        tokio::pin!(played);
        let status = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break 137,
                signal = signals.recv() => match signal {
                    // The task was deleted before it ran.
                    None => break 137,
                    Some(15) if script.ignores_term => {}
                    // As for a process of its own pid namespace: what it has no handler for, it ignores.
                    Some(signal @ (2 | 9 | 15)) => break 128 + signal,
                    Some(_) => {}
                },
                // Somebody killed the process itself, past this server.
                killed = self.child.wait() => {
                    let signal = killed.ok().and_then(|status| status.signal()).unwrap_or(9);
                    break 128 + signal.unsigned_abs();
                }
                () = &mut played => break script.exit_status,
            }
        };
        end(&mut self.child, self.orders.take(), status).await;
        let at = now();
        if let Some(namespace) = self.fake.state().namespaces.get_mut(&self.namespace)
            && let Some(task) = namespace.tasks.get_mut(&self.id)
            && task.pid == self.pid
        {
            task.phase = Phase::Stopped;
            task.stdin = None;
        }
        exited.send_replace(Some(Exit { status, at }));
        let event = TaskExit {
            container_id: self.id.clone(),
            id: self.id.clone(),
            pid: self.pid,
            exit_status: status,
            exited_at: at,
        };
        self.fake.publish(&self.namespace, "/tasks/exit", &event);
    }
}

/// Ends the process with this exit code, and reaps it.
async fn end(child: &mut Child, orders: Option<ChildStdin>, status: u32) {
    // An error means that it is gone already.
    match (orders, status) {
        (Some(mut stdin), ..=127) => drop(stdin.write_all(format!("{status}\n").as_bytes()).await),
        _ => {
            let signal = Signal::try_from(status.saturating_sub(128).cast_signed());
            let pid = child.id().map(|pid| Pid::from_raw(pid.cast_signed()));
            // It may be gone already.
            let _ = pid.map(|pid| kill(pid, signal.unwrap_or(Signal::SIGKILL)));
        }
    }
    drop(child.wait().await);
}

impl Io {
    /// A stream that nobody reads any more is no reason to stop: a real process may ignore it too.
    async fn play(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Out(bytes) => write(&mut self.stdout, bytes).await,
                Step::Err(bytes) => write(&mut self.stderr, bytes).await,
                Step::Sleep(time) => tokio::time::sleep(*time).await,
                Step::Forever => std::future::pending().await,
                Step::Echo => {
                    let mut buffer = vec![0; 64 << 10];
                    while let Some(stdin) = &mut self.stdin
                        && let Ok(n @ 1..) = stdin.read(&mut buffer).await
                    {
                        write(&mut self.stdout, &buffer[..n]).await;
                    }
                }
            }
        }
    }
}

async fn write(to: &mut Option<pipe::Sender>, bytes: &[u8]) {
    if let Some(pipe) = to
        && pipe.write_all(bytes).await.is_err()
    {
        *to = None;
    }
}
