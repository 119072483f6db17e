//! A containerd with the test image in it, a driver on that, and the few moves that all tests here make.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fnctr::driver::{Captured, Config, Cookie, Driver as _, Error, Output, RunResult, Task, WaitResult};
use fnctr::{
    CgroupDriver, ContainerOptions, ContainerdDriver, Context, Namespace, NetworkSettings, Settings,
};

use crate::census::Census;
use crate::patience::patient;
use crate::{image, real::Real};

/// What every test here stands on.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) driver: ContainerdDriver,
    pub(crate) before: Census,
    pub(crate) real: Real,
    pub(crate) ids: AtomicU32,
}

impl Stage {
    /// Sets everything up; `None` if this host cannot (it has been said loudly).
    pub(crate) async fn set(test: &str) -> Option<Self> {
        Self::with(test, |_| {}).await
    }

    /// The same, with another configuration.
    pub(crate) async fn with(test: &str, change: impl FnOnce(&mut Config)) -> Option<Self> {
        Self::on(Real::start(test)?, change).await
    }

    /// The same, on a containerd that runs already.
    pub(crate) async fn on(real: Real, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let archive = image::busybox(real.dir());
        let mut config = config(&real);
        change(&mut config);
        let driver = connect(&real, config).await.expect("a driver");
        driver.load(&ctx(), &archive).await.expect("the test image");
        std::fs::remove_file(archive).expect("to remove the archive");
        std::fs::create_dir_all(real.dir().join("cli/fifos")).expect("a directory for the command");
        // The first life makes what stays for all later ones: the parent cgroup, runc's directory.
        let stage = Self {
            before: take(&real).await,
            driver,
            real,
            ids: AtomicU32::new(0),
        };
        let first = stage.task("/bin/true");
        let lived = stage.life(first, None).await.expect("a first life");
        assert_eq!(lived.status(), fnctr::driver::Status::Success, "{lived:?}");
        // Its shim ends a moment after its close, and is nothing that may be missed later.
        let until = tokio::time::Instant::now() + patient(Duration::from_secs(20));
        while !crate::real::shims(&stage.real.address()).is_empty() {
            assert!(
                tokio::time::Instant::now() < until,
                "the shim of the first life goes on"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = take(&stage.real).await;
        Some(Self { before, ..stage })
    }

    /// Another driver on the same containerd.
    pub(crate) async fn another(&self, change: impl FnOnce(&mut Config)) -> Result<ContainerdDriver, Error> {
        let mut config = config(&self.real);
        change(&mut config);
        connect(&self.real, config).await
    }

    pub(crate) fn fresh_id(&self) -> String {
        format!("c{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// A task that runs this command within modest limits, with its streams off.
    pub(crate) fn task(&self, command: &str) -> Task {
        Task {
            id: self.fresh_id(),
            image: "busybox".to_owned(),
            command: command.to_owned(),
            memory: 64 << 20,
            pids: 64,
            disable_net: true,
            ..Task::default()
        }
    }

    /// A whole life: created, run to its end, closed. `script` is given to `sh -c` in place of the command.
    pub(crate) async fn life(&self, task: Task, script: Option<&str>) -> Result<RunResult, Error> {
        let cookie = self.driver.create_cookie(&ctx(), Arc::new(task)).await?;
        let lived = live(cookie.as_ref(), script).await;
        cookie.close(&ctx()).await?;
        lived
    }

    /// What a script prints, and how it ended.
    pub(crate) async fn says(&self, task: Task, script: &str) -> (String, RunResult) {
        let (output, captured) = Output::capture(1 << 20);
        let result = self
            .life(
                Task {
                    stdout: output.into(),
                    ..task
                },
                Some(script),
            )
            .await;
        (captured.text(), result.expect("a result"))
    }

    /// Nothing is left, the driver ends, and so does containerd.
    pub(crate) async fn strike(self) {
        self.before.assert_same().await;
        self.driver.close(&ctx()).await.expect("the driver to close");
    }
}

/// Create, run and wait.
pub(crate) async fn live(cookie: &dyn Cookie, script: Option<&str>) -> Result<RunResult, Error> {
    if let Some(script) = script {
        set_script(cookie, script)?;
    }
    if cookie.validate_image(&ctx()).await? {
        cookie.pull_image(&ctx()).await?;
    }
    cookie.create_container(&ctx()).await?;
    Ok(cookie.run(&ctx()).await?.wait(&ctx()).await)
}

fn set_script(cookie: &dyn Cookie, script: &str) -> Result<(), Error> {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    cookie.change_options(|options: &mut ContainerOptions| options.config.command = Some(command))
}

/// A container that waits to run this script.
pub(crate) async fn created(driver: &ContainerdDriver, task: Task, script: &str) -> Box<dyn Cookie> {
    let cookie = driver.create_cookie(&ctx(), Arc::new(task)).await;
    let cookie = cookie.expect("a cookie");
    set_script(cookie.as_ref(), script).expect("a command");
    assert!(!cookie.validate_image(&ctx()).await.expect("an image"));
    cookie.create_container(&ctx()).await.expect("a container");
    cookie
}

/// A container that runs it.
pub(crate) async fn started(
    driver: &ContainerdDriver,
    task: Task,
    script: &str,
) -> (Box<dyn Cookie>, Box<dyn WaitResult>) {
    let cookie = created(driver, task, script).await;
    let wait = cookie.run(&ctx()).await.expect("a start");
    (cookie, wait)
}

/// Hundredths of a second that the machine's CPUs had nothing to do (proc_stat(5)).
pub(crate) fn idle_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("the machine's times");
    let idle = stat.split_whitespace().nth(4).expect("the fourth");
    idle.parse().expect("a number")
}

/// A context that is long enough for anything but a hang.
pub(crate) fn ctx() -> Context {
    Context::timeout(patient(Duration::from_secs(60)))
}

pub(crate) fn captured() -> (Output, Captured) {
    Output::capture(64 << 20)
}

pub(crate) fn config(real: &Real) -> Config {
    Config {
        docker: real.address().display().to_string(),
        ..Config::default()
    }
}

pub(crate) async fn connect(real: &Real, config: Config) -> Result<ContainerdDriver, Error> {
    connect_with(real, |_| {}, || config).await
}

/// The same with other settings; the configuration is asked for once they are made.
pub(crate) async fn connect_with(
    real: &Real,
    change: impl FnOnce(&mut Settings),
    config: impl FnOnce() -> Config,
) -> Result<ContainerdDriver, Error> {
    let mut settings = Settings {
        namespace: Some(Namespace::new(real.namespace()).expect("a namespace")),
        run_dir: real.dir().join("run"),
        data_dir: real.dir().join("data"),
        cgroup_driver: cgroup_driver(),
        cgroup_parent: cgroup_parent().to_owned(),
        runtime_binary: runtime(),
        networks: networks(real),
        ..Settings::default()
    };
    change(&mut settings);
    ContainerdDriver::connect(&ctx(), config(), settings).await
}

/// Networks of a test's own: what the host has at the usual places would be undone at the start.
pub(crate) fn networks(real: &Real) -> NetworkSettings {
    NetworkSettings {
        config_dirs: vec![real.dir().join("net.d")],
        state_dir: real.dir().join("sandboxes"),
        address_dir: real.dir().join("addresses"),
        ..NetworkSettings::default()
    }
}

/// Where the containers' cgroups go: in the file system, or, with `FNCTR_TEST_SYSTEMD` set, in a slice of systemd.
pub(crate) fn cgroup_parent() -> &'static str {
    match std::env::var_os("FNCTR_TEST_SYSTEMD") {
        Some(_) => "system.slice",
        None => "/",
    }
}

/// Who makes them then.
pub(crate) fn cgroup_driver() -> CgroupDriver {
    match std::env::var_os("FNCTR_TEST_SYSTEMD") {
        Some(_) => CgroupDriver::Systemd,
        None => CgroupDriver::default(),
    }
}

/// The runtime to test with, `FNCTR_TEST_RUNTIME`; `None` is the default, runc.
pub(crate) fn runtime() -> Option<String> {
    std::env::var("FNCTR_TEST_RUNTIME").ok()
}

pub(crate) async fn take(real: &Real) -> Census {
    Census::take(&real.address(), real.namespace(), &[real.dir()]).await
}
