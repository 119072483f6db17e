//! Processes: the fork after the last fails.

use fnctr::driver::Task;

use super::outside::keyed;
use super::{Held, seen, skipped};
use crate::world::Stage;

const LIMIT: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn as_many_processes_as_allowed_and_not_one_more() {
    let Some(stage) = Stage::set("as_many_processes_as_allowed").await else {
        return;
    };
    let task = Task {
        pids: LIMIT,
        ..stage.task("")
    };
    // A shell that cannot fork ends, so an inner one tries and an outer one tells.
    let script = "
        ( n=0; while [ $n -lt 50 ]; do sleep 1000 & n=$((n+1)); echo forked=$n; done ) 2>/dev/null
        echo stopped
        read wait
    ";
    let held = Held::start(&stage, task, script).await;
    let said = held.until_it_says("stopped").await;
    // The init, the outer and the inner shell are processes too.
    let most = LIMIT - 3;
    let last = said.lines().rfind(|line| line.starts_with("forked="));
    assert_eq!(last, Some(format!("forked={most}").as_str()), "{said}");
    let outside = &held.outside;
    assert_eq!(
        outside.read("pids", "pids.max", "pids.max"),
        Some(LIMIT.to_string())
    );
    match outside.read("pids", "pids.events", "pids.events") {
        Some(events) => {
            let refused = keyed(&events, "max").unwrap_or(0);
            assert!(refused > 0, "{events}");
            seen(&format!(
                "limit of {LIMIT} processes: {most} forks, then the kernel refused ({events})"
            ));
        }
        None => skipped("the count of refused forks", "pids.events came with Linux 4.12"),
    }
    held.close().await;
    stage.strike().await;
}
