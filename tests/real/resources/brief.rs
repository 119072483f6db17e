//! The whole of it in one container: every limit, freezing, memory that runs out, and the end. What the short run in the
//! emulated machine shows of each runtime; the other files look at each limit closely.

use std::time::Duration;

use fnctr::driver::{RunError, Status, Task, Whose};

use super::outside::{Outside, keyed};
use super::{Held, seen};
use crate::world::{Stage, ctx};

const MEMORY: u64 = 32 << 20;
const MILLI: u64 = 250;
const PIDS: u64 = 12;

/// Whether the kernel says that nothing of the container runs.
fn is_frozen(outside: &Outside) -> bool {
    match outside.v2() {
        Some(dir) => {
            let events = std::fs::read_to_string(dir.join("cgroup.events")).expect("cgroup.events");
            keyed(&events, "frozen") == Some(1)
        }
        None => outside.read("freezer", "freezer.state", "").as_deref() == Some("FROZEN"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_lives_within_its_limits_stands_still_when_frozen_and_its_end_is_told() {
    let Some(stage) = Stage::set("a_function_lives_within_its_limits").await else {
        return;
    };
    let task = Task {
        memory: MEMORY,
        cpus: MILLI,
        pids: PIDS,
        ..stage.task("")
    };
    let script = "
        id -u
        while :; do echo tick; sleep 0.02; done &
        echo up
        read wait
        kill $!
        dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo beyond=$?
        exit 3
    ";
    let held = Held::start(&stage, task, script).await;
    let said = held.until_it_says("up").await;
    assert!(said.starts_with("1000\n"), "{said}");
    let outside = &held.outside;
    let limits = [
        outside.read("memory", "memory.limit_in_bytes", "memory.max"),
        outside.read("pids", "pids.max", "pids.max"),
        outside.read("cpu", "cpu.cfs_quota_us", "cpu.max"),
    ];
    let limits = limits.map(|limit| limit.expect("a limit").split(' ').next().map(str::to_owned));
    let expected = [MEMORY, PIDS, MILLI * 100].map(|limit| Some(limit.to_string()));
    assert_eq!(limits, expected);

    held.cookie.freeze(&ctx()).await.expect("to freeze");
    assert!(is_frozen(outside));
    // What had been said when it froze may still be on its way.
    let (mut lengths, patience) = ((held.said.len(), usize::MAX), ctx());
    while lengths.0 != lengths.1 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        lengths = (held.said.len(), lengths.0);
        assert!(patience.check().is_ok(), "it does not stand still");
    }
    held.cookie.unfreeze(&ctx()).await.expect("to thaw");
    assert!(!is_frozen(outside));
    let patience = ctx();
    while held.said.len() <= lengths.0 {
        assert!(patience.check().is_ok(), "it does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    drop(held.stdin);
    let result = held.wait.wait(&ctx()).await;
    assert_eq!((result.status(), result.exit_code()), (Status::Killed, Some(3)));
    let Some(RunError::OutOfMemory(oom)) = result.error() else {
        panic!("{result:?}")
    };
    assert_eq!(
        (oom.whose.clone(), oom.limit.map(|limit| limit.0)),
        (Whose::Own, Some(MEMORY))
    );
    assert!(held.said.text().ends_with("beyond=137\n"), "{}", held.said.text());
    held.cookie.close(&ctx()).await.expect("to close");

    let (said, result) = stage.says(stage.task(""), "echo hello; exit 7").await;
    assert_eq!((said.as_str(), result.exit_code()), ("hello\n", Some(7)));
    seen("a whole life: limits, freeze and thaw, memory that ran out, an exit code");
    stage.strike().await;
}
