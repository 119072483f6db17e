//! The end of a cookie, and the names of containers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{ContainerTask as _, ErrorKind, RunError, Status, Task};

use super::Verdict;
use super::world::{World, assert_kind, assert_was_closed, close, cookie, created, ctx, started};
use crate::patience::patient;

/// How far a cookie goes before it is closed.
const PHASES: [&str; 6] = ["fresh", "validated", "created", "running", "frozen", "exited"];

pub(super) async fn closing_works_in_every_phase_and_twice(world: Arc<dyn World>) -> Verdict {
    let before = world.census().await;
    for (reached, phase) in PHASES.into_iter().enumerate() {
        let command = if phase == "exited" {
            "/bin/true"
        } else {
            "/bin/sleep 60"
        };
        let closed = cookie(&world, world.task(command)).await;
        if reached >= 1 {
            assert!(!closed.validate_image(&ctx()).await.expect("to validate"));
        }
        if reached >= 2 {
            closed.create_container(&ctx()).await.expect("to create");
        }
        if reached >= 3 {
            let wait = closed.run(&Context::new()).await.expect("to run");
            match phase {
                "frozen" => closed.freeze(&ctx()).await.expect("to freeze"),
                "exited" => assert_eq!(wait.wait(&ctx()).await.status(), Status::Success),
                _ => {}
            }
        }
        closed
            .close(&ctx())
            .await
            .unwrap_or_else(|error| panic!("closing what is {phase}: {error:?}"));
        assert_eq!(world.census().await, before, "left behind by what was {phase}");
        closed
            .close(&ctx())
            .await
            .unwrap_or_else(|error| panic!("again, {phase}: {error:?}"));
    }
    Ok(())
}

pub(super) async fn closing_ends_what_runs_and_whoever_waits(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/sleep 60")).await;
    let ctx = ctx();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        close(cookie).await;
    };
    let (result, ()) = tokio::join!(wait.wait(&ctx), closing);
    assert_was_closed(&result);
    Ok(())
}

pub(super) async fn a_name_that_lives_is_not_given_twice(world: Arc<dyn World>) -> Verdict {
    let task = world.task("/bin/sleep 60");
    let id = task.id.clone();
    let (winner, wait) = started(&world, task).await;
    let rival = Task {
        id: id.clone(),
        ..world.task("/bin/true")
    };
    let loser = cookie(&world, rival).await;
    assert!(!loser.validate_image(&ctx()).await.expect("to validate"));
    let error = loser.create_container(&ctx()).await.expect_err("to fail");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.report().contains(&id), "{error:?}");
    // The loser takes nothing of the winner's with it.
    close(loser).await;
    let result = wait.wait(&Context::timeout(Duration::from_millis(200))).await;
    assert_eq!(
        result.status(),
        Status::Timeout,
        "the winner runs no more: {result:?}"
    );
    winner.freeze(&ctx()).await.expect("to freeze the winner");
    close(winner).await;
    Ok(())
}

pub(super) async fn a_name_is_free_after_close(world: Arc<dyn World>) -> Verdict {
    let id = world.fresh_id();
    for _ in 0..3 {
        let task = Task {
            id: id.clone(),
            ..world.task("/bin/true")
        };
        let again = created(&world, task).await;
        let wait = again.run(&Context::new()).await.expect("to run");
        assert_eq!(wait.wait(&ctx()).await.status(), Status::Success);
        close(again).await;
    }
    // A name that was refused can be had once it is free.
    let task = |command| Task {
        id: id.clone(),
        ..world.task(command)
    };
    let (holder, wait) = started(&world, task("/bin/sleep 60")).await;
    let patient = cookie(&world, task("/bin/true")).await;
    assert!(!patient.validate_image(&ctx()).await.expect("to validate"));
    assert_kind(
        "taken",
        patient.create_container(&ctx()).await,
        ErrorKind::Conflict,
    );
    close(holder).await;
    drop(wait);
    patient.create_container(&ctx()).await.expect("to create at last");
    close(patient).await;
    Ok(())
}

pub(super) async fn a_dropped_step_is_finished_or_undone(world: Arc<dyn World>) -> Verdict {
    let before = world.census().await;
    for ms in [0, 1, 3, 10, 30, 100] {
        let dropped = cookie(&world, world.task("/bin/sleep 60")).await;
        assert!(!dropped.validate_image(&ctx()).await.expect("to validate"));
        let both = async {
            dropped.create_container(&ctx()).await.expect("to create");
            dropped.run(&Context::new()).await.map(drop).expect("to run");
        };
        // Whether it was done in time is not the question; what close leaves is.
        drop(tokio::time::timeout(Duration::from_millis(ms), both).await);
        close(dropped).await;
        assert_eq!(
            world.census().await,
            before,
            "left behind by a step that was dropped after {ms} ms"
        );
    }
    Ok(())
}

pub(super) async fn closing_does_not_wait_for_a_step_that_nobody_polls(world: Arc<dyn World>) -> Verdict {
    let held = cookie(&world, world.task("/bin/true")).await;
    let patience = ctx();
    let mut step = Box::pin(held.validate_image(&patience));
    // Begun, kept, and not polled again, as a host does that selects over it and something else.
    drop(tokio::time::timeout(Duration::ZERO, &mut step).await);
    tokio::time::timeout(patient(Duration::from_secs(20)), held.close(&ctx()))
        .await
        .expect("close to end")
        .expect("to close");
    drop(step);
    Ok(())
}

pub(super) async fn closing_a_cookie_cleans_up_after_its_task(world: Arc<dyn World>) -> Verdict {
    let task = world.task("/bin/true");
    let cleaned = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&cleaned);
    task.wrap_close(Box::new(move |inner| {
        Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            inner();
        })
    }));
    let closed = created(&world, task).await;
    assert_eq!(cleaned.load(Ordering::SeqCst), 0, "it is not over yet");
    closed.close(&ctx()).await.expect("to close");
    closed.close(&ctx()).await.expect("to close again");
    assert_eq!(cleaned.load(Ordering::SeqCst), 1);
    Ok(())
}

pub(super) async fn a_closed_driver_refuses_everything_but_the_close_of_a_cookie(
    world: Arc<dyn World>,
) -> Verdict {
    let before = world.census().await;
    let driver = world.another().await;
    // How far each goes before the driver is closed.
    let mut cookies = Vec::new();
    for reached in 0..4 {
        let task = world.task("/bin/sleep 60");
        let cookie = driver
            .create_cookie(&ctx(), Arc::new(task))
            .await
            .expect("a cookie");
        if reached >= 1 {
            assert!(!cookie.validate_image(&ctx()).await.expect("to validate"));
        }
        if reached >= 2 {
            cookie.create_container(&ctx()).await.expect("to create");
        }
        cookies.push(cookie);
    }
    let [fresh, valid, created, running] = &cookies[..] else {
        unreachable!("four were made")
    };
    let wait = running.run(&Context::new()).await.expect("to run");
    let patience = ctx();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        driver.close(&ctx()).await.expect("to close the driver");
    };
    let (result, ()) = tokio::join!(wait.wait(&patience), closing);
    let tells = |result: &fnctr::driver::RunResult| {
        assert!(
            matches!(result.error(), Some(RunError::DriverClosed)),
            "{result:?}"
        );
        assert_eq!(
            (result.status(), result.exit_code()),
            (Status::Error, None),
            "{result:?}"
        );
    };
    tells(&result);

    let closed = ErrorKind::Unavailable;
    let late = driver
        .create_cookie(&ctx(), Arc::new(world.task("/bin/true")))
        .await;
    let error = late.map(drop).expect_err("a closed driver makes no cookies");
    assert_eq!(
        (error.kind(), error.report().as_str()),
        (closed, "the driver is closed")
    );
    assert_kind("validate", fresh.validate_image(&ctx()).await, closed);
    assert_kind("pull", valid.pull_image(&ctx()).await, closed);
    assert_kind("change", world.touch_options(&**valid), closed);
    assert_kind("create", valid.create_container(&ctx()).await, closed);
    assert_kind("run", created.run(&ctx()).await, closed);
    assert_kind("freeze", running.freeze(&ctx()).await, closed);
    assert_kind("unfreeze", running.unfreeze(&ctx()).await, closed);
    tells(&wait.wait(&ctx()).await);
    driver.close(&ctx()).await.expect("to close the driver again");

    for cookie in &cookies {
        for _ in 0..2 {
            cookie.close(&ctx()).await.expect("to close what it has left");
        }
    }
    assert_eq!(world.census().await, before, "left behind by a closed driver");
    tells(&wait.wait(&ctx()).await);
    Ok(())
}
