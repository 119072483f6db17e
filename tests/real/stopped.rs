//! Processes that are stopped for ten seconds, as a debugger, a full disk or a host without memory stops them: what needs
//! them waits, what does not goes on, and afterwards everything is as if nothing had happened.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::habits::ok;
use crate::patience::patient;
use crate::real::shims;
use crate::world::Stage;

const STOPPED: Duration = Duration::from_secs(10);

/// A process that is stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed());
        kill(pid, Signal::SIGSTOP).expect("to stop it");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn sleeps(stage: &Stage, name: &str) {
    ok(stage, &["run", "-d", "--name", name, "busybox", "sleep", "600"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_containerd_delays_what_needs_it_and_nothing_else() {
    let Some(stage) = Stage::set("a_stopped_containerd_delays").await else {
        return;
    };
    let cookie = crate::world::created(&stage.driver, stage.task("/bin/sleep"), "sleep 600").await;
    cookie.run(&crate::world::ctx()).await.expect("a start");
    let stopped = Stopped::stop(stage.real.pid());
    let waits = Beside::start(&stage, &["run", "busybox", "echo", "hi"]);
    let until = Instant::now() + STOPPED;
    while Instant::now() < until {
        cookie
            .freeze(&crate::world::ctx())
            .await
            .expect("the kernel to freeze");
        cookie
            .unfreeze(&crate::world::ctx())
            .await
            .expect("the kernel to thaw");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(stopped);
    let (code, said, err) = waits.end();
    assert_eq!(
        (code, said.as_slice()),
        (Some(0), &["hi".to_owned()][..]),
        "{err}"
    );
    cookie.close(&crate::world::ctx()).await.expect("to close");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_shim_delays_its_own_container_and_no_other() {
    let Some(stage) = Stage::set("a_stopped_shim_delays").await else {
        return;
    };
    sleeps(&stage, "held");
    sleeps(&stage, "free");
    let shims = shims(&stage.real.address());
    let shim = shims.iter().find(|shim| shim.command.contains("held"));
    let pid = shim.expect("its shim").pid.cast_unsigned();
    let stopped = Stopped::stop(pid);
    let began = Instant::now();
    // The cgroup is the kernel's, so it needs no shim. Before the stop: a process that has ended stays in its cgroup until its
    // shim reaps it, and does not freeze.
    ok(&stage, &["freeze", "held"]);
    ok(&stage, &["thaw", "held"]);
    let waits = Beside::start(&stage, &["stop", "-t", "0", "held"]);
    ok(&stage, &["stop", "-t", "0", "free"]);
    ok(&stage, &["rm", "free"]);
    assert_eq!(ok(&stage, &["run", "busybox", "echo", "hi"]), "hi\n");
    tokio::time::sleep_until(began + STOPPED).await;
    drop(stopped);
    let (code, said, err) = waits.end();
    assert_eq!(
        (code, said.as_slice()),
        (Some(0), &["held".to_owned()][..]),
        "{err}"
    );
    // By SIGTERM, or the SIGKILL that followed at once.
    let code = ok(&stage, &["wait", "held"]);
    assert!(["143\n", "137\n"].contains(&code.as_str()), "{code}");
    ok(&stage, &["rm", "held"]);
    stage.strike().await;
}

/// An end is the kernel's to tell. A cgroup whose processes have all ended and that nobody has reaped does not freeze.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_has_ended_under_a_stopped_shim_is_not_frozen() {
    let Some(stage) = Stage::set("ended_under_a_stopped_shim").await else {
        return;
    };
    let cookie = crate::world::created(&stage.driver, stage.task("/bin/sleep"), "sleep 600").await;
    let run = cookie.run(&crate::world::ctx()).await.expect("a start");
    let shims = shims(&stage.real.address());
    let shim = shims.first().expect("its shim").pid.cast_unsigned();
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children"));
    let stopped = Stopped::stop(shim);
    let child = children.expect("children").trim().parse().expect("one child");
    kill(Pid::from_raw(child), Signal::SIGKILL).expect("to kill it");
    let until = Instant::now() + patient(Duration::from_secs(5));
    let refused = loop {
        match cookie.freeze(&crate::world::ctx()).await {
            Err(why) => break format!("{why:?}"),
            // The signal had not arrived.
            Ok(()) => cookie.unfreeze(&crate::world::ctx()).await.map_or((), |()| ()),
        }
        assert!(Instant::now() < until, "it is still frozen and thawed");
    };
    assert!(refused.contains("its process has ended"), "{refused}");
    drop(stopped);
    assert_eq!(run.wait(&crate::world::ctx()).await.exit_code(), Some(137));
    cookie.close(&crate::world::ctx()).await.expect("to close");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_holds_up_nobody_and_catches_up() {
    let Some(stage) = Stage::set("a_stopped_server_holds_up_nobody").await else {
        return;
    };
    let server = Beside::start(&stage, &["serve"]);
    server.hear();
    let counts = "n=0; while [ $n -lt 40000 ]; do n=$((n+1)); echo line $n; done; exit 3";
    sleeps(&stage, "other");
    let stopped = Stopped::stop(server.child.id());
    let began = Instant::now();
    // More than a pipe holds, so it waits for the server.
    ok(
        &stage,
        &["run", "-d", "--name", "talks", "busybox", "sh", "-c", counts],
    );
    ok(
        &stage,
        &["create", "--name", "new", "busybox", "sh", "-c", "exit 4"],
    );
    ok(&stage, &["start", "new"]);
    assert_eq!(ok(&stage, &["wait", "new"]), "4\n");
    ok(&stage, &["rm", "new"]);
    ok(&stage, &["stop", "-t", "0", "other"]);
    tokio::time::sleep_until(began + STOPPED).await;
    drop(stopped);
    assert_eq!(ok(&stage, &["wait", "talks"]), "3\n");
    let until = Instant::now() + patient(Duration::from_secs(20));
    while !crate::server::is_settled(&stage, "talks") {
        assert!(Instant::now() < until, "the server does not go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ok(&stage, &["rm", "talks", "other"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().0, Some(0));
    stage.strike().await;
}
