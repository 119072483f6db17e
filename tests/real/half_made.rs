//! Creates in which the shim or containerd is killed when the container is half made.

use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Cookie, Driver as _, Status, Task};
use fnctr::{ContainerdDriver, Settings};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::patience::patient;
use crate::world::{Stage, config, connect_with, ctx};

/// Does something as soon as the runtime has made a cgroup for a container, which is half-way through a create.
fn when_its_cgroup_is_made<T: Send + 'static>(
    stage: &Stage,
    id: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let name = format!("{}/{id}", stage.real.namespace());
    let id = id.to_owned();
    std::thread::spawn(move || {
        let hierarchies = || std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
        let made = || {
            let mut below = hierarchies().map(|hierarchy| hierarchy.path().join(&name));
            below.any(|dir| dir.is_dir()) || std::path::Path::new("/sys/fs/cgroup").join(&name).is_dir()
        };
        let until = tokio::time::Instant::now() + patient(Duration::from_secs(20));
        while !made() {
            assert!(tokio::time::Instant::now() < until, "no cgroup for {id}");
            std::thread::yield_now();
        }
        work()
    })
}

/// A container that is about to be created.
async fn validated(stage: &Stage) -> (String, Box<dyn Cookie>) {
    validated_by(&stage.driver, stage).await
}

async fn validated_by(driver: &ContainerdDriver, stage: &Stage) -> (String, Box<dyn Cookie>) {
    let task = stage.task("/bin/sleep 60");
    let id = task.id.clone();
    let cookie = driver.create_cookie(&ctx(), Arc::new(task)).await;
    let cookie = cookie.expect("a cookie");
    cookie.validate_image(&ctx()).await.expect("an image");
    (id, cookie)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_is_killed_half_way_through_a_create_leaves_nothing() {
    if std::env::var_os("FNCTR_TEST_SYSTEMD").is_some() {
        return crate::real::skipped(
            "a_shim_that_is_killed_half_way",
            "its cgroup has another name under systemd",
        );
    }
    let Some(stage) = Stage::set("a_shim_that_is_killed_half_way").await else {
        return;
    };
    for _ in 0..8 {
        let (id, cookie) = validated(&stage).await;
        let own = Shims::of(&stage, &id);
        let killer = when_its_cgroup_is_made(&stage, &id, move || own.signal(Signal::SIGKILL));
        drop(cookie.create_container(&ctx()).await);
        killer.join().expect("a killed shim");
        cookie.close(&ctx()).await.expect("to close");
        // And its name is free.
        let again = Task {
            id,
            ..stage.task("/bin/true")
        };
        let lived = stage.life(again, None).await.expect("another life of the name");
        assert_eq!(lived.status(), Status::Success);
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_outlives_its_shim_and_containerds_patience_keeps_no_name() {
    if std::env::var_os("FNCTR_TEST_SYSTEMD").is_some() {
        return crate::real::skipped(
            "a_runtime_that_outlives_its_shim",
            "its cgroup has another name under systemd",
        );
    }
    let Some(stage) = Stage::set("a_runtime_that_outlives_its_shim").await else {
        return;
    };
    let halts = Halting::make(&stage);
    let halting = |settings: &mut Settings| settings.runtime_binary = Some(halts.program());
    let driver = connect_with(&stage.real, halting, || config(&stage.real)).await;
    let driver = driver.expect("a driver");
    let (id, cookie) = validated_by(&driver, &stage).await;
    let own = Shims::of(&stage, &id);
    let killer = std::thread::spawn(move || {
        let runtime = halts.halted();
        own.signal(Signal::SIGKILL);
        [runtime]
    });
    let refused = cookie.create_container(&ctx()).await;
    let runtime = killer.join().expect("a killed shim");
    refused.expect_err("a create without a shim");
    cookie.close(&ctx()).await.expect("to close");
    assert_eq!(
        bundles(&stage),
        Vec::<String>::new(),
        "they stay although nothing of the container is left"
    );
    let again = Task {
        id,
        ..stage.task("/bin/true")
    };
    let lived = stage.life(again, None).await;
    signal(&runtime, Signal::SIGCONT);
    assert_eq!(lived.expect("another life of the name").status(), Status::Success);
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(20));
    let runs = |pid: &Pid| std::path::Path::new(&format!("/proc/{pid}/exe")).exists();
    while runtime.iter().any(runs) && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    driver.close(&ctx()).await.expect("to close");
    stage.strike().await;
}

/// A runtime that stops half-way through a create, as on a machine that gives it no processor time.
struct Halting {
    dir: std::path::PathBuf,
}

impl Halting {
    fn make(stage: &Stage) -> Self {
        let dir = stage.real.dir().to_owned();
        let real = crate::world::runtime().unwrap_or_else(|| "runc".to_owned());
        let marker = dir.join("halted").display().to_string();
        // A hook of the OCI, which the runtime runs when it has made the namespaces and the cgroup.
        let hook = format!("echo $PPID >{marker}.new; mv {marker}.new {marker}; kill -STOP $PPID");
        let hooks =
            serde_json::json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", hook] }] });
        let script = format!(
            r#"#!/bin/sh
case " $* " in *" create "*)
    for word; do
        [ "$before" != --bundle ] || sed -i '1s|^{{|{{"hooks":{hooks},|' "$word/config.json"
        before=$word
    done
esac
exec {real} "$@"
"#
        );
        let halting = Self { dir };
        std::fs::write(halting.program(), script).expect("a program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(halting.program(), mode).expect("a program");
        halting
    }

    fn program(&self) -> String {
        self.dir.join("halting").display().to_string()
    }

    /// Waits until it has stopped, and returns its process.
    fn halted(&self) -> Pid {
        let until = tokio::time::Instant::now() + patient(Duration::from_secs(20));
        loop {
            let pid = std::fs::read_to_string(self.dir.join("halted")).unwrap_or_default();
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if state.contains(") T ") {
                return Pid::from_raw(pid.trim().parse().expect("a pid"));
            }
            assert!(tokio::time::Instant::now() < until, "the runtime does not halt");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The shims of one container, while it is created.
struct Shims {
    address: std::path::PathBuf,
    flag: String,
}

impl Shims {
    fn of(stage: &Stage, id: &str) -> Self {
        Self {
            address: stage.real.address(),
            flag: format!("-id {id} "),
        }
    }

    fn pids(&self) -> Vec<Pid> {
        let mut shims = crate::real::shims(&self.address);
        shims.retain(|shim| shim.command.contains(&self.flag));
        shims.iter().map(|shim| Pid::from_raw(shim.pid)).collect()
    }

    fn signal(&self, number: Signal) {
        signal(&self.pids(), number);
    }
}

fn signal(pids: &[Pid], number: Signal) {
    for pid in pids {
        let _ = nix::sys::signal::kill(*pid, number);
    }
}

/// What containerd has of containers that have a task.
fn bundles(stage: &Stage) -> Vec<String> {
    let dir = stage.real.dir().join("state/io.containerd.runtime.v2.task");
    let dir = dir.join(stage.real.namespace());
    let found = std::fs::read_dir(dir).into_iter().flatten().flatten();
    found
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_is_killed_in_a_create_leaves_nothing_after_the_next_start() {
    if std::env::var_os("FNCTR_TEST_SYSTEMD").is_some() {
        return crate::real::skipped(
            "a_containerd_that_is_killed",
            "its cgroup has another name under systemd",
        );
    }
    let Some(mut stage) = Stage::set("a_containerd_that_is_killed").await else {
        return;
    };
    for _ in 0..3 {
        let (id, cookie) = validated(&stage).await;
        let containerd = nix::unistd::Pid::from_raw(stage.real.pid().cast_signed());
        let killer = when_its_cgroup_is_made(&stage, &id, move || {
            let _ = nix::sys::signal::kill(containerd, nix::sys::signal::Signal::SIGKILL);
        });
        drop(cookie.create_container(&ctx()).await);
        killer.join().expect("a killed containerd");
        stage.real.crash();
        stage.real.restart();
        drop(cookie.close(&ctx()).await);
        let next = stage.another(|_| {}).await.expect("a driver");
        next.close(&ctx()).await.expect("to close");
        stage.before.assert_same().await;
    }
    let parents = || {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
        let dirs = hierarchies.map(|hierarchy| hierarchy.path().join(stage.real.namespace()));
        dirs.filter(|dir| dir.exists()).collect::<Vec<_>>()
    };
    stage.driver.close(&ctx()).await.expect("to close");
    assert_eq!(parents(), Vec::<std::path::PathBuf>::new());
}

/// containerd cleans up after it by means of another shim, which does not remove the first one's socket.
#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_a_killed_shim_goes_with_its_container() {
    let Some(stage) = Stage::set("the_socket_of_a_killed_shim").await else {
        return;
    };
    let cookie = crate::world::created(&stage.driver, stage.task("/bin/sleep"), "sleep 600").await;
    let run = cookie.run(&ctx()).await.expect("a start");
    let shims = crate::real::shims(&stage.real.address());
    let shim = shims.first().expect("its shim");
    // containerd 2 writes it as JSON.
    let files = ["address", "bootstrap.json"].map(|file| format!("/proc/{}/cwd/{file}", shim.pid));
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let address: String = texts.collect();
    let (_, path) = address.split_once("unix://").expect("its address");
    let socket = std::path::Path::new(path.split('"').next().expect("a path"));
    assert!(socket.exists(), "{address}");
    nix::sys::signal::kill(Pid::from_raw(shim.pid), Signal::SIGKILL).expect("to kill it");
    drop(run.wait(&ctx()).await);
    cookie.close(&ctx()).await.expect("to close");
    assert!(!socket.exists(), "{address}");
    stage.strike().await;
}
