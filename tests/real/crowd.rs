//! Much at once, and much through one pipe.

use std::sync::Arc;

use fnctr::driver::{Driver as _, Input, Status, Task};

use crate::world::{Stage, captured, ctx, live};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_arrive_complete_and_in_order() {
    let Some(stage) = Stage::set("a_hundred_megabytes").await else {
        return;
    };
    let (output, said) = fnctr::driver::Output::capture(128 << 20);
    // Numbered lines of nine bytes: an order that is lost shows.
    let task = Task {
        stdout: output.into(),
        ..stage.task("")
    };
    let script = "seq 10000001 21700000";
    let result = stage.life(task, Some(script)).await.expect("a result");
    assert_eq!(result.status(), Status::Success, "{result:?}");
    let bytes = said.bytes();
    assert_eq!((bytes.len(), said.lost()), (105_300_000, 0));
    for (n, line) in (10_000_001u32..).zip(bytes.chunks_exact(9)) {
        assert!(
            line == format!("{n}\n").as_bytes(),
            "line {n} is {:?}",
            String::from_utf8_lossy(line)
        );
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_does_not_hold_up_the_end() {
    let Some(stage) = Stage::set("a_reader_that_never_reads").await else {
        return;
    };
    let (near, far) = tokio::io::duplex(16);
    let task = Task {
        stdout: fnctr::driver::Output::to_writer(near).into(),
        ..stage.task("/scripts/megabyte")
    };
    let cookie = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    cookie.validate_image(&ctx()).await.expect("an image");
    cookie.create_container(&ctx()).await.expect("a container");
    let wait = cookie.run(&ctx()).await.expect("a start");
    let short = fnctr::Context::timeout(std::time::Duration::from_secs(1));
    assert_eq!(wait.wait(&short).await.status(), Status::Timeout);
    // The reader is still there, and has not read.
    cookie.close(&ctx()).await.expect("to close");
    drop(far);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lives_at_once_leave_nothing() {
    let Some(stage) = Stage::set("many_lives_at_once").await else {
        return;
    };
    let stage = Arc::new(stage);
    let mut lives = tokio::task::JoinSet::new();
    for n in 0..24u32 {
        let stage = Arc::clone(&stage);
        lives.spawn(async move {
            let (output, said) = captured();
            let task = Task {
                input: Input::from_bytes(format!("input {n}")).into(),
                stdout: output.into(),
                ..stage.task("/bin/cat")
            };
            let cookie = stage
                .driver
                .create_cookie(&ctx(), Arc::new(task))
                .await
                .expect("a cookie");
            let result = live(cookie.as_ref(), None).await.expect("a result");
            cookie.close(&ctx()).await.expect("to close");
            assert_eq!(result.status(), Status::Success, "{result:?}");
            assert_eq!(said.text(), format!("input {n}"));
        });
    }
    while let Some(life) = lives.join_next().await {
        life.expect("a life");
    }
    Arc::into_inner(stage)
        .expect("all lives to be over")
        .strike()
        .await;
}
