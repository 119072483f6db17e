//! Callers that give up, by dropping a future, by cancelling, by a deadline.

use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{ErrorKind, Status};

use crate::rig::{LONG, Rig, SAID, forever};
use crate::ways::Way;

#[tokio::test]
async fn a_create_that_is_dropped_at_any_of_its_calls_is_gone_after_close() {
    for first in [true, false] {
        let calls: &[&str] = if first {
            &["Leases/Create", "Snapshots/View", "Leases/Delete"]
        } else {
            &["Containers/Create", "Snapshots/Prepare", "Tasks/Create"]
        };
        for call in calls {
            let rig = if first {
                Rig::start().await
            } else {
                Rig::warm().await
            };
            let (cookie, _) = rig.cookie("c1").await;
            let ctx = Context::timeout(LONG);
            cookie.validate_image(&ctx).await.unwrap();
            let arrived = Context::new();
            rig.fake.faults().break_call(call, 1, Way::Cancel.how(&arrived));
            tokio::select! {
                biased;
                _ = arrived.done() => {}
                created = cookie.create_container(&ctx) => panic!("{call} never came: {created:?}"),
            }
            // Close waits for what is being undone, and removes what came to be all the same.
            cookie.close(&ctx).await.unwrap();
            rig.assert_clean(&format!("a create that was dropped at {call}"))
                .await;
            rig.live_well("c1").await;
            rig.end().await;
        }
    }
}

#[tokio::test]
async fn a_create_that_is_dropped_undoes_itself_without_a_close() {
    let rig = Rig::warm().await;
    for call in ["Containers/Create", "Snapshots/Prepare"] {
        let (cookie, _) = rig.cookie("c1").await;
        let ctx = Context::new();
        cookie.validate_image(&ctx).await.unwrap();
        let arrived = Context::new();
        rig.fake.faults().break_call(call, 1, Way::Cancel.how(&arrived));
        tokio::select! {
            biased;
            _ = arrived.done() => {}
            _ = cookie.create_container(&ctx) => panic!("{call} never came"),
        }
        rig.until_clean(call).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_validation_that_is_dropped_leaves_nothing_and_can_be_made_again() {
    let rig = Rig::start().await;
    let (cookie, said) = rig.cookie("c1").await;
    let ctx = Context::timeout(LONG);
    for call in ["Images/Get", "Content/Read", "Content/Info", "Snapshots/Stat"] {
        let arrived = Context::new();
        rig.fake.faults().break_call(call, 1, Way::Cancel.how(&arrived));
        tokio::select! {
            biased;
            _ = arrived.done() => {}
            _ = cookie.validate_image(&ctx) => panic!("{call} never came"),
        }
        rig.assert_clean(call).await;
    }
    let ran = crate::rig::run_through(cookie.as_ref(), &ctx).await.unwrap();
    assert_eq!((ran.status(), said.text().as_str()), (Status::Success, SAID));
    cookie.close(&ctx).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_run_that_is_dropped_is_gone_after_close() {
    let rig = Rig::warm().await;
    rig.fake.script(forever());
    let cookie = rig.created("c1").await;
    let ctx = Context::new();
    let arrived = Context::new();
    rig.fake
        .faults()
        .break_call("Tasks/Start", 1, Way::Cancel.how(&arrived));
    tokio::select! {
        biased;
        _ = arrived.done() => {}
        _ = cookie.run(&ctx) => panic!("Tasks/Start never came"),
    }
    cookie.close(&ctx).await.unwrap();
    rig.assert_clean("a run that was dropped").await;
    rig.end().await;
}

#[tokio::test]
async fn a_wait_that_is_dropped_is_as_if_it_had_never_been() {
    let rig = Rig::warm().await;
    let (cookie, said) = rig.cookie("c1").await;
    let ctx = Context::timeout(LONG);
    cookie.validate_image(&ctx).await.unwrap();
    cookie.create_container(&ctx).await.unwrap();
    let running = cookie.run(&ctx).await.unwrap();
    for _ in 0..20 {
        let wait = running.wait(&ctx);
        // Too early on purpose, at ever other moments of the function's end.
        drop(tokio::time::timeout(Duration::from_micros(300), wait).await);
    }
    for _ in 0..2 {
        let result = running.wait(&ctx).await;
        assert_eq!((result.status(), result.exit_code()), (Status::Success, Some(0)));
        assert_eq!(said.text(), SAID, "all output is there when the result is");
    }
    cookie.close(&ctx).await.unwrap();
    let after = running.wait(&ctx).await;
    assert_eq!(after.exit_code(), Some(0), "the exit is always the same");
    rig.assert_clean("waits that were dropped").await;
    rig.end().await;
}

#[tokio::test]
async fn a_context_that_has_ended_starts_nothing() {
    let rig = Rig::warm().await;
    let over = [Context::timeout(Duration::ZERO), Context::new()];
    over[1].cancel();
    for (ctx, kind) in over.iter().zip([ErrorKind::Timeout, ErrorKind::Cancelled]) {
        rig.fake.faults().reset();
        let cookie = rig.created("c1").await;
        rig.settled().await;
        rig.fake.faults().reset();
        assert_eq!(cookie.run(ctx).await.unwrap_err().kind(), kind);
        assert_eq!(rig.fake.calls(), Vec::<String>::new());
        cookie.close(ctx).await.unwrap();
        rig.assert_clean("a run under a context that has ended").await;
        rig.fake.faults().reset();
        let life = rig.live(ctx, "c1").await;
        assert_eq!(life.ran.unwrap_err().kind(), kind);
        life.closed.unwrap();
        assert_eq!(
            rig.fake.calls(),
            Vec::<String>::new(),
            "nothing is asked, so nothing is made"
        );
    }
    rig.end().await;
}

#[tokio::test]
async fn a_function_ends_for_its_waiter_when_its_context_does_and_for_containerd_when_it_is_closed() {
    let rig = Rig::warm().await;
    rig.fake.script(forever());
    for (status, end) in [(Status::Cancelled, true), (Status::Timeout, false)] {
        let cookie = rig.created("c1").await;
        let watched = if end {
            Context::new()
        } else {
            Context::timeout(Duration::from_millis(50))
        };
        let running = cookie.run(&watched).await.unwrap();
        if end {
            watched.cancel();
        }
        let result = running.wait(&Context::timeout(LONG)).await;
        assert_eq!((result.status(), result.exit_code()), (status, None));
        assert_eq!(rig.fake.world().tasks, ["sweep/c1"], "nobody has killed it");
        cookie.close(&watched).await.unwrap();
        rig.assert_clean("a function whose context ended").await;
    }
    rig.end().await;
}
