//! Crashes: of this process (containers are found by their labels), of containerd (exits are not lost).

use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Driver as _, ErrorKind, RunError, Status, Task};
use fnctr::{Adopted, ContainerId, Context};

use crate::kernel::kernel;
use crate::patience::patient;
use crate::world::{Stage, ctx};

#[tokio::test(flavor = "multi_thread")]
async fn a_later_process_finds_freezes_and_removes_what_runs() {
    let Some(stage) = Stage::set("a_later_process_finds").await else {
        return;
    };
    let earlier = stage.another(|_| {}).await.expect("a driver");
    let task = Task {
        id: "orphan".into(),
        ..stage.task("/bin/sleep 60")
    };
    let lost = earlier
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    lost.validate_image(&ctx()).await.expect("an image");
    lost.create_container(&ctx()).await.expect("a container");
    lost.run(&ctx()).await.expect("a start");
    // A process that dies runs no destructors.
    std::mem::forget(lost);

    let id = ContainerId::new("orphan").expect("an id");
    let Adopted {
        cookie: found,
        running,
    } = stage.driver.adopt(&ctx(), &id).await.expect("to be found");
    found.freeze(&ctx()).await.expect("to freeze");
    found.unfreeze(&ctx()).await.expect("to thaw");
    found.freeze(&ctx()).await.expect("to freeze");
    found.close(&ctx()).await.expect("to be removed, frozen as it is");
    assert_eq!(running.wait(&ctx()).await.exit_code(), Some(137));
    let gone = stage.driver.adopt(&ctx(), &id).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    stage.strike().await;
    drop(earlier);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_another_instance_are_removed_and_our_own_survive() {
    let tagged = |instance: &'static str| {
        move |config: &mut fnctr::driver::Config| {
            config.container_label_tag = "fnctr-test".into();
            config.instance_id = instance.into();
        }
    };
    let Some(stage) = Stage::with("containers_of_another_instance", tagged("ours")).await else {
        return;
    };
    let theirs = stage.another(tagged("theirs")).await.expect("a driver");
    let mut kept = Vec::new();
    for (driver, id) in [(&theirs, "old-1"), (&theirs, "old-2"), (&stage.driver, "own-1")] {
        let task = Task {
            id: id.into(),
            ..stage.task("/bin/sleep 60")
        };
        let cookie = driver
            .create_cookie(&ctx(), Arc::new(task))
            .await
            .expect("a cookie");
        cookie.validate_image(&ctx()).await.expect("an image");
        cookie.create_container(&ctx()).await.expect("a container");
        cookie.run(&ctx()).await.expect("a start");
        if id == "old-2" {
            cookie.freeze(&ctx()).await.expect("to freeze");
        }
        kept.push(cookie);
    }
    let next = stage.another(tagged("ours")).await.expect("a driver");
    let gone = |id: &'static str| {
        let next = &next;
        async move {
            next.adopt(&ctx(), &ContainerId::new(id).expect("an id"))
                .await
                .is_err()
        }
    };
    let swept = async {
        while !(gone("old-1").await && gone("old-2").await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(patient(Duration::from_secs(20)), swept)
        .await
        .expect("to be removed in the background");
    assert!(!gone("own-1").await, "our own container must survive");
    for cookie in kept {
        cookie.close(&ctx()).await.expect("to close, also what is gone");
    }
    next.close(&ctx()).await.expect("to close");
    theirs.close(&ctx()).await.expect("to close");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_while_containerd_is_down_is_not_lost() {
    let Some(mut stage) = Stage::set("an_exit_while_containerd_is_down").await else {
        return;
    };
    let task = stage.task("/bin/sh /scripts/exit7");
    let cookie = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    let command = ["/bin/sh", "-c", "sleep 1; exit 7"].map(str::to_owned).to_vec();
    cookie
        .change_options(|options: &mut fnctr::ContainerOptions| options.config.command = Some(command))
        .expect("to change the command");
    cookie.validate_image(&ctx()).await.expect("an image");
    cookie.create_container(&ctx()).await.expect("a container");
    let wait = cookie.run(&ctx()).await.expect("a start");
    stage.real.crash();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stage.real.restart();
    let result = wait.wait(&ctx()).await;
    assert_eq!(result.status(), Status::Error, "{result:?}");
    // containerd 1.7 and newer take a shim whose process has ended for a leaked one and clear it away with its code. The
    // kernel keeps the code since Linux 6.15.
    let lost = matches!(result.error(), Some(RunError::Lost));
    let kept = result.exit_code() == Some(7);
    let knows = stage.real.version().starts_with("1.6") || kernel() >= (6, 15);
    assert!(kept || (lost && !knows), "{result:?}");
    cookie.close(&ctx()).await.expect("to close");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_stops_in_the_middle_is_unavailable_and_what_runs_can_still_be_frozen() {
    let Some(mut stage) = Stage::set("a_containerd_that_stops_in_the_middle").await else {
        return;
    };
    let cookie = stage
        .driver
        .create_cookie(&ctx(), Arc::new(stage.task("/bin/sleep 60")))
        .await
        .expect("a cookie");
    cookie.validate_image(&ctx()).await.expect("an image");
    cookie.create_container(&ctx()).await.expect("a container");
    cookie.run(&ctx()).await.expect("a start");
    stage.real.crash();
    cookie
        .freeze(&ctx())
        .await
        .expect("the kernel to freeze without containerd");
    cookie
        .unfreeze(&ctx())
        .await
        .expect("the kernel to thaw without containerd");
    let error = stage
        .life(stage.task("/bin/true"), None)
        .await
        .expect_err("nobody to create it");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    stage.real.restart();
    cookie
        .close(&ctx())
        .await
        .expect("to close after containerd is back");
    let lived = stage
        .life(stage.task("/bin/true"), None)
        .await
        .expect("life to go on");
    assert_eq!(lived.status(), Status::Success);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_cancelled_anywhere_leaves_nothing() {
    let Some(stage) = Stage::set("a_create_that_is_cancelled_anywhere").await else {
        return;
    };
    for after in [0, 1, 2, 4, 8, 16, 32, 64] {
        let cookie = stage
            .driver
            .create_cookie(&ctx(), Arc::new(stage.task("/bin/true")))
            .await
            .expect("a cookie");
        cookie.validate_image(&ctx()).await.expect("an image");
        let short = ctx();
        let created =
            tokio::time::timeout(Duration::from_millis(after), cookie.create_container(&short)).await;
        drop(created);
        cookie.close(&ctx()).await.expect("to close");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_anywhere_in_a_create_leaves_nothing() {
    let Some(stage) = Stage::set("a_deadline_that_passes_anywhere").await else {
        return;
    };
    let (mut late, mut made) = (0, 0);
    for nth in 0..100 {
        let cookie = stage
            .driver
            .create_cookie(&ctx(), Arc::new(stage.task("/bin/true")))
            .await
            .expect("a cookie");
        cookie.validate_image(&ctx()).await.expect("an image");
        let short = Context::timeout(Duration::from_millis(8 + nth * 82 / 100));
        match cookie.create_container(&short).await {
            Ok(()) => made += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
                late += 1;
            }
        }
        cookie.close(&short).await.expect("to close");
    }
    eprintln!("{late} deadlines passed in a create, {made} did not");
    assert!(late > 10, "{late}");
    stage.strike().await;
}

/// A container that runs for a minute and that this process knows nothing of any more.
async fn abandoned(stage: &Stage) -> String {
    let task = stage.task("/bin/sleep 60");
    let id = task.id.clone();
    let (cookie, wait) = crate::world::started(&stage.driver, task, "sleep 60").await;
    // A process that dies runs no destructors.
    std::mem::forget((cookie, wait));
    id
}

/// Removes the files of a container's streams, which the command does not know: it has another directory for its own.
fn forget_files(stage: &Stage, id: &str) {
    let dir = stage.real.dir().join("run").join(stage.real.namespace());
    drop(std::fs::remove_dir_all(dir.join(id)));
}

/// What the command says, and whether it succeeded.
fn said(stage: &Stage, args: &[&str]) -> (bool, String) {
    let done = crate::cli::fnctr(stage, args).output().expect("to run fnctr");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_containerd_has_lost_is_called_so_and_can_be_killed_and_removed() {
    let Some(mut stage) = Stage::set("what_containerd_has_lost").await else {
        return;
    };
    let killed = abandoned(&stage).await;
    let removed = abandoned(&stage).await;
    // Under a minute old, but older than any create takes.
    tokio::time::sleep(Duration::from_secs(6)).await;
    stage.real.crash();
    // As `rm -rf` does it, past what is busy.
    let state = stage.real.dir().join("state");
    let gone = std::process::Command::new("rm").arg("-rf").arg(&state).output();
    drop(gone.expect("to run rm"));
    stage.real.restart();
    // containerd 2 ends what it finds a part of a bundle of.
    if !stage.real.version().starts_with("1.") {
        for id in [&killed, &removed] {
            let (_, listed) = said(&stage, &["ps", "--all", "--filter", &format!("name={id}")]);
            assert!(listed.contains(" dead "), "{listed}");
            let (done, why) = said(&stage, &["rm", id]);
            assert!(done, "{why}");
            forget_files(&stage, id);
        }
        return stage.strike().await;
    }
    let (_, listed) = said(&stage, &["ps"]);
    for id in [&killed, &removed] {
        let line = listed.lines().find(|line| line.starts_with(id.as_str()));
        assert!(
            line.is_some_and(|line| line.contains(" lost ")),
            "{listed}{}",
            said(&stage, &["ps", "--all"]).1
        );
    }
    let (done, why) = said(&stage, &["rm", &removed]);
    assert!(!done && why.contains("--force"), "{why}");
    let (done, why) = said(&stage, &["kill", "--signal", "TERM", &killed]);
    assert!(!done && why.contains("only SIGKILL"), "{why}");
    let (done, why) = said(&stage, &["kill", "--signal", "KILL", &killed]);
    assert!(done, "{why}");
    let dead = async {
        while !said(&stage, &["ps", "--all"]).1.contains(" dead ") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(patient(Duration::from_secs(20)), dead)
        .await
        .expect("the killed one to be dead");
    for (id, args) in [(&killed, &["rm"][..]), (&removed, &["rm", "-f"])] {
        let (done, why) = said(&stage, &[args, &[id.as_str()]].concat());
        assert!(done, "{why}");
        forget_files(&stage, id);
    }
    // The rest of what `rm` left of its state is containerd's own to remove, when it starts.
    stage.real.crash();
    stage.real.restart();
    stage.strike().await;
}

/// Removes the record under a container, which containerd allows.
async fn forget_record(stage: &Stage, id: &str) {
    let address = stage.real.address();
    let connector = tower::service_fn(move |_| {
        let address = address.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(address).await;
            stream.map(hyper_util::rt::TokioIo::new)
        }
    });
    let channel = containerd_client::tonic::transport::Endpoint::from_static("http://containerd")
        .connect_with_connector(connector)
        .await
        .expect("containerd");
    let message = containerd_client::services::v1::DeleteContainerRequest { id: id.to_owned() };
    let mut request = containerd_client::tonic::Request::new(message);
    let namespace = stage.real.namespace().parse().expect("a header");
    request.metadata_mut().insert("containerd-namespace", namespace);
    containerd_client::services::v1::containers_client::ContainersClient::new(channel)
        .delete(request)
        .await
        .expect("to delete the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_record_stands_for_is_removed_by_the_next_start_and_by_its_name() {
    let Some(mut stage) = Stage::set("what_no_record_stands_for").await else {
        return;
    };
    for by_name in [false, true] {
        for restarted in [false, true] {
            let (id, kept) = (abandoned(&stage).await, abandoned(&stage).await);
            forget_record(&stage, &id).await;
            if restarted {
                stage.real.crash();
                stage.real.restart();
            }
            if by_name {
                let (done, why) = said(&stage, &["rm", "-f", &id]);
                assert!(done, "{why}");
            } else {
                let next = stage.another(|_| {}).await.expect("a driver");
                // What it has begun is ended before it closes.
                next.close(&ctx()).await.expect("to close");
            }
            let (_, listed) = said(&stage, &["ps"]);
            assert!(listed.contains(&format!("{kept} ")), "{listed}");
            let (done, why) = said(&stage, &["rm", "-f", &kept]);
            assert!(done, "{why}");
            forget_files(&stage, &kept);
            if by_name {
                forget_files(&stage, &id);
            }
            stage.before.assert_same().await;
            // And the name is free.
            let again = Task {
                id,
                ..stage.task("/bin/true")
            };
            let lived = stage.life(again, None).await.expect("another life of the name");
            assert_eq!(lived.status(), Status::Success);
        }
    }
    let (done, why) = said(&stage, &["rm", "nobody"]);
    assert!(!done && why.contains("no such container"), "{why}");
    stage.strike().await;
}
