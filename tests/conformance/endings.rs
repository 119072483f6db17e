//! How a run ends, and how it is waited for.

use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{RunResult, Status, Task};
use fnctr::{ByteSize, Context};

use super::Verdict;
use super::world::{Need, World, cancelled, close, created, ctx, late, need, script, started};

/// Runs a command to its end.
async fn ran(world: &Arc<dyn World>, command: &str) -> RunResult {
    let (cookie, wait) = started(world, world.task(command)).await;
    let result = wait.wait(&ctx()).await;
    close(cookie).await;
    result
}

#[track_caller]
fn assert_ended(result: &RunResult, status: Status, error: &str) {
    let said = result.error().map(ToString::to_string).unwrap_or_default();
    assert_eq!((result.status(), said.as_str()), (status, error), "{result:?}");
}

pub(super) async fn exit_code_0_is_success(world: Arc<dyn World>) -> Verdict {
    let result = ran(&world, "/bin/true").await;
    assert_ended(&result, Status::Success, "");
    assert_eq!(result.exit_code(), Some(0));
    Ok(())
}

pub(super) async fn another_exit_code_is_an_error(world: Arc<dyn World>) -> Verdict {
    let result = ran(&world, &script("exit7")).await;
    assert_ended(&result, Status::Error, "container exit code 7");
    assert_eq!(result.exit_code(), Some(7));
    assert_ended(
        &ran(&world, "/bin/false").await,
        Status::Error,
        "container exit code 1",
    );
    Ok(())
}

pub(super) async fn a_sigkill_is_not_blamed_on_memory(world: Arc<dyn World>) -> Verdict {
    let result = ran(&world, &script("killed")).await;
    assert_ended(&result, Status::Killed, "killed by signal 9, not by memory");
    assert_eq!(result.oom(), None);
    Ok(())
}

pub(super) async fn an_oom_kill_names_its_limit(world: Arc<dyn World>) -> Verdict {
    need(&world, Need::MemoryLimit)?;
    let task = Task {
        memory: 32 << 20,
        ..world.task(&script("oom"))
    };
    let (cookie, wait) = started(&world, task).await;
    let result = wait.wait(&ctx()).await;
    close(cookie).await;
    assert_ended(
        &result,
        Status::Killed,
        "out of memory: the container's own limit of 32m was hit",
    );
    assert_eq!(result.oom().and_then(|oom| oom.limit), Some(ByteSize(32 << 20)));
    Ok(())
}

pub(super) async fn a_passed_deadline_is_a_timeout(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/sleep 60")).await;
    let result = wait.wait(&Context::timeout(Duration::from_millis(200))).await;
    assert_ended(&result, Status::Timeout, "deadline exceeded");
    assert_eq!(result.exit_code(), None, "it has not ended");
    close(cookie).await;
    Ok(())
}

pub(super) async fn a_cancelled_wait_is_cancelled(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/sleep 60")).await;
    let ctx = Context::new();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ctx.cancel();
    };
    let (result, ()) = tokio::join!(wait.wait(&ctx), cancel);
    assert_ended(&result, Status::Cancelled, "cancelled");
    close(cookie).await;
    Ok(())
}

pub(super) async fn the_context_of_run_is_watched(world: Arc<dyn World>) -> Verdict {
    let cookie = created(&world, world.task("/bin/sleep 60")).await;
    let run = Context::new();
    let wait = cookie.run(&run).await.expect("to run");
    run.cancel();
    assert_ended(&wait.wait(&ctx()).await, Status::Cancelled, "cancelled");
    close(cookie).await;
    Ok(())
}

pub(super) async fn an_interruption_takes_back_a_success_but_not_a_failure(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/true")).await;
    assert_ended(&wait.wait(&ctx()).await, Status::Success, "");
    let result = wait.wait(&cancelled()).await;
    assert_ended(&result, Status::Cancelled, "cancelled");
    assert_eq!(result.exit_code(), Some(0));
    assert_ended(&wait.wait(&late()).await, Status::Timeout, "deadline exceeded");
    close(cookie).await;

    let (cookie, wait) = started(&world, world.task(&script("exit7"))).await;
    assert_ended(&wait.wait(&ctx()).await, Status::Error, "container exit code 7");
    assert_ended(
        &wait.wait(&cancelled()).await,
        Status::Error,
        "container exit code 7",
    );
    assert_ended(&wait.wait(&late()).await, Status::Error, "container exit code 7");
    close(cookie).await;
    Ok(())
}

pub(super) async fn waiting_twice_gives_the_same(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task(&script("exit7"))).await;
    let (one, ctx) = (ctx(), ctx());
    let (first, second) = tokio::join!(wait.wait(&one), wait.wait(&ctx));
    assert_ended(&first, Status::Error, "container exit code 7");
    assert_ended(&second, Status::Error, "container exit code 7");
    assert_ended(&wait.wait(&ctx).await, Status::Error, "container exit code 7");
    close(cookie).await;
    assert_ended(&wait.wait(&ctx).await, Status::Error, "container exit code 7");
    Ok(())
}

pub(super) async fn a_dropped_wait_is_harmless(world: Arc<dyn World>) -> Verdict {
    let (cookie, wait) = started(&world, world.task("/bin/sleep 1")).await;
    for _ in 0..3 {
        let dropped = tokio::time::timeout(Duration::from_millis(20), wait.wait(&Context::new())).await;
        assert!(dropped.is_err(), "it ended too early");
    }
    assert_ended(&wait.wait(&ctx()).await, Status::Success, "");
    close(cookie).await;
    Ok(())
}
