//! A server that has nothing to do gives memory back.
//!
//! The start of a server executes a good part of its program, and a crowd of clients allocates what nobody needs afterwards.
//! Both would stay in this process's memory. Giving them back costs a millisecond of the next request, so it is done
//! only while the processor is hardly used, and only if there is something to give.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::{Context, sys};

/// When the start is over.
const FIRST: Duration = Duration::from_secs(2);
/// How long a server must have been idle.
const PERIOD: Duration = Duration::from_secs(30);
/// How much of that time an idle server may use the processor: one part of so many.
const IDLE: u32 = 50;
/// How much the memory must have grown, in pages of the kernel: some 2 MB.
const GROWN: u64 = 512;

/// Gives memory back whenever the process is idle, until `life` is cancelled.
pub(crate) async fn keep_small(life: &Context) {
    let mut smallest = 0;
    let (mut pause, mut used) = (FIRST, processor_time());
    while life.run(tokio::time::sleep(pause)).await.is_ok() {
        let now = processor_time();
        let is_first = smallest == 0;
        let is_idle = now.saturating_sub(used) < pause / IDLE;
        if (is_first || is_idle) && resident() > smallest + GROWN {
            sys::give_back_heap();
            if let Err(error) = sys::give_back_code() {
                tracing::debug!(%error, "cannot give memory back");
                return;
            }
            // What the idle process itself needs comes back.
            if life.run(tokio::time::sleep(FIRST)).await.is_err() {
                return;
            }
            smallest = resident();
        }
        (pause, used) = (PERIOD, processor_time());
    }
}

/// The time for which this process has used the processor.
fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.user_time() + usage.system_time());
    let micros = used.map(|time| time.num_microseconds()).unwrap_or_default();
    Duration::from_micros(micros.try_into().unwrap_or_default())
}

/// The memory of this process, in pages.
fn resident() -> u64 {
    let sizes = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = sizes.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    resident.unwrap_or_default()
}
