//! Memory, and that swap is no way out.

use fnctr::driver::{RunError, Status, Task};

use super::outside::keyed;
use super::{Held, seen, skipped};
use crate::world::Stage;

const LIMIT: u64 = 32 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn memory_up_to_the_limit_is_there_and_beyond_it_is_not() {
    let Some(stage) = Stage::set("memory_up_to_the_limit").await else {
        return;
    };
    let task = Task {
        memory: LIMIT,
        ..stage.task("")
    };
    // dd touches its whole buffer.
    let script = "
        dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null; echo fits=$?
        dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo beyond=$?
        read wait
    ";
    let held = Held::start(&stage, task, script).await;
    let said = held.until_it_says("beyond=137").await;
    assert!(said.contains("fits=0\n"), "{said}");

    let outside = &held.outside;
    let bytes = outside.read("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(bytes, Some(LIMIT.to_string()));
    let record = outside
        .read("memory", "memory.oom_control", "memory.events")
        .expect("the kernel's record");
    assert_eq!(keyed(&record, "oom_kill"), Some(1), "{record}");
    seen(&format!(
        "memory limit {LIMIT}: 20 MiB fit, a process that wants 64 MiB is killed ({})",
        record.replace('\n', ", ")
    ));
    match outside.dir("memory") {
        // v2 limits swap apart from memory, v1 both together.
        Some((_, true)) => match outside.read("memory", "", "memory.swap.max") {
            Some(swap) => {
                assert_eq!(swap, "0");
                seen("memory.swap.max is 0");
            }
            None => skipped("swap", "this kernel does not account for swap"),
        },
        _ => match outside.read("memory", "memory.memsw.limit_in_bytes", "") {
            Some(both) => {
                assert_eq!(both, LIMIT.to_string());
                seen("memory and swap together are limited to the same bytes");
            }
            None => skipped("swap", "this kernel does not account for swap"),
        },
    }

    // The container lives on; what the kernel recorded in it is its result all the same.
    drop(held.stdin);
    let result = held.wait.wait(&crate::world::ctx()).await;
    assert_eq!(result.status(), Status::Killed, "{result:?}");
    let Some(RunError::OutOfMemory(oom)) = result.error() else {
        panic!("{result:?}")
    };
    assert_eq!(oom.limit.map(|limit| limit.0), Some(LIMIT));
    seen(&format!("the result: {}", result.error().expect("an error")));
    held.cookie.close(&crate::world::ctx()).await.expect("to close");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_without_an_oom_stays_a_sigkill() {
    let Some(stage) = Stage::set("a_sigkill_without_an_oom").await else {
        return;
    };
    let task = Task {
        memory: LIMIT,
        ..stage.task("")
    };
    let (_, result) = stage.says(task, "kill -9 $$").await;
    let error = result.error().expect("an error").to_string();
    assert_eq!(result.exit_code(), Some(137), "{result:?}");
    assert!(
        !matches!(result.error(), Some(RunError::OutOfMemory(_))),
        "{result:?}"
    );
    seen(&format!("exit code 137 without an out-of-memory kill: {error}"));
    stage.strike().await;
}
