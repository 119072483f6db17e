//! The end of a cookie, and the names of containers.

use std::sync::Arc;
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{ErrorKind, Status, Task};

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
