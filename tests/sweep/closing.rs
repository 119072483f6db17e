//! Closing: a container whatever its state and the caller's, and the driver while things go on.

use std::time::Duration;

use fnctr::driver::{Cookie, Driver, ErrorKind};
use fnctr::{ContainerdDriver, Context};
use tokio::time::Instant;

use crate::fake_containerd::How;
use crate::rig::{GRACE, LONG, Rig, config, eventually, forever, side_by_side};
use crate::ways::Way;

fn cancelled() -> Context {
    let ctx = Context::new();
    ctx.cancel();
    ctx
}

async fn running(rig: &Rig, id: &str) -> Box<dyn Cookie> {
    rig.fake.script_of(id, forever());
    let cookie = rig.created(id).await;
    cookie.run(&Context::new()).await.unwrap();
    cookie
}

#[tokio::test]
async fn a_caller_whose_time_is_over_can_still_close() {
    let rig = Rig::warm().await;
    for over in [cancelled(), Context::timeout(Duration::ZERO)] {
        running(&rig, "c1").await.close(&over).await.unwrap();
        rig.assert_clean("a close under a context that has ended").await;
        rig.created("c1").await.close(&over).await.unwrap();
        rig.assert_clean("a close of what was only created").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_close_that_nobody_waits_for_goes_on_to_its_end() {
    let rig = Rig::warm().await;
    for call in [
        "Tasks/Kill",
        "Tasks/Delete",
        "Snapshots/Remove",
        "Containers/Delete",
    ] {
        let cookie = running(&rig, "c1").await;
        let arrived = Context::new();
        rig.fake.faults().break_call(call, 1, Way::Cancel.how(&arrived));
        let ctx = Context::new();
        tokio::select! {
            biased;
            _ = arrived.done() => {}
            _ = cookie.close(&ctx) => panic!("{call} never came"),
        }
        drop(cookie);
        rig.until_clean(&format!("a close that was dropped at {call}"))
            .await;
    }
    rig.end().await;
}

#[tokio::test]
async fn closes_at_the_same_time_are_one() {
    let rig = Rig::warm().await;
    let cookie = running(&rig, "c1").await;
    rig.fake.faults().reset();
    let ctx = Context::new();
    let (one, two, three) = tokio::join!(cookie.close(&ctx), cookie.close(&ctx), cookie.close(&ctx));
    one.unwrap();
    two.unwrap();
    three.unwrap();
    let deletes = rig
        .fake
        .calls()
        .into_iter()
        .filter(|call| call == "Containers/Delete");
    assert_eq!(deletes.count(), 1);
    rig.assert_clean("three closes at once").await;
    rig.end().await;
}

async fn meet(rig: &Rig, call: &str, way: Way, frozen: bool) {
    let what = format!("a close with {call} broken by {way:?}");
    let cookie = running(rig, "c1").await;
    if frozen {
        cookie.freeze(&Context::new()).await.unwrap();
    }
    rig.fake.faults().reset();
    rig.fake.faults().break_call(call, 1, way.how(&Context::new()));
    let closed = cookie.close(&Context::new()).await;
    closed.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(rig.fake.faults().unmet(), 0, "{what}: no call met it");
    rig.assert_clean(&what).await;
}

#[tokio::test]
async fn a_running_container_is_removed_whichever_call_of_its_close_breaks() {
    let calls = [
        "Tasks/Kill",
        "Tasks/Get",
        "Tasks/Delete",
        "Snapshots/Remove",
        "Containers/Delete",
    ];
    let cases = || calls.into_iter().flat_map(|call| [(call, false), (call, true)]);
    let rig = Rig::warm().await;
    for (call, frozen) in cases() {
        for way in Way::OF_CONTAINERD {
            meet(&rig, call, way, frozen).await;
        }
    }
    rig.end().await;
    let hanging = cases().map(|(call, frozen)| async move {
        let rig = Rig::warm().await;
        meet(&rig, call, Way::Hang, frozen).await;
        rig.end().await;
    });
    side_by_side(hanging).await;
}

#[tokio::test]
async fn a_driver_ends_within_a_bound_while_a_function_runs_with_its_streams_attached() {
    let rig = Rig::warm().await;
    let cookie = running(&rig, "c1").await;
    let begun = Instant::now();
    rig.driver.close(&Context::timeout(LONG)).await.unwrap();
    assert!(begun.elapsed() < GRACE, "{:?}", begun.elapsed());
    assert_eq!(rig.fake.world().tasks, ["sweep/c1"], "what runs goes on");
    // And it can still be removed by who holds it.
    cookie.close(&Context::new()).await.unwrap();
    rig.assert_clean("a close after the driver's").await;
    rig.end().await;
}

#[tokio::test]
async fn a_driver_ends_within_a_bound_while_containerd_does_not_answer() {
    for call in ["Tasks/CloseIO", "Tasks/Wait", "Events/Subscribe"] {
        let rig = Rig::start().await;
        rig.fake.faults().break_call(call, 1, How::Hang);
        if call == "Events/Subscribe" {
            rig.fake.break_events();
            eventually("the subscription that hangs", || rig.fake.faults().unmet() == 0).await;
        }
        let cookie = running(&rig, "c1").await;
        eventually(call, || rig.fake.faults().unmet() == 0).await;
        let begun = Instant::now();
        rig.driver.close(&Context::timeout(LONG)).await.unwrap();
        assert!(begun.elapsed() < 2 * GRACE, "{call}: {:?}", begun.elapsed());
        cookie.close(&Context::new()).await.unwrap();
        rig.assert_clean(call).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_driver_that_could_not_be_made_and_one_that_nobody_closed_leave_no_subscription() {
    let rig = Rig::start().await;
    eventually("the driver's subscription", || rig.fake.subscribers() == 1).await;
    let (mut old, settings) = config(&rig.fake, rig.run.path(), "two");
    old.server_version = "99.0.0".into();
    let error = ContainerdDriver::connect(&Context::new(), old, settings)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}");
    let other = rig.another("two").await;
    drop(other);
    // The fake notices that a subscriber went away when it has something to tell it.
    rig.live_well("c1").await;
    eventually("the end of subscriptions that nobody needs", || {
        rig.fake.subscribers() == 1
    })
    .await;
    rig.end().await;
}

#[tokio::test]
async fn a_cookie_closes_when_containerd_is_gone_and_says_so() {
    let rig = Rig::warm().await;
    let cookie = running(&rig, "c1").await;
    rig.fake.stop();
    let error = cookie.close(&Context::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.report().starts_with("cannot remove c1: "), "{error:?}");
    let result = rig.live(&Context::timeout(LONG), "c2").await;
    assert_eq!(result.ran.unwrap_err().kind(), ErrorKind::Unavailable);
    result.closed.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_close_while_the_container_is_being_created_removes_it() {
    let rig = Rig::warm().await;
    for call in ["Containers/Create", "Snapshots/Prepare", "Tasks/Create"] {
        let (cookie, _) = rig.cookie("c1").await;
        let ctx = Context::timeout(LONG);
        cookie.validate_image(&ctx).await.unwrap();
        let arrived = Context::new();
        rig.fake.faults().break_call(call, 1, Way::Cancel.how(&arrived));
        let (created, closed) = tokio::join!(cookie.create_container(&ctx), async {
            arrived.done().await;
            cookie.close(&ctx).await
        });
        assert_eq!(created.unwrap_err().kind(), ErrorKind::Cancelled, "{call}");
        closed.unwrap();
        rig.assert_clean(&format!("a close during {call}")).await;
        let late = cookie.run(&ctx).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::OutOfOrder);
    }
    rig.end().await;
}

#[tokio::test]
async fn a_cookie_that_is_dropped_without_a_close_is_closed_and_one_that_was_taken_over_is_nobody_elses() {
    let rig = Rig::warm().await;
    drop(running(&rig, "c1").await);
    rig.until_clean("a cookie that was dropped").await;

    let owner = running(&rig, "c1").await;
    let next = rig.another("one").await;
    let id = fnctr::ContainerId::new("c1").unwrap();
    drop(next.adopt(&Context::new(), &id).await.unwrap());
    assert_eq!(
        rig.fake.world().tasks,
        ["sweep/c1"],
        "looking at it has not ended it"
    );
    let adopted = next.adopt(&Context::new(), &id).await.unwrap();
    adopted.cookie.close(&Context::new()).await.unwrap();
    assert_eq!(adopted.running.wait(&Context::new()).await.exit_code(), Some(137));
    rig.assert_clean("a close of what was taken over").await;
    owner.close(&Context::new()).await.unwrap();
    next.close(&Context::new()).await.unwrap();
    rig.end().await;
}
