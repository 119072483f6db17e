//! Containers that lose whoever looked after them, or are removed by two at once.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::beside::Beside;
use crate::cli::fnctr;
use crate::habits::ok;
use crate::server::{ctr, is_settled, until};
use crate::world::Stage;

fn kill_task(stage: &Stage, id: &str) {
    ctr(stage, &["tasks", "kill", "--signal", "SIGKILL", id]);
}

fn is_running(stage: &Stage, id: &str) -> bool {
    let filter = format!("id={id}");
    ok(stage, &["ps", "-q", "--filter", &filter]).trim() == id
}

/// A container whose owner removes it at its end, and the owner.
async fn owned(stage: &Stage, id: &str) -> Beside {
    let owner = Beside::start(stage, &["run", "--name", id, "busybox", "sleep", "600"]);
    until("it runs", || is_running(stage, id)).await;
    owner
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_end_is_told_when_the_owner_was_killed() {
    let Some(set) = Stage::set("the_next_end_is_told").await else {
        return;
    };
    let stage = &set;
    let owner = owned(stage, "left").await;
    owner.signal(Signal::SIGKILL);
    owner.end();
    let wait = Beside::start(stage, &["wait", "--condition", "next-exit", "left"]);
    wait.follows_events();
    kill_task(stage, "left");
    assert_eq!(wait.hear(), "137");
    assert_eq!(wait.end().0, Some(0));
    ok(stage, &["rm", "-f", "left"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_began_beside_a_server_does_its_work_when_the_server_was_killed() {
    let Some(set) = Stage::set("a_command_that_began_beside_a_server").await else {
        return;
    };
    let stage = &set;
    let server = Beside::start(stage, &["serve"]);
    server.hear();
    ok(stage, &["run", "-d", "--name", "web", "busybox", "sleep", "600"]);
    let wait = Beside::start(stage, &["wait", "--condition", "removed", "web"]);
    wait.follows_events();
    server.signal(Signal::SIGKILL);
    server.end();
    kill_task(stage, "web");
    // No other command runs.
    until("its end is written", || is_settled(stage, "web")).await;
    ok(stage, &["rm", "web"]);
    assert_eq!(wait.hear(), "137");
    assert_eq!(wait.end().0, Some(0));
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_remove_a_container_harm_no_later_one_of_its_id() {
    let Some(set) = Stage::set("two_that_remove_a_container").await else {
        return;
    };
    let stage = &set;
    let owner = owned(stage, "job").await;
    let mut removal = fnctr(stage, &["rm", "-f", "job"]);
    removal.env("FNCTR_STOP_POINT", "undone:task");
    let removal = Beside::of(removal);
    removal.is_stopped();
    // The process is gone, so the owner wants to remove the container, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    owner.stop();
    removal.signal(Signal::SIGCONT);
    assert_eq!(removal.end().0, Some(0));
    ok(stage, &["run", "-d", "--name", "job", "busybox", "sleep", "600"]);
    owner.signal(Signal::SIGCONT);
    assert_eq!(owner.end().0, Some(137));
    assert!(is_running(stage, "job"));
    ok(stage, &["rm", "-f", "job"]);
    set.strike().await;
}
