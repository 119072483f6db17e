//! What the laws need to know about the driver under test, and the few moves that all of them make.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fnctr::Context;
use fnctr::driver::{
    Captured, Cookie, Driver, Error, ErrorKind, Output, RunResult, Status, Task, WaitResult,
};

use super::{Skip, Verdict};
use crate::patience::patient;

/// The programs of `fixtures/scripts` that the image holds under `/scripts`, besides busybox under `/bin`.
pub(crate) const SCRIPTS: [&str; 7] = ["both", "counter", "env", "exit7", "killed", "megabyte", "oom"];

/// What a driver may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A memory limit that the kernel enforces, with a record of OOM kills.
    MemoryLimit,
    /// A registry that has [`World::pullable_image`].
    Registry,
    /// Measurements once a second.
    Measurements,
}

/// A task that cannot be, and what must be said about it.
#[derive(Debug)]
pub(crate) struct BadTask {
    /// What is wrong with it, for the report.
    pub(crate) what: &'static str,
    /// The task.
    pub(crate) task: Task,
    /// The kind of the error.
    pub(crate) kind: ErrorKind,
    /// What the sentence must name.
    pub(crate) names: String,
}

/// A driver under test, and what is around it.
#[async_trait]
pub(crate) trait World: Send + Sync {
    /// The driver.
    fn driver(&self) -> Arc<dyn Driver>;

    /// Another driver of the same kind in the same world, which a law may close.
    async fn another(&self) -> Arc<dyn Driver>;

    /// An id that was never used.
    fn fresh_id(&self) -> String;

    /// An image that is here: busybox and the scripts.
    fn image(&self) -> String;

    /// An image that is neither here nor anywhere.
    fn missing_image(&self) -> String;

    /// An image that is not here and that a pull finds. Asked for at most once, and only with [`Need::Registry`].
    fn pullable_image(&self) -> String;

    /// Why this driver cannot show a law that needs this; `None` if it can.
    fn lacks(&self, need: Need) -> Option<String>;

    /// Tasks that this driver must refuse.
    fn bad_tasks(&self) -> Vec<BadTask>;

    /// Makes a change to the driver's own options.
    fn touch_options(&self, cookie: &dyn Cookie) -> Result<(), Error>;

    /// Whether the options show that change.
    fn options_are_touched(&self, cookie: &dyn Cookie) -> bool;

    /// The names of everything that containers leave behind if nobody cleans up.
    async fn census(&self) -> BTreeSet<String>;

    /// A task that runs this command within modest limits, with its streams off.
    fn task(&self, command: &str) -> Task {
        Task {
            id: self.fresh_id(),
            image: self.image(),
            command: command.to_owned(),
            memory: 64 << 20,
            pids: 64,
            disable_net: true,
            ..Task::default()
        }
    }
}

/// Skips the law if the world lacks this.
pub(super) fn need(world: &Arc<dyn World>, need: Need) -> Verdict {
    world.lacks(need).map_or(Ok(()), |why| Err(Skip(why)))
}

/// The command that runs one of [`SCRIPTS`].
#[track_caller]
pub(super) fn script(name: &str) -> String {
    assert!(SCRIPTS.contains(&name), "{name} is not among the scripts");
    format!("/scripts/{name}")
}

/// A context that is long enough for anything but a hang.
pub(super) fn ctx() -> Context {
    Context::timeout(patient(Duration::from_secs(30)))
}

/// A context that somebody cancelled.
pub(super) fn cancelled() -> Context {
    let ctx = Context::new();
    ctx.cancel();
    ctx
}

/// A context whose deadline has passed.
pub(super) fn late() -> Context {
    Context::timeout(Duration::ZERO)
}

/// A task whose outputs are kept.
pub(super) fn recorded(world: &Arc<dyn World>, command: &str) -> (Task, Captured, Captured) {
    let (out, stdout) = Output::capture(16 << 20);
    let (err, stderr) = Output::capture(16 << 20);
    let task = Task {
        stdout: out.into(),
        stderr: err.into(),
        ..world.task(command)
    };
    (task, stdout, stderr)
}

pub(super) async fn cookie(world: &Arc<dyn World>, task: Task) -> Box<dyn Cookie> {
    world
        .driver()
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie")
}

/// A cookie whose container was created.
pub(super) async fn created(world: &Arc<dyn World>, task: Task) -> Box<dyn Cookie> {
    let cookie = cookie(world, task).await;
    assert!(
        !cookie.validate_image(&ctx()).await.expect("to validate"),
        "the image must be here"
    );
    cookie.create_container(&ctx()).await.expect("to create");
    cookie
}

/// A cookie whose container was started, without a deadline.
pub(super) async fn started(world: &Arc<dyn World>, task: Task) -> (Box<dyn Cookie>, Box<dyn WaitResult>) {
    let cookie = created(world, task).await;
    let wait = cookie.run(&Context::new()).await.expect("to run");
    (cookie, wait)
}

pub(super) async fn close(cookie: Box<dyn Cookie>) {
    cookie.close(&ctx()).await.expect("to close");
}

/// Fails the law unless this is an error of this kind.
#[track_caller]
pub(super) fn assert_kind<T>(what: &str, result: Result<T, Error>, kind: ErrorKind) {
    match result {
        Ok(_) => panic!("{what}: succeeded, but must be {kind}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error:?}"),
    }
}

/// Fails the law unless this is the end of a function that was still running when its cookie was closed. Which signal
/// a driver ends it with is its own affair.
#[track_caller]
pub(super) fn assert_was_closed(result: &RunResult) {
    assert!(
        matches!(result.status(), Status::Killed | Status::Error),
        "{result:?}"
    );
    assert!(result.exit_code().is_some_and(|code| code > 128), "{result:?}");
    assert_eq!(result.oom(), None, "{result:?}");
}
