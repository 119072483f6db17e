//! The three ways in which the end of a function is learned, each when the other two are broken.

use fnctr::Context;
use fnctr::driver::{RunResult, Status};

use crate::fake_containerd::{How, Script, Step};
use crate::rig::{LONG, Rig, eventually};

/// More often than anybody asks within a test.
const ALWAYS: usize = 1000;

fn broken() -> How {
    How::BeforeEffect(tonic::Status::unavailable("busy"))
}

/// Breaks the next calls of a method, all of them.
fn break_always(rig: &Rig, call: &str, how: fn() -> How) {
    for nth in 1..=ALWAYS {
        rig.fake.faults().break_call(call, nth, how());
    }
}

/// A driver whose subscription breaks and is never made again.
async fn without_events(rig: &Rig) {
    break_always(rig, "Events/Subscribe", broken);
    eventually("the first subscription", || rig.fake.subscribers() == 1).await;
    rig.fake.break_events();
    eventually("its end", || rig.fake.subscribers() == 0).await;
}

async fn ends_with_7(rig: &Rig) -> RunResult {
    rig.fake.script(Script {
        exit_status: 7,
        ..Script::steps([Step::Out(b"bye".to_vec())])
    });
    let life = rig.live(&Context::timeout(LONG), "c1").await;
    life.closed.unwrap();
    assert_eq!(life.said, "bye");
    rig.assert_clean("an end that was hard to learn of").await;
    life.ran.unwrap()
}

#[tokio::test]
async fn from_the_event_alone() {
    let rig = Rig::warm().await;
    eventually("the subscription", || rig.fake.subscribers() == 1).await;
    break_always(&rig, "Tasks/Wait", || How::Hang);
    break_always(&rig, "Tasks/Get", broken);
    assert_eq!(ends_with_7(&rig).await.exit_code(), Some(7));
    rig.end().await;
}

#[tokio::test]
async fn from_the_event_of_a_subscription_that_was_made_again() {
    let rig = Rig::warm().await;
    eventually("the subscription", || rig.fake.subscribers() == 1).await;
    rig.fake.break_events();
    eventually("its end", || rig.fake.subscribers() == 0).await;
    eventually("another one", || rig.fake.subscribers() == 1).await;
    break_always(&rig, "Tasks/Wait", || How::Hang);
    break_always(&rig, "Tasks/Get", broken);
    assert_eq!(ends_with_7(&rig).await.exit_code(), Some(7));
    rig.end().await;
}

#[tokio::test]
async fn from_the_reply_to_the_wait_alone_and_it_is_asked_again_when_it_breaks() {
    let rig = Rig::warm().await;
    without_events(&rig).await;
    break_always(&rig, "Tasks/Get", broken);
    for nth in 1..=3 {
        rig.fake.faults().break_call("Tasks/Wait", nth, broken());
    }
    assert_eq!(ends_with_7(&rig).await.exit_code(), Some(7));
    let waits = rig.fake.calls().into_iter().filter(|call| call == "Tasks/Wait");
    assert_eq!(waits.count(), 4);
    rig.end().await;
}

#[tokio::test]
async fn from_the_vanished_process_alone_whose_code_is_asked_for_until_it_is_told() {
    let rig = Rig::warm().await;
    without_events(&rig).await;
    break_always(&rig, "Tasks/Wait", || How::Hang);
    for nth in 1..=3 {
        rig.fake.faults().break_call("Tasks/Get", nth, broken());
    }
    assert_eq!(ends_with_7(&rig).await.exit_code(), Some(7));
    let asked = rig.fake.calls().into_iter().filter(|call| call == "Tasks/Get");
    assert_eq!(asked.count(), 4);
    rig.end().await;
}

#[tokio::test]
async fn an_end_whose_code_nobody_can_tell_is_no_success() {
    let rig = Rig::warm().await;
    without_events(&rig).await;
    break_always(&rig, "Tasks/Wait", || How::Hang);
    break_always(&rig, "Tasks/Get", || {
        How::BeforeEffect(tonic::Status::not_found("no running task found"))
    });
    let result = ends_with_7(&rig).await;
    assert_eq!((result.status(), result.exit_code()), (Status::Error, None));
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_is_killed_behind_everybodys_back_has_ended_by_signal_9() {
    let rig = Rig::warm().await;
    rig.fake.script(crate::rig::forever());
    let cookie = rig.created("c1").await;
    let running = cookie.run(&Context::new()).await.unwrap();
    rig.fake.kill_behind("c1");
    let result = running.wait(&Context::timeout(LONG)).await;
    assert_eq!((result.status(), result.exit_code()), (Status::Killed, Some(137)));
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("a kill from outside").await;
    rig.end().await;
}
