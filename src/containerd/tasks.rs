//! Tasks: the running process of a container, behind its shim.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CreateTaskRequest, DeleteTaskRequest, GetRequest, ListTasksRequest, PauseTaskRequest, ResumeTaskRequest,
    UpdateTaskRequest,
};
use containerd_client::types::v1::{Process, Status};
use prost_types::{Any, Timestamp};
use tonic::transport::Channel;

use super::any::{moment, pack_options};
use super::session::MAX_MESSAGE;
use super::snapshots::mounts_to_wire;
use super::{Error, Mount, RuntimeOptions, Session};
use crate::{ContainerId, Context};

/// The parameters for the creation of a task.
#[derive(Debug, Clone)]
pub(crate) struct NewTask<'a> {
    /// The container, whose record exists already.
    pub(crate) id: &'a ContainerId,
    /// The mounts that make up its root file system.
    pub(crate) rootfs: &'a [Mount],
    /// The fifo that becomes its stdin; `None` is /dev/null.
    pub(crate) stdin: Option<PathBuf>,
    /// The fifo that becomes its stdout; `None` is /dev/null.
    pub(crate) stdout: Option<PathBuf>,
    /// The fifo that becomes its stderr; `None` is /dev/null.
    pub(crate) stderr: Option<PathBuf>,
    /// Whether the standard streams are one terminal.
    pub(crate) terminal: bool,
    /// The shim's options about the runtime; `None` takes those of the record.
    pub(crate) options: Option<RuntimeOptions>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its exit code; 128 + N if signal N ended it.
    pub(crate) code: u32,
    /// When the process ended, if containerd knows the time.
    pub(crate) at: Option<SystemTime>,
}

/// The state of a task, as containerd reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskStatus {
    /// Created, not started.
    Created,
    /// Running. Includes a task whose cgroup was frozen without containerd.
    Running,
    /// Ended, not deleted.
    Stopped,
    /// Paused through [`Tasks::pause`].
    Paused,
    /// Being paused.
    Pausing,
    /// The shim does not answer, or reports a state that this crate does not know.
    Unknown,
}

/// The limits of a cgroup (containerd's typeurl of the OCI type).
const RESOURCES_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// How long past the caller's deadline a create may take. It takes 50 ms on idle hosts and a second on crowded ones.
const OVERTIME: Duration = Duration::from_secs(5);

/// The destination of an output that is not attached.
const NULL: &str = "/dev/null";

/// A task, as containerd reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskInfo {
    /// The pid of the process in containerd's pid namespace; 0 after the process has ended.
    pub(crate) pid: u32,
    /// The state of the task.
    pub(crate) status: TaskStatus,
    /// Whether its standard streams are one terminal.
    pub(crate) terminal: bool,
    /// How the process ended; valid only for a stopped task.
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

    /// Creates the container's process, stopped just before its own program. Returns the process's pid.
    ///
    /// The deadline of the context is not sent to containerd: when its deadline passes, containerd kills the runtime
    /// half-way, which leaves cgroups behind. Instead the reply is awaited some seconds longer, and the caller must
    /// undo what was created.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the container has a task.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn create(&self, ctx: &Context, task: &NewTask<'_>) -> Result<u32, Error> {
        let mut client = self.client();
        let [stdin, stdout, stderr] = paths([&task.stdin, &task.stdout, &task.stderr], task.terminal);
        let message = CreateTaskRequest {
            container_id: task.id.to_string(),
            rootfs: mounts_to_wire(task.rootfs),
            stdin,
            stdout,
            stderr,
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

    /// Deletes a task that has ended, and its shim. Returns how the process ended.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none. While the task runs, a refusal whose code depends on containerd's
    /// version.
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

    /// Returns the state of the task.
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
        let process = reply.process.ok_or_else(|| call.malformed("it has no process"))?;
        Ok(info(&process))
    }

    /// Returns every task of the containerd namespace, with the name of its container.
    ///
    /// # Errors
    /// Those of every call.
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
        // The id of a listed process is the id of its container; container_id is empty there.
        let tasks = reply.tasks.into_iter().map(|process| {
            let info = info(&process);
            (process.id, info)
        });
        Ok(tasks.collect())
    }

    /// Freezes the container through the runtime. This takes milliseconds, whereas writing the cgroup file takes
    /// microseconds.
    ///
    /// # Errors
    /// The runtime's own message.
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

    /// Thaws, through the runtime, a container that [`Tasks::pause`] froze.
    ///
    /// # Errors
    /// The runtime's own message.
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

    /// Changes limits of the container's cgroup: `resources` are an OCI LinuxResources as JSON, with what changes alone.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no task; the runtime's own message.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn update(
        &self,
        ctx: &Context,
        id: &ContainerId,
        resources: Vec<u8>,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let message = UpdateTaskRequest {
            container_id: id.to_string(),
            resources: Some(Any {
                type_url: RESOURCES_URL.to_owned(),
                value: resources,
            }),
            ..UpdateTaskRequest::default()
        };
        self.session
            .call(ctx, "Tasks/Update", id.as_str())
            .change(message, |r| async move { client.update(r).await })
            .await?;
        Ok(())
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn client(&self) -> TasksClient<Channel> {
        TasksClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// The paths of the streams, as the shim expects them. A terminal has one output, which must not have a second path.
pub(super) fn paths(streams: [&Option<PathBuf>; 3], terminal: bool) -> [String; 3] {
    // If any stream is attached, the shim of containerd 1.6 opens both outputs, whether they have a path or not; with a
    // terminal, every shim opens the one output.
    let attached = terminal || streams.iter().any(|path| path.is_some());
    let path = |path: &Option<PathBuf>, otherwise: &str| match path {
        Some(path) => path.to_string_lossy().into_owned(),
        None => otherwise.to_owned(),
    };
    let null = if attached { NULL } else { "" };
    let [stdin, stdout, stderr] = streams;
    let stderr = match terminal {
        true => String::new(),
        false => path(stderr, null),
    };
    [path(stdin, ""), path(stdout, null), stderr]
}

pub(super) fn exit(code: u32, at: Option<Timestamp>) -> Exit {
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
        terminal: process.terminal,
        exit: exit(process.exit_status, process.exited_at),
    }
}
