//! Tasks: the running process of a container, behind its shim.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CloseIoRequest, CreateTaskRequest, DeleteTaskRequest, GetRequest, KillRequest, ListTasksRequest,
    PauseTaskRequest, ResumeTaskRequest, StartRequest, WaitRequest,
};
use containerd_client::types::v1::{Process, Status};
use prost_types::Timestamp;
use tonic::transport::Channel;

use super::any::{moment, pack_options};
use super::session::MAX_MESSAGE;
use super::snapshots::mounts_to_wire;
use super::{Error, Mount, RuntimeOptions, Session};
use crate::{ContainerId, Context};

/// What a task is created from.
#[derive(Debug, Clone)]
pub(crate) struct NewTask<'a> {
    /// The container whose record exists already.
    pub(crate) id: &'a ContainerId,
    /// The mounts that make up its root file system.
    pub(crate) rootfs: &'a [Mount],
    /// The fifo that becomes its stdin; `None` is /dev/null.
    pub(crate) stdin: Option<PathBuf>,
    /// The fifo that becomes its stdout; `None` is /dev/null.
    pub(crate) stdout: Option<PathBuf>,
    /// The fifo that becomes its stderr; `None` is /dev/null.
    pub(crate) stderr: Option<PathBuf>,
    /// Its standard streams are one terminal.
    pub(crate) terminal: bool,
    /// What the shim is told; `None` takes the record's options.
    pub(crate) options: Option<RuntimeOptions>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its exit code; 128 + N if signal N ended it.
    pub(crate) code: u32,
    /// When, if containerd knows.
    pub(crate) at: Option<SystemTime>,
}

/// What containerd thinks a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskStatus {
    /// Created, not started.
    Created,
    /// Running. A cgroup frozen behind containerd's back counts as running.
    Running,
    /// Ended, not deleted.
    Stopped,
    /// Paused through [`Tasks::pause`].
    Paused,
    /// Being paused.
    Pausing,
    /// The shim does not answer, or says something new.
    Unknown,
}

/// How long past its caller's deadline a create may take. Idle hosts take 50 ms, crowded ones a second.
const OVERTIME: Duration = Duration::from_secs(5);

/// Where an output goes that nobody wants.
const NULL: &str = "/dev/null";

/// A task as containerd sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskInfo {
    /// The process, as a pid of containerd's pid namespace; 0 once it is gone.
    pub(crate) pid: u32,
    /// What it is doing.
    pub(crate) status: TaskStatus,
    /// How it ended; means something only when it is stopped.
    pub(crate) exit: Exit,
}

/// The tasks service.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    session: Session,
}

impl Tasks {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Creates the container's process, stopped just before its own program. Returns its pid.
    ///
    /// A deadline that passes meanwhile is not containerd's: at its own it kills the runtime half-way, which leaves cgroups.
    /// The reply is awaited some seconds longer, and what was created is the caller's to undo.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the container has a task.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn create(&self, ctx: &Context, task: &NewTask<'_>) -> Result<u32, Error> {
        let mut client = self.client();
        let path = |path: &Option<PathBuf>| {
            path.as_deref()
                .map(Path::to_string_lossy)
                .unwrap_or_default()
                .into()
        };
        // With any stream attached, the shim of containerd 1.6 opens both outputs, whether they have a path or not.
        let attached = [&task.stdin, &task.stdout, &task.stderr]
            .into_iter()
            .any(Option::is_some);
        let output = |given: &Option<PathBuf>| match given {
            None if attached => NULL.to_owned(),
            given => path(given),
        };
        let message = CreateTaskRequest {
            container_id: task.id.to_string(),
            rootfs: mounts_to_wire(task.rootfs),
            stdin: path(&task.stdin),
            stdout: output(&task.stdout),
            stderr: output(&task.stderr),
            terminal: task.terminal,
            options: task.options.as_ref().map(pack_options),
            ..CreateTaskRequest::default()
        };
        let reply = self
            .session
            .call(ctx, "Tasks/Create", task.id.as_str())
            .to_the_end(OVERTIME)
            .change(message, |r| async move { client.create(r).await })
            .await?;
        Ok(reply.pid)
    }

    /// Lets the created process run its program. Returns its pid.
    ///
    /// # Errors
    /// The runtime's own words if the program cannot be run.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn start(&self, ctx: &Context, id: &ContainerId) -> Result<u32, Error> {
        let mut client = self.client();
        let message = StartRequest {
            container_id: id.to_string(),
            ..StartRequest::default()
        };
        let reply = self
            .session
            .call(ctx, "Tasks/Start", id.as_str())
            .change(message, |r| async move { client.start(r).await })
            .await?;
        Ok(reply.pid)
    }

    /// Waits until the process has ended, for as long as the context allows.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no task (any more).
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn wait(&self, ctx: &Context, id: &ContainerId) -> Result<Exit, Error> {
        let mut client = self.client();
        let message = WaitRequest {
            container_id: id.to_string(),
            ..WaitRequest::default()
        };
        let reply = self
            .session
            .call(ctx, "Tasks/Wait", id.as_str())
            .ceiling(None)
            .read(message, |r| async move { client.wait(r).await })
            .await?;
        Ok(exit(reply.exit_status, reply.exited_at))
    }

    /// Sends a signal to the process, or to every process of the container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no task, or its process has ended.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn kill(
        &self,
        ctx: &Context,
        id: &ContainerId,
        signal: u32,
        all: bool,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let message = KillRequest {
            container_id: id.to_string(),
            signal,
            all,
            ..KillRequest::default()
        };
        self.session
            .call(ctx, "Tasks/Kill", id.as_str())
            .change(message, |r| async move { client.kill(r).await })
            .await?;
        Ok(())
    }

    /// Deletes a task that has ended, and its shim with it. Says how it ended.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none. While it runs, a refusal whose code differs between versions.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete(&self, ctx: &Context, id: &ContainerId) -> Result<Exit, Error> {
        let mut client = self.client();
        let message = DeleteTaskRequest {
            container_id: id.to_string(),
        };
        let reply = self
            .session
            .call(ctx, "Tasks/Delete", id.as_str())
            .change(message, |r| async move { client.delete(r).await })
            .await?;
        Ok(exit(reply.exit_status, reply.exited_at))
    }

    /// What the task is doing.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn get(&self, ctx: &Context, id: &ContainerId) -> Result<TaskInfo, Error> {
        let mut client = self.client();
        let message = GetRequest {
            container_id: id.to_string(),
            ..GetRequest::default()
        };
        let call = self.session.call(ctx, "Tasks/Get", id.as_str());
        let reply = call.read(message, |r| async move { client.get(r).await }).await?;
        let process = reply.process.ok_or_else(|| call.malformed("no process in it"))?;
        Ok(info(&process))
    }

    /// Every task of the containerd namespace, by the name of its container.
    ///
    /// # Errors
    /// As every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context) -> Result<Vec<(String, TaskInfo)>, Error> {
        let mut client = self.client();
        let reply = self
            .session
            .call(ctx, "Tasks/List", "")
            .read(
                ListTasksRequest::default(),
                |r| async move { client.list(r).await },
            )
            .await?;
        // The id of a listed process is its container's; container_id is empty there.
        let tasks = reply.tasks.into_iter().map(|process| {
            let info = info(&process);
            (process.id, info)
        });
        Ok(tasks.collect())
    }

    /// Closes the shim's end of stdin, so that the process reads its end.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no task.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn close_stdin(&self, ctx: &Context, id: &ContainerId) -> Result<(), Error> {
        let mut client = self.client();
        let message = CloseIoRequest {
            container_id: id.to_string(),
            stdin: true,
            ..CloseIoRequest::default()
        };
        self.session
            .call(ctx, "Tasks/CloseIO", id.as_str())
            .change(message, |r| async move { client.close_io(r).await })
            .await?;
        Ok(())
    }

    /// Has the runtime freeze the container: milliseconds, where the cgroup file takes microseconds.
    ///
    /// # Errors
    /// The runtime's own words.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn pause(&self, ctx: &Context, id: &ContainerId) -> Result<(), Error> {
        let mut client = self.client();
        let message = PauseTaskRequest {
            container_id: id.to_string(),
        };
        self.session
            .call(ctx, "Tasks/Pause", id.as_str())
            .change(message, |r| async move { client.pause(r).await })
            .await?;
        Ok(())
    }

    /// Has the runtime thaw what [`Tasks::pause`] froze.
    ///
    /// # Errors
    /// The runtime's own words.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn resume(&self, ctx: &Context, id: &ContainerId) -> Result<(), Error> {
        let mut client = self.client();
        let message = ResumeTaskRequest {
            container_id: id.to_string(),
        };
        self.session
            .call(ctx, "Tasks/Resume", id.as_str())
            .change(message, |r| async move { client.resume(r).await })
            .await?;
        Ok(())
    }

    fn client(&self) -> TasksClient<Channel> {
        TasksClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

fn exit(code: u32, at: Option<Timestamp>) -> Exit {
    Exit { code, at: moment(at) }
}

fn info(process: &Process) -> TaskInfo {
    TaskInfo {
        pid: process.pid,
        status: match process.status() {
            Status::Created => TaskStatus::Created,
            Status::Running => TaskStatus::Running,
            Status::Stopped => TaskStatus::Stopped,
            Status::Paused => TaskStatus::Paused,
            Status::Pausing => TaskStatus::Pausing,
            Status::Unknown => TaskStatus::Unknown,
        },
        exit: exit(process.exit_status, process.exited_at),
    }
}
