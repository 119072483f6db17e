//! What a driver counts is what has happened.

use fnctr::driver::Status;

use crate::world::{Stage, ctx};

/// The value of a line of the metrics.
fn value(text: &str, line: &str) -> Option<f64> {
    let found = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map(|value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_calls_freezes_and_ends_are_counted() {
    let Some(stage) = Stage::set("lives_calls_freezes_and_ends").await else {
        return;
    };
    let count = |line: &str| value(&stage.driver.metrics(), line).unwrap_or_default();
    let created = "fnctr_phase_seconds_count{phase=\"create\",outcome=\"ok\"}";
    let removed = "fnctr_phase_seconds_count{phase=\"remove\",outcome=\"ok\"}";
    let calls = "fnctr_containerd_call_seconds_count{call=\"Tasks/Create\",answer=\"ok\"}";
    let failed = "fnctr_container_ends_total{how=\"failed\"}";
    let killed = "fnctr_container_ends_total{how=\"killed\"}";
    let (lives, sent, gone) = (count(created), count(calls), count(removed));

    let lived = stage.life(stage.task("/bin/false"), None).await.expect("a life");
    assert!(matches!(lived.status(), Status::Error), "{lived:?}");
    let (cookie, wait) = crate::world::started(&stage.driver, stage.task("/bin/sleep 60"), "sleep 60").await;
    cookie.freeze(&ctx()).await.expect("to freeze");
    cookie.unfreeze(&ctx()).await.expect("to thaw");
    cookie.close(&ctx()).await.expect("to close");
    drop(wait.wait(&ctx()).await);

    assert_eq!((count(created), count(calls)), (lives + 2.0, sent + 2.0));
    assert_eq!(count(removed), gone + 2.0, "each by the close of its cookie");
    assert_eq!(count("fnctr_freeze_seconds_count"), 1.0);
    assert_eq!(count("fnctr_thaw_seconds_count"), 1.0);
    assert_eq!((count(failed), count(killed)), (1.0, 1.0));
    let text = stage.driver.metrics();
    let seconds = value(&text, "fnctr_phase_seconds_sum{phase=\"create\",outcome=\"ok\"}");
    assert!(seconds.is_some_and(|seconds| seconds > 0.001), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    stage.strike().await;
}
