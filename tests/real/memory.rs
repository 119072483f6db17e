//! Memory that runs out: in a child of a function that lives on, by the limit of a parent, and of a container as a whole.

use std::path::{Path, PathBuf};

use fnctr::driver::{Cookie, Driver as _, ErrorKind, RunError, Status, Task, Whose, metric};
use fnctr::{CgroupDriver, ContainerOptions};

use crate::stats::{Layout, Measured, get, say};
use crate::world::{Stage, cgroup_driver, ctx};

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_killed_for_memory_is_counted_while_its_function_lives_and_is_the_reason_of_its_end()
{
    const TEST: &str = "a_child_that_is_killed_for_memory";
    Layout::of_host(TEST);
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let task = || Task {
        memory: 24 << 20,
        ..stage.task("")
    };
    let measured = Measured::start(&stage, task(), "tail /dev/zero; sleep 600").await;
    let stat = measured
        .until("a kill", |stat| get(stat, metric::OOM_KILLS) > Some(0))
        .await;
    assert_eq!(get(&stat, metric::OOM_KILLS), Some(1), "{stat:?}");
    let later = measured.next().await;
    assert_eq!(get(&later, metric::OOM_KILLS), Some(1), "it lives on: {later:?}");
    measured.close().await;

    for code in [0, 3] {
        let (_, result) = stage.says(task(), &format!("tail /dev/zero; exit {code}")).await;
        assert_eq!(
            (result.status(), result.exit_code()),
            (Status::Killed, Some(code)),
            "{result:?}"
        );
        let Some(RunError::OutOfMemory(oom)) = result.error() else {
            panic!("{result:?}")
        };
        // Also where systemd has removed the kernel's record with the scope: the kernel's log has it.
        assert_eq!(oom.whose, Whose::Own, "{oom:?}");
        assert_eq!(
            oom.to_string(),
            "out of memory: the container's own limit of 24m was hit"
        );
    }
    stage.strike().await;
}

/// The cgroup above the stage's containers, with the file that limits its memory and what that says without a limit.
fn parent(stage: &Stage, layout: Layout) -> (PathBuf, &'static str, &'static str) {
    let namespace = stage.real.namespace();
    match layout {
        Layout::Unified => (Path::new("/sys/fs/cgroup").join(namespace), "memory.max", "max"),
        Layout::Hybrid | Layout::V1 => (
            Path::new("/sys/fs/cgroup/memory").join(namespace),
            "memory.limit_in_bytes",
            "-1",
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cgroup_above_whose_limit_was_hit_is_named() {
    const TEST: &str = "the_cgroup_above";
    let layout = Layout::of_host(TEST);
    if cgroup_driver() == CgroupDriver::Systemd {
        say(
            TEST,
            "SKIPPED: the cgroup above is a slice, whose limit is systemd's to set",
        );
        return;
    }
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let (dir, file, none) = parent(&stage, layout);
    std::fs::write(dir.join(file), "50331648").expect("to limit the parent");
    for (memory, name) in [
        (0, "without a limit of its own"),
        (512 << 20, "with a larger one"),
    ] {
        let task = Task {
            memory,
            ..stage.task("")
        };
        let (_, result) = stage.says(task, "exec tail /dev/zero").await;
        let Some(RunError::OutOfMemory(oom)) = result.error() else {
            panic!("{name}: {result:?}")
        };
        say(TEST, &format!("{name}: {oom}"));
        let Whose::Above { cgroup, limit } = &oom.whose else {
            panic!("{name}: {oom:?}")
        };
        assert_eq!(
            (cgroup, limit.map(|limit| limit.0)),
            (&dir, Some(48 << 20)),
            "{name}"
        );
        assert_eq!(
            oom.limit.map(|limit| limit.0),
            Some(memory).filter(|memory| *memory > 0)
        );
        // What happened to the parent once is not the reason for ever.
        std::fs::write(dir.join(file), none).expect("to lift the limit");
        let own = Task {
            memory: 32 << 20,
            ..stage.task("")
        };
        let (_, result) = stage.says(own, "exec tail /dev/zero").await;
        let Some(RunError::OutOfMemory(oom)) = result.error() else {
            panic!("{name}: {result:?}")
        };
        assert_eq!(oom.whose, Whose::Own, "{name}");
        std::fs::write(dir.join(file), "50331648").expect("to limit the parent");
    }
    std::fs::write(dir.join(file), none).expect("to lift the limit");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_dies_as_a_whole_where_the_kernel_can_and_is_refused_elsewhere() {
    const TEST: &str = "a_container_dies_as_a_whole";
    let layout = Layout::of_host(TEST);
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let task = || Task {
        memory: 24 << 20,
        ..stage.task("")
    };
    if layout == Layout::Unified {
        // Without it the shell outlives its child.
        let (said, result) = stage.says(task(), "tail /dev/zero; echo outlived").await;
        assert_eq!(
            (said.as_str(), result.exit_code()),
            ("outlived\n", Some(0)),
            "{result:?}"
        );
    }
    let (stdout, said) = fnctr::driver::Output::capture(1 << 10);
    let task = Task {
        stdout: stdout.into(),
        ..task()
    };
    let cookie = stage
        .driver
        .create_cookie(&ctx(), std::sync::Arc::new(task))
        .await
        .expect("a cookie");
    let command = ["/bin/sh", "-c", "tail /dev/zero; echo outlived"];
    let options: &dyn Cookie = cookie.as_ref();
    options
        .change_options(|options: &mut ContainerOptions| {
            options.config.command = Some(command.map(str::to_owned).to_vec());
            options.config.resources.oom_group = true;
        })
        .expect("to change the options");
    assert!(!cookie.validate_image(&ctx()).await.expect("an image"));
    let created = cookie.create_container(&ctx()).await;
    if layout == Layout::Unified {
        created.expect("a container");
        let running = cookie.run(&ctx()).await.expect("a start");
        let result = running.wait(&ctx()).await;
        assert_eq!(
            (result.status(), result.exit_code()),
            (Status::Killed, Some(137)),
            "{result:?}"
        );
        assert_eq!(said.text(), "");
        assert!(
            result.oom().is_some_and(|oom| oom.whose == Whose::Own),
            "{result:?}"
        );
    } else {
        say(
            TEST,
            "SKIPPED the death of a whole container: only cgroup v2 can, so here it must be refused",
        );
        let error = created.expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.report());
        assert!(
            error.report().contains("oom_group cannot be enforced"),
            "{}",
            error.report()
        );
    }
    cookie.close(&ctx()).await.expect("to close");
    stage.strike().await;
}
