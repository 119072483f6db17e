//! The four rlimits of a task: held by the kernel for the first process, seen by the function, and not to be raised.

use fnctr::driver::Task;

use super::{Held, seen};
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn each_rlimit_is_held_and_cannot_be_raised() {
    let Some(stage) = Stage::set("each_rlimit_is_held").await else {
        return;
    };
    let task = Task {
        // crun opens its own files under this limit, with systemd more than twenty.
        open_files: Some(64),
        locked_memory: Some(64 << 10),
        pending_signals: Some(50),
        message_queue: Some(4096),
        ..stage.task("")
    };
    let script = "
        grep -E 'open files|locked memory|pending signals|msgqueue size' /proc/self/limits | tr -s ' ' | sed 's/ *$//'
        ( ulimit -Hn 65 ) 2>/dev/null && echo raised || echo kept
        ( ulimit -Hl 65 ) 2>/dev/null && echo raised || echo kept
        n=3; while [ $n -lt 70 ]; do ( eval \"exec $n</dev/null\" ) 2>/dev/null || break; n=$((n+1)); done
        echo first=$n
        echo done
        read wait
    ";
    let held = Held::start(&stage, task, script).await;
    let said = held.until_it_says("done").await;
    let outside: Vec<_> = held
        .outside
        .proc("limits")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "Max open files 64 64 files",
        "Max locked memory 65536 65536 bytes",
        "Max pending signals 50 50 signals",
        "Max msgqueue size 4096 4096 bytes",
    ] {
        assert!(
            said.lines().any(|said| said == line),
            "{line:?} is not in:\n{said}"
        );
        assert!(
            outside.iter().any(|seen| seen == line),
            "{line:?} is not in:\n{outside:#?}"
        );
    }
    assert!(!said.contains("raised"), "{said}");
    // Descriptors are numbered from 0, so the first that may not be is the limit itself.
    assert!(said.contains("first=64\n"), "{said}");
    seen(
        "open files 64 (descriptor 64 is refused), locked memory 65536, pending signals 50, message queues 4096; none can be raised",
    );
    held.close().await;
    stage.strike().await;
}
