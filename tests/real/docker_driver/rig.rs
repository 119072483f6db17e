//! A server of the API, and drivers on it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fnctr::driver::{Config, Cookie, Driver as _, Error, ErrorKind, Output, RunResult, Task, WaitResult};
use fnctr::{DockerDriver, DockerOptions, DockerSettings};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::census::{Census, Change};
use crate::patience::patient;
use crate::world::{Stage, ctx, take};

/// What every test here stands on.
pub(super) struct Rig {
    pub(super) stage: Stage,
    /// Locked only because a law's world is shared by threads.
    server: Mutex<Beside>,
    pub(super) driver: DockerDriver,
    /// Taken while the server runs, which has files of its own.
    before: Census,
}

impl Rig {
    /// Sets everything up; `None` if this host cannot (it has been said loudly).
    pub(super) async fn set(test: &str) -> Option<Self> {
        Self::with(test, |_| {}).await
    }

    /// The same, with another configuration.
    pub(super) async fn with(test: &str, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let stage = Stage::set(test).await?;
        let named = socket(&stage).display().to_string();
        let server = Beside::start(&stage, &["serve", "--docker-socket", &named]);
        server.hear();
        // The first life makes what stays for all later ones.
        let first = connect(&stage, |_| {}).await.expect("a driver");
        let task = stage.task("/bin/true");
        let lived = live(&first, task, None).await.expect("a first life");
        assert_eq!(lived.status(), fnctr::driver::Status::Success, "{lived:?}");
        first.close(&ctx()).await.expect("the first driver to close");
        let until = Instant::now() + patient(Duration::from_secs(20));
        while !crate::real::shims(&stage.real.address()).is_empty() {
            assert!(Instant::now() < until, "the shim of the first life goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The server may still be at the end of that life.
        let turns = stage
            .real
            .dir()
            .join("cli/fifos")
            .join(stage.real.namespace())
            .join(".turns");
        while turns.exists() {
            assert!(Instant::now() < until, "the first life is not settled");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = take(&stage.real).await;
        let driver = connect(&stage, change).await.expect("a driver");
        Some(Self {
            stage,
            server: Mutex::new(server),
            driver,
            before,
        })
    }

    /// Another driver on the same server.
    pub(super) async fn another(&self, change: impl FnOnce(&mut Config)) -> Result<DockerDriver, Error> {
        connect(&self.stage, change).await
    }

    /// The address of the server.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", socket(&self.stage).display())
    }

    /// What there is now and was not at the start, beside what is expected.
    pub(super) async fn changes_but(&self, is_expected: impl Fn(&Change) -> bool) -> BTreeSet<String> {
        let changes = self.before.changes_but(is_expected).await;
        changes.iter().map(ToString::to_string).collect()
    }

    /// What a script prints, and how it ended.
    pub(super) async fn says(&self, task: Task, script: &str) -> (String, RunResult) {
        let (output, captured) = Output::capture(1 << 20);
        let task = Task {
            stdout: output.into(),
            ..task
        };
        let result = live(&self.driver, task, Some(script)).await;
        (captured.text(), result.expect("a result"))
    }

    /// Ends the driver and the server, and returns the stage.
    pub(super) async fn end(self) -> Stage {
        self.driver.close(&ctx()).await.expect("the driver to close");
        let server = self.server.into_inner().expect("a server");
        server.signal(Signal::SIGTERM);
        let (code, said, err) = server.end();
        assert_eq!((code, said.as_slice()), (Some(0), &[][..]), "{err}");
        self.stage
    }

    /// Nothing is left, and everything ends.
    pub(super) async fn strike(self) {
        let left = self.changes_but(|_| false).await;
        assert!(left.is_empty(), "{left:?}");
        self.end().await.strike().await;
    }
}

fn socket(stage: &Stage) -> PathBuf {
    stage.real.dir().join("docker.sock")
}

/// A driver on the server, which says that it serves just before it listens.
async fn connect(stage: &Stage, change: impl FnOnce(&mut Config)) -> Result<DockerDriver, Error> {
    let mut config = Config {
        docker: format!("unix://{}", socket(stage).display()),
        ..Config::default()
    };
    change(&mut config);
    let until = Instant::now() + patient(Duration::from_secs(10));
    loop {
        match DockerDriver::connect(&ctx(), config.clone(), DockerSettings::default()).await {
            Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connected => return connected,
        }
    }
}

/// A whole life: created, run to its end, closed. `script` is given to `sh -c` in place of the command.
pub(super) async fn live(
    driver: &DockerDriver,
    task: Task,
    script: Option<&str>,
) -> Result<RunResult, Error> {
    let cookie = driver.create_cookie(&ctx(), Arc::new(task)).await?;
    let lived = async { Ok(start(&*cookie, script).await?.wait(&ctx()).await) };
    let lived = lived.await;
    cookie.close(&ctx()).await?;
    lived
}

/// Creates and starts a container.
pub(super) async fn start(cookie: &dyn Cookie, script: Option<&str>) -> Result<Box<dyn WaitResult>, Error> {
    if let Some(script) = script {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        cookie.change_options(|options: &mut DockerOptions| options.body.cmd = Some(command))?;
    }
    if cookie.validate_image(&ctx()).await? {
        cookie.pull_image(&ctx()).await?;
        assert!(!cookie.validate_image(&ctx()).await?, "it was pulled");
    }
    cookie.create_container(&ctx()).await?;
    cookie.run(&fnctr::Context::new()).await
}
