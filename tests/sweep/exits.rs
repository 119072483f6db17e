//! The three ways in which the end of a function is learned, each when the other two are broken.

use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{Cookie, RunError, RunResult, Status, WaitResult, Whose};

use crate::fake_containerd::{How, Script, Step};
use crate::kernel::kernel;
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

/// Whether the kernel tells the exit code of a process that containerd has lost: since Linux 6.15.
fn kernel_keeps_exit_codes() -> bool {
    kernel() >= (6, 15)
}

/// A driver whose subscription breaks and is never made again.
async fn without_events(rig: &Rig) {
    break_always(rig, "Events/Subscribe", broken);
    eventually("the first subscription", || rig.fake.subscribers() == 1).await;
    rig.fake.break_events();
    eventually("its end", || rig.fake.subscribers() == 0).await;
}

async fn ends_with_7(rig: &Rig) -> RunResult {
    ends_with_7_after(rig, Duration::ZERO).await
}

async fn ends_with_7_after(rig: &Rig, time: Duration) -> RunResult {
    rig.fake.script(Script {
        exit_status: 7,
        ..Script::steps([Step::Sleep(time), Step::Out(b"bye".to_vec())])
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
    assert_eq!(rig.retries("event_stream"), 1);
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
    // Long enough for the fourth question to be asked before the process is gone, which is learned without an answer.
    let ended = ends_with_7_after(&rig, Duration::from_secs(1)).await;
    assert_eq!(ended.exit_code(), Some(7));
    let waits = rig.fake.calls().into_iter().filter(|call| call == "Tasks/Wait");
    assert_eq!(waits.count(), 4);
    assert_eq!(rig.retries("exit_wait"), 3);
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
    assert_eq!(asked.count(), if kernel_keeps_exit_codes() { 1 } else { 4 });
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
    let code = kernel_keeps_exit_codes().then_some(7);
    assert_eq!((result.status(), result.exit_code()), (Status::Error, code));
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

/// A container that runs on a host where nothing of its cgroup is left at its end, as under systemd: the processes here
/// are in the test's own cgroup, which is nobody's container.
async fn running(rig: &Rig, id: &str) -> (Box<dyn Cookie>, Box<dyn WaitResult>) {
    eventually("the subscription", || rig.fake.subscribers() == 1).await;
    rig.fake.script(crate::rig::forever());
    let cookie = rig.created(id).await;
    let running = cookie.run(&Context::new()).await.unwrap();
    (cookie, running)
}

/// Longer than a container idles before the wait for its end is taken back.
const IDLED: Duration = Duration::from_millis(2500);

fn count(rig: &Rig, call: &str) -> usize {
    let calls = rig.fake.calls();
    calls.iter().filter(|made| *made == call).count()
}

#[tokio::test]
async fn of_what_has_idled_no_reply_is_waited_for_and_the_vanished_process_makes_containerd_be_asked() {
    let rig = Rig::warm().await;
    let (cookie, running) = running(&rig, "c1").await;
    without_events(&rig).await;
    tokio::time::sleep(IDLED).await;
    assert_eq!((count(&rig, "Tasks/Wait"), count(&rig, "Tasks/Get")), (1, 0));
    rig.fake.kill_behind("c1");
    let result = running.wait(&Context::timeout(LONG)).await;
    assert_eq!((result.status(), result.exit_code()), (Status::Killed, Some(137)));
    // A reply that was still waited for would have told it without a question.
    assert_eq!(count(&rig, "Tasks/Wait"), 1);
    assert!(count(&rig, "Tasks/Get") > 0);
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("an end after idling").await;
    rig.end().await;
}

#[tokio::test]
async fn the_end_of_what_has_idled_is_told_by_its_event_too() {
    let rig = Rig::warm().await;
    let (cookie, running) = running(&rig, "c1").await;
    break_always(&rig, "Tasks/Get", broken);
    tokio::time::sleep(IDLED).await;
    rig.fake.kill_behind("c1");
    let result = running.wait(&Context::timeout(LONG)).await;
    assert_eq!((result.status(), result.exit_code()), (Status::Killed, Some(137)));
    assert_eq!(count(&rig, "Tasks/Wait"), 1);
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("an end after idling").await;
    rig.end().await;
}

#[track_caller]
fn assert_out_of_memory(result: &RunResult) {
    let Some(RunError::OutOfMemory(oom)) = result.error() else {
        panic!("{result:?}");
    };
    assert_eq!((result.status(), &oom.whose), (Status::Killed, &Whose::Unknown));
    assert_eq!(
        oom.to_string(),
        "out of memory: it is not known whose limit was hit"
    );
}

#[tokio::test]
async fn memory_ran_out_when_containerd_saw_it_and_the_cgroup_is_gone() {
    let rig = Rig::warm().await;
    let (cookie, running) = running(&rig, "c1").await;
    rig.fake.oom("c1");
    rig.fake.kill_behind("c1");
    let result = running.wait(&Context::timeout(LONG)).await;
    assert_out_of_memory(&result);
    assert_eq!(result.exit_code(), Some(137));
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("memory that ran out").await;
    rig.end().await;
}

#[tokio::test]
async fn memory_ran_out_also_when_containerd_tells_it_after_the_exit() {
    let rig = Rig::warm().await;
    let (cookie, running) = running(&rig, "c1").await;
    rig.fake.kill_behind("c1");
    // The exit is on its way, and was told before this is.
    let late = async { rig.fake.oom("c1") };
    let ctx = Context::timeout(LONG);
    let (result, ()) = tokio::join!(running.wait(&ctx), late);
    assert_out_of_memory(&result);
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("memory that ran out").await;
    rig.end().await;
}

#[tokio::test]
async fn a_child_that_was_killed_for_memory_is_told_though_its_function_ended_well() {
    let rig = Rig::warm().await;
    eventually("the subscription", || rig.fake.subscribers() == 1).await;
    rig.fake
        .script(Script::steps([Step::Sleep(Duration::from_millis(100))]));
    let cookie = rig.created("c1").await;
    let running = cookie.run(&Context::new()).await.unwrap();
    rig.fake.oom("c1");
    let result = running.wait(&Context::timeout(LONG)).await;
    assert_out_of_memory(&result);
    assert_eq!(result.exit_code(), Some(0));
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("memory that ran out").await;
    rig.end().await;
}

#[tokio::test]
async fn memory_that_ran_out_elsewhere_explains_nothing_here() {
    let rig = Rig::warm().await;
    let (cookie, running) = running(&rig, "c1").await;
    let other = rig.created("c2").await;
    rig.fake.oom("c2");
    rig.fake.kill_behind("c1");
    let result = running.wait(&Context::timeout(LONG)).await;
    assert!(matches!(result.error(), Some(RunError::Killed)), "{result:?}");
    cookie.close(&Context::new()).await.unwrap();
    other.close(&Context::new()).await.unwrap();
    rig.assert_clean("memory that ran out elsewhere").await;
    rig.end().await;
}

#[tokio::test]
async fn an_earlier_life_that_ran_out_of_memory_is_not_the_later_ones_reason() {
    let rig = Rig::warm().await;
    let (cookie, first) = running(&rig, "c1").await;
    rig.fake.oom("c1");
    rig.fake.kill_behind("c1");
    assert_out_of_memory(&first.wait(&Context::timeout(LONG)).await);
    cookie.close(&Context::new()).await.unwrap();
    let (cookie, second) = running(&rig, "c1").await;
    rig.fake.kill_behind("c1");
    let result = second.wait(&Context::timeout(LONG)).await;
    assert!(matches!(result.error(), Some(RunError::Killed)), "{result:?}");
    cookie.close(&Context::new()).await.unwrap();
    rig.end().await;
}
