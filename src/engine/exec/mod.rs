//! Execs: additional processes in a container that runs, each with an id, streams and an exit code of its own.
//!
//! An exec lives in the container's run: it ends with it at the latest. Nothing of it is on the record, so a later process
//! does not know it; its directory of fifos goes with the container's.

mod plan;
mod user_files;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::Instrument as _;

use super::Deps;
use super::attach::SharedStreams;
use super::container::Container;
use super::error::{Error, ErrorContext as _, Judged as _, Kind, Result, Step};
use super::task::SIGKILL;
use super::{input, label};
use crate::containerd::{self, NewExec, ProcessId};
use crate::events::{Action, Event, Kind as EventKind};
use crate::pauses::Pauses;
use crate::stdio::{Fifos, Pumps};
use crate::{ContainerId, Context};

pub(crate) use self::plan::ExecPlan;

/// How long the rest of the output may take after the end of the process: a process that it has left behind may keep the
/// streams open. Docker's limit.
const REST: Duration = Duration::from_secs(2);
/// The pause before containerd is asked again; doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// An exec whose process was started. Clones refer to the same exec; dropping it leaves the process as it is.
#[derive(Debug, Clone)]
pub(crate) struct Exec {
    begun: Arc<Begun>,
    pid: u32,
    end: watch::Receiver<Option<ExecEnd>>,
}

/// How an exec has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExecEnd {
    /// Its exit code, 128 + N if signal N ended it; `None` if containerd has lost it.
    pub(crate) code: Option<u32>,
}

impl Exec {
    /// The pid of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    pub(crate) fn end_now(&self) -> Option<ExecEnd> {
        *self.end.borrow()
    }

    /// Changes the height and width of its terminal. Without a terminal, nothing happens.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it has ended.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task.
    pub(crate) async fn resize(&self, ctx: &Context, size: (u16, u16)) -> Result<()> {
        let begun = Arc::clone(&self.begun);
        let resize = move |ctx: Context| async move {
            let tasks = begun.deps.session.tasks();
            let resized = tasks.resize(&ctx, begun.of(), size).await;
            resized.at(Step::Resize, &begun.container)
        };
        self.begun.deps.tracked(ctx, resize).await
    }

    /// Kills its process. A failure is logged: it has ended, or the end of its container ends it.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task.
    pub(crate) async fn kill(&self) {
        let begun = Arc::clone(&self.begun);
        let kill = async move {
            let ctx = Context::timeout(begun.deps.config.close_grace);
            let killed = begun.deps.session.tasks().kill(&ctx, begun.of(), SIGKILL).await;
            killed.at(Step::Exec, &begun.container)
        };
        if let Err(error) = self.begun.deps.finished(kill).await {
            tracing::debug!(error = %crate::chain(&error), "an exec is not killed");
        }
    }

    /// Waits until it has ended, and its output was delivered.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn ended(&self) -> ExecEnd {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        // The engine has ended.
        ended.ok().and_then(|end| *end).unwrap_or(ExecEnd { code: None })
    }
}

impl Container {
    /// Starts an exec under an id that no other exec of the container has. Without `streams`, its output is discarded.
    /// If the start fails, nothing is left, and those who have attached get the end of the output.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] if the container does not run, or is frozen; otherwise the runtime's words.
    ///
    /// # Cancellation
    /// Safe to drop: the exec is undone on its own task, as it is when `ctx` is interrupted.
    pub(crate) async fn exec(
        &self,
        ctx: &Context,
        id: &str,
        plan: ExecPlan,
        streams: Option<SharedStreams>,
    ) -> Result<Exec> {
        let (this, id) = (self.clone(), id.to_owned());
        let exec = move |ctx: Context| async move {
            let executed = this.exec_here(&ctx, id, plan, streams);
            this.deps().phase("exec", this.id(), executed).await
        };
        self.deps().tracked(ctx, exec).await
    }

    /// Records that an exec was planned.
    pub(crate) fn tell_exec_created(&self, id: &str, plan: &ExecPlan) {
        self.deps().record(self.exec_event(Action::ExecCreate, id, plan));
    }

    fn exec_event(&self, action: Action, id: &str, plan: &ExecPlan) -> Event {
        let event = Event::new(EventKind::Container, action, self.id().as_str());
        event.with("execID", id).with(label::COMMAND, plan.command())
    }

    async fn exec_here(
        &self,
        ctx: &Context,
        id: String,
        plan: ExecPlan,
        streams: Option<SharedStreams>,
    ) -> Result<Exec> {
        self.run_for_exec()?;
        let started = self.exec_event(Action::ExecStart, &id, &plan);
        let exec = Begun {
            deps: Arc::clone(self.deps()),
            container: self.id().clone(),
            dir: self.deps().fifo_dir(self.id()).join(format!("exec-{id}")),
            id,
            streams,
        };
        match exec.start(ctx, plan).await {
            Ok((pid, pumps)) => {
                self.deps().record(started);
                Ok(exec.watched(pid, pumps))
            }
            Err(error) => {
                exec.discard().await;
                if let Some(streams) = &exec.streams {
                    streams.end();
                }
                Err(error)
            }
        }
    }
}

/// An exec of which a part is made.
#[derive(Debug)]
struct Begun {
    deps: Arc<Deps>,
    container: ContainerId,
    id: String,
    /// Where its fifos are.
    dir: PathBuf,
    streams: Option<SharedStreams>,
}

impl Begun {
    fn of(&self) -> ProcessId<'_> {
        ProcessId {
            container: &self.container,
            exec: Some(&self.id),
        }
    }

    async fn start(&self, ctx: &Context, plan: ExecPlan) -> Result<(u32, Arc<Pumps>)> {
        let (deps, tasks) = (&self.deps, self.deps.session.tasks());
        let (process, terminal) = (serde_json::to_vec(&plan.0), plan.has_terminal());
        let process =
            process.map_err(|error| Error::new(Step::Exec, &self.container, Kind::Internal, error))?;
        let streams = self.streams.as_ref().map(|streams| streams.streams(terminal));
        let streams = streams.unwrap_or_default();
        let fifos = Fifos::create(&self.dir, streams)
            .map_err(|error| Error::new(Step::Stdio, &self.container, Kind::Internal, error))?;
        let paths = fifos.paths();
        let new = NewExec {
            process,
            stdin: paths.stdin,
            stdout: paths.stdout,
            stderr: paths.stderr,
            terminal,
        };
        ctx.check().at(Step::Exec, &self.container)?;
        let created = tasks.create_exec(ctx, self.of(), new).await;
        created.at(Step::Exec, &self.container)?;
        // The end of a terminal's input would hang it up.
        let has_end = fifos.has_input() && !terminal;
        let pumps = Arc::new(fifos.start(&deps.background.tracker, &deps.background.life));
        let started = tasks.start(ctx, self.of()).await;
        let pid = started.map_err(|error| {
            pumps.abort();
            Error::new(Step::Exec, &self.container, kind_of(&error), error)
        })?;
        // A caller that has gone away meanwhile needs none of it.
        ctx.check()
            .inspect_err(|_| pumps.abort())
            .at(Step::Exec, &self.container)?;
        if has_end {
            input::end_at_its_end(deps, &self.container, Some(&self.id), &pumps);
        }
        Ok((pid, pumps))
    }

    /// Watches the process until its end.
    fn watched(self, pid: u32, pumps: Arc<Pumps>) -> Exec {
        let (ended, end) = watch::channel(None);
        let this = Arc::new(self);
        let begun = Arc::clone(&this);
        let watch = async move {
            let life = this.deps.background.life.child();
            let Some(code) = this.wait(&life).await else {
                return;
            };
            if let Some(streams) = &this.streams {
                streams.exited();
            }
            if pumps.finished(&life.with_timeout(REST)).await.is_err() {
                pumps.abort();
            }
            let event = Event::new(EventKind::Container, Action::ExecDie, this.container.as_str());
            let event = event.with("execID", &this.id);
            this.deps.record(match code {
                Some(code) => event.with("exitCode", code.to_string()),
                None => event,
            });
            // Before any reader sees the end of the connection that shows its output.
            ended.send_replace(Some(ExecEnd { code }));
            this.discard().await;
        };
        begun.deps.background.tracker.spawn(watch.in_current_span());
        Exec { begun, pid, end }
    }

    /// Waits for the end of the process, and returns its code if it is known. `None` if `life` ends before.
    async fn wait(&self, life: &Context) -> Option<Option<u32>> {
        let mut pauses = Pauses::new(RETRY, MAX_RETRY);
        loop {
            match self.deps.session.tasks().wait(life, self.of()).await {
                Ok(exit) => return Some(Some(exit.code)),
                // It has gone with its container.
                Err(error) if error.is_not_found() => return Some(None),
                Err(_) => {}
            }
            life.run(pauses.wait()).await.ok()?;
        }
    }

    /// Removes what is left of an exec, and ends its process if it has one.
    async fn discard(&self) {
        let ctx = Context::timeout(self.deps.config.close_grace);
        let tasks = self.deps.session.tasks();
        let discarded = async {
            match tasks.delete_exec(&ctx, self.of()).await {
                Err(error) if !error.is_not_found() => {}
                // If it was not found, it was never made, or has gone with its container.
                _ => return Ok(()),
            }
            match tasks.kill(&ctx, self.of(), SIGKILL).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
            drop(tasks.wait(&ctx, self.of()).await);
            tasks.delete_exec(&ctx, self.of()).await
        };
        match discarded.await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(id = %self.container, exec = self.id, %error, "an exec is left to its container's end");
            }
            _ => {}
        }
        remove(&self.dir, &self.container);
    }
}

/// The kind of a failed start, by the runtime's words.
fn kind_of(error: &containerd::Error) -> Kind {
    let says = |words: &[&str]| words.iter().any(|words| error.says(words));
    match error.kind() {
        _ if says(&["executable file not found", "no such file or directory"]) => Kind::CommandNotFound,
        _ if says(&["permission denied"]) => Kind::CommandNotExecutable,
        kind => kind,
    }
}

fn remove(dir: &Path, container: &ContainerId) {
    if let Err(error) = Fifos::remove(dir) {
        tracing::debug!(id = %container, error = %crate::chain(&error), "the fifos of an exec are left to its container's end");
    }
}
