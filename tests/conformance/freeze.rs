//! Standing still.

use std::sync::Arc;
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{Captured, ErrorKind, Status};

use super::Verdict;
use super::world::{World, assert_was_closed, close, ctx, recorded, script, started};

/// Waits until a function has written more than `len` bytes.
async fn assert_goes_on(stdout: &Captured, len: usize) {
    for _ in 0..6000 {
        if stdout.len() > len {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it makes no progress");
}

/// What was under way when the function froze still arrives, however long a busy machine takes; after that, nothing may.
async fn assert_stands_still(stdout: &Captured) {
    for _ in 0..100 {
        let len = stdout.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if stdout.len() == len {
            return;
        }
    }
    panic!("it goes on while it is frozen");
}

pub(super) async fn a_frozen_function_makes_no_progress(world: Arc<dyn World>) -> Verdict {
    let (task, stdout, _) = recorded(&world, &script("counter"));
    let (cookie, wait) = started(&world, task).await;
    assert_goes_on(&stdout, 0).await;
    for _ in 0..3 {
        cookie.freeze(&ctx()).await.expect("to freeze");
        assert_stands_still(&stdout).await;
        let len = stdout.len();
        cookie.unfreeze(&ctx()).await.expect("to unfreeze");
        assert_goes_on(&stdout, len).await;
    }
    close(cookie).await;
    drop(wait);
    Ok(())
}

pub(super) async fn freezing_and_unfreezing_twice_is_fine(world: Arc<dyn World>) -> Verdict {
    let (task, stdout, _) = recorded(&world, &script("counter"));
    let (cookie, wait) = started(&world, task).await;
    cookie.unfreeze(&ctx()).await.expect("to unfreeze what runs");
    assert_goes_on(&stdout, 0).await;
    cookie.freeze(&ctx()).await.expect("to freeze");
    cookie.freeze(&ctx()).await.expect("to freeze what is frozen");
    assert_stands_still(&stdout).await;
    let len = stdout.len();
    // One is enough to undo two.
    cookie.unfreeze(&ctx()).await.expect("to unfreeze");
    assert_goes_on(&stdout, len).await;
    cookie.unfreeze(&ctx()).await.expect("to unfreeze what runs");
    close(cookie).await;
    drop(wait);
    Ok(())
}

pub(super) async fn a_frozen_function_can_be_waited_for_and_closed(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/sleep 60")).await;
    cookie.freeze(&ctx()).await.expect("to freeze");
    let result = wait.wait(&Context::timeout(Duration::from_millis(100))).await;
    assert_eq!(result.status(), Status::Timeout, "{result:?}");
    close(cookie).await;
    assert_was_closed(&wait.wait(&ctx()).await);
    Ok(())
}

pub(super) async fn closing_wins_over_a_storm_of_freezes(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/sleep 60")).await;
    let storm = async {
        loop {
            let frozen = cookie.freeze(&ctx()).await;
            let thawed = cookie.unfreeze(&ctx()).await;
            if let Err(error) = frozen.and(thawed) {
                let kinds = [ErrorKind::OutOfOrder, ErrorKind::NotFound];
                assert!(kinds.contains(&error.kind()), "{error:?}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let closing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cookie.close(&ctx()).await.expect("to close");
    };
    tokio::join!(storm, closing);
    assert_was_closed(&wait.wait(&ctx()).await);
    Ok(())
}
