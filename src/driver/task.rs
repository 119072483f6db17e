//! The description of a function to run: the trait that a driver calls, and a plain struct that implements it for most
//! hosts.
//!
//! Numbers keep the contract's meaning here (0 is unlimited). A driver reads the task once, when it creates a cookie,
//! and turns zeros into absence there. Only the entry of a driver uses the trait.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::hooks::{AfterCall, BeforeCall, Call, CallExtensions, Closer, Hooks};
use super::{Auther, Error, Input, Once, Output, Stat};
use crate::Context;

/// A name and a value that are added to each line of a function's log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoggerTag {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// The destination of a function's logs, in addition to its streams.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LoggerConfig {
    /// The syslog endpoint; empty keeps no logs.
    pub url: String,
    /// The tags of each line.
    pub tags: Vec<LoggerTag>,
}

/// Guides the life of a container. There is one method for each of the original contract.
///
/// Methods with a default body are safe to leave out. The limits and the streams have none, because a forgotten limit
/// would be no limit, and forgotten output would be lost. Most hosts fill in a [`Task`] instead.
///
/// A method that panics, blocks its thread or never ends fails only the step that has called it. The step returns an
/// error that names the method, at the latest when its context has ended, and its effects are undone. Only
/// [`write_stat`](Self::write_stat) and the streams must not block, because they are called too often for this
/// protection.
#[async_trait]
pub trait ContainerTask: fmt::Debug + Send + Sync {
    /// The name of the container, unique among existing containers.
    fn id(&self) -> &str;

    /// The image to run.
    fn image(&self) -> &str;

    /// The most memory the container may use, in bytes; 0 is unlimited.
    fn memory(&self) -> u64;

    /// CPUs in thousandths; 0 is unlimited.
    fn cpus(&self) -> u64;

    /// The most processes the container may have; 0 is unlimited.
    fn pids(&self) -> u64;

    /// Standard input. It is handed over: a second call returns [`Input::Null`].
    fn input(&self) -> Input;

    /// Standard output and standard error. They are handed over: a second call returns [`Output::Null`] twice.
    fn logger(&self) -> (Output, Output);

    /// The hooks that [`before_call`](Self::before_call), [`close`](Self::close) and the related methods run and wrap.
    fn hooks(&self) -> &Hooks;

    /// Receives a measurement. Calls do not overlap. The method runs on a thread of the executor, and the driver's
    /// close waits for it: it may await, and is dropped when the container ends, but it must not block.
    async fn write_stat(&self, _ctx: &Context, _stat: Stat) {}

    /// Whether the task receives measurements; read once, when the cookie is created. If not, the driver measures
    /// nothing. The original contract has no such method, so the default is `true`.
    fn takes_stats(&self) -> bool {
        true
    }

    /// The command, split on white space; empty leaves the image's own.
    fn command(&self) -> &str {
        ""
    }

    /// Environment variables, which override the image's.
    fn env_vars(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Directories or files of this machine to mount: the path on the machine, and the path in the container, which may
    /// end in `:ro` or `:rw`, the default. Read-only applies to the file system of the directory itself, not to file
    /// systems mounted below it.
    fn volumes(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }

    /// The most that the container may write into its root file system, in megabytes; 0 is unlimited. Requires a file
    /// system with project quotas below containerd; without one the task is refused.
    fn fs_size(&self) -> u64 {
        0
    }

    /// The size of the tmpfs at `/tmp`, in megabytes; with 0 there is none.
    fn tmpfs_size(&self) -> u64 {
        0
    }

    /// How many files a process may have open; `None` is the host's default.
    fn open_files(&self) -> Option<u64> {
        None
    }

    /// How many bytes of memory a process may lock; `None` is the host's default.
    fn locked_memory(&self) -> Option<u64> {
        None
    }

    /// How many signals may be queued; `None` is the host's default.
    fn pending_signals(&self) -> Option<u64> {
        None
    }

    /// How many bytes POSIX message queues may take; `None` is the host's default.
    fn message_queue(&self) -> Option<u64> {
        None
    }

    /// The working directory; `None` leaves the image's.
    fn work_dir(&self) -> Option<&str> {
        None
    }

    /// The destination of the logs, in addition to the streams.
    fn logger_config(&self) -> LoggerConfig {
        LoggerConfig::default()
    }

    /// Options that only some drivers support.
    fn extensions(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The directory of the function's Unix socket, as the host's agent sees it.
    fn uds_agent_path(&self) -> Option<PathBuf> {
        None
    }

    /// The path of the socket's directory as the engine sees it; with `None` no directory is mounted.
    fn uds_docker_path(&self) -> Option<PathBuf> {
        None
    }

    /// The path at which the socket's directory is mounted in the container.
    fn uds_docker_dest(&self) -> Option<String> {
        None
    }

    /// Whether the container has no network except its own loopback. False by default, as in the contract: the task
    /// then joins a network. If the configuration names none, that is the default network, which is created on this
    /// machine.
    fn disable_net(&self) -> bool {
        false
    }

    /// The provider of the credentials for this task's image; with `None` the driver uses its configuration.
    fn auther(&self) -> Option<Arc<dyn Auther>> {
        None
    }

    /// Runs just before a call that this task will serve.
    async fn before_call(
        &self,
        ctx: &Context,
        call: &Call,
        extensions: &CallExtensions,
    ) -> Result<(), Error> {
        self.hooks().before_call(ctx, call, extensions).await
    }

    /// Wraps the hook that runs before each later call of this task. Each wrapper should be added once per task.
    fn wrap_before_call(&self, wrap: Box<dyn FnOnce(BeforeCall) -> BeforeCall + '_>) {
        self.hooks().wrap_before_call(wrap);
    }

    /// Runs just after a call, if [`before_call`](Self::before_call) succeeded.
    async fn after_call(&self, ctx: &Context, call: &Call, extensions: &CallExtensions) -> Result<(), Error> {
        self.hooks().after_call(ctx, call, extensions).await
    }

    /// Wraps the hook that runs after each later call of this task. Each wrapper should be added once per task.
    fn wrap_after_call(&self, wrap: Box<dyn FnOnce(AfterCall) -> AfterCall + '_>) {
        self.hooks().wrap_after_call(wrap);
    }

    /// Cleans up after the task. Each close of its cookie calls this once the container is removed. Safe to call more
    /// than once.
    fn close(&self) {
        self.hooks().close();
    }

    /// Wraps the hook that cleans up.
    fn wrap_close(&self, wrap: Box<dyn FnOnce(Closer) -> Closer + '_>) {
        self.hooks().wrap_close(wrap);
    }
}

/// Receives a measurement; see [`ContainerTask::write_stat`].
pub type StatSink = Arc<dyn Fn(Stat) + Send + Sync>;

/// A task as plain data. Each field has the meaning of the [`ContainerTask`] method with the same name.
///
/// ```
/// use fnctr::driver::{Output, Task};
///
/// let (stdout, captured) = Output::capture(64 << 10);
/// let task = Task {
///     id: "hello-1".into(),
///     image: "busybox".into(),
///     command: "echo hello".into(),
///     memory: 64 << 20,
///     stdout: stdout.into(),
///     ..Task::default()
/// };
/// assert!(captured.is_empty());
/// # drop(task);
/// ```
#[derive(Default)]
#[expect(missing_docs, reason = "each field is documented at the method of its name")]
pub struct Task {
    pub id: String,
    pub image: String,
    pub command: String,
    pub env_vars: BTreeMap<String, String>,
    pub input: Once<Input>,
    pub stdout: Once<Output>,
    pub stderr: Once<Output>,
    pub stats: Option<StatSink>,
    pub volumes: Vec<(PathBuf, String)>,
    pub memory: u64,
    pub cpus: u64,
    pub pids: u64,
    pub fs_size: u64,
    pub tmpfs_size: u64,
    pub open_files: Option<u64>,
    pub locked_memory: Option<u64>,
    pub pending_signals: Option<u64>,
    pub message_queue: Option<u64>,
    pub work_dir: Option<String>,
    pub logger_config: LoggerConfig,
    pub extensions: BTreeMap<String, String>,
    pub uds_agent_path: Option<PathBuf>,
    pub uds_docker_path: Option<PathBuf>,
    pub uds_docker_dest: Option<String>,
    pub disable_net: bool,
    pub auther: Option<Arc<dyn Auther>>,
    pub hooks: Hooks,
}

#[async_trait]
impl ContainerTask for Task {
    fn id(&self) -> &str {
        &self.id
    }

    fn image(&self) -> &str {
        &self.image
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn cpus(&self) -> u64 {
        self.cpus
    }

    fn pids(&self) -> u64 {
        self.pids
    }

    fn input(&self) -> Input {
        self.input.take()
    }

    fn logger(&self) -> (Output, Output) {
        (self.stdout.take(), self.stderr.take())
    }

    fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    async fn write_stat(&self, _: &Context, stat: Stat) {
        if let Some(sink) = &self.stats {
            sink(stat);
        }
    }

    fn takes_stats(&self) -> bool {
        self.stats.is_some()
    }

    fn command(&self) -> &str {
        &self.command
    }

    fn env_vars(&self) -> BTreeMap<String, String> {
        self.env_vars.clone()
    }

    fn volumes(&self) -> Vec<(PathBuf, String)> {
        self.volumes.clone()
    }

    fn fs_size(&self) -> u64 {
        self.fs_size
    }

    fn tmpfs_size(&self) -> u64 {
        self.tmpfs_size
    }

    fn open_files(&self) -> Option<u64> {
        self.open_files
    }

    fn locked_memory(&self) -> Option<u64> {
        self.locked_memory
    }

    fn pending_signals(&self) -> Option<u64> {
        self.pending_signals
    }

    fn message_queue(&self) -> Option<u64> {
        self.message_queue
    }

    fn work_dir(&self) -> Option<&str> {
        self.work_dir.as_deref()
    }

    fn logger_config(&self) -> LoggerConfig {
        self.logger_config.clone()
    }

    fn extensions(&self) -> BTreeMap<String, String> {
        self.extensions.clone()
    }

    fn uds_agent_path(&self) -> Option<PathBuf> {
        self.uds_agent_path.clone()
    }

    fn uds_docker_path(&self) -> Option<PathBuf> {
        self.uds_docker_path.clone()
    }

    fn uds_docker_dest(&self) -> Option<String> {
        self.uds_docker_dest.clone()
    }

    fn disable_net(&self) -> bool {
        self.disable_net
    }

    fn auther(&self) -> Option<Arc<dyn Auther>> {
        self.auther.clone()
    }
}

impl fmt::Debug for Task {
    /// Leaves out the values of the environment and the extensions, because they may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("image", &self.image)
            .field("command", &self.command)
            .field("env_vars", &self.env_vars.keys())
            .field("extensions", &self.extensions.keys())
            .field("memory", &self.memory)
            .field("cpus", &self.cpus)
            .field("pids", &self.pids)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_not_shown() {
        let task = Task {
            env_vars: BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]),
            ..Task::default()
        };
        let shown = format!("{task:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_task_takes_measurements_if_it_has_a_receiver_for_them() {
        assert!(!Task::default().takes_stats());
        let task = Task {
            stats: Some(Arc::new(drop)),
            ..Task::default()
        };
        assert!(task.takes_stats());
    }

    #[test]
    fn streams_are_handed_over_once() {
        let task = Task {
            input: Input::from_bytes("x").into(),
            stdout: Output::to_writer(tokio::io::sink()).into(),
            ..Task::default()
        };
        let task: &dyn ContainerTask = &task;
        assert!(!task.input().is_null());
        assert!(task.input().is_null());
        let (stdout, stderr) = task.logger();
        assert!(!stdout.is_null() && stderr.is_null());
        assert!(task.logger().0.is_null());
    }

    #[test]
    fn closing_through_the_trait_runs_what_was_wrapped() {
        let task = Task::default();
        let closed = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counter = Arc::clone(&closed);
        let task: &dyn ContainerTask = &task;
        task.wrap_close(Box::new(|inner| {
            Box::new(move || {
                counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                inner();
            })
        }));
        task.close();
        task.close();
        assert_eq!(closed.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}
