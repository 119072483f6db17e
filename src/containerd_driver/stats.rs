//! Once a second, what a container uses, in the contract's metric names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::Instrument as _;

use super::Shared;
use crate::driver::{ContainerTask, Stat, Timestamp, metric};
use crate::engine::{Container, Usage};

/// How often the contract wants to know.
const PERIOD: Duration = Duration::from_secs(1);
/// From the start to the first reading, which the first report is measured against.
const SETTLE: Duration = Duration::from_millis(50);

/// Reports to the task until the container ends, nobody holds it any more, or the driver ends.
pub(super) fn follow(shared: &Arc<Shared>, container: &Container, task: &Arc<dyn ContainerTask>) {
    let (ended, container) = (container.wait_exit(), container.downgrade());
    let (task, ctx) = (Arc::clone(task), shared.life.child());
    let work = async move {
        // Not at once: a start has better things to do with the machine, and many lives are over by then.
        let mut ticks = interval_at(Instant::now() + SETTLE, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Usage> = None;
        let reporting = async {
            loop {
                ticks.tick().await;
                // Its end is the end of the reports; anything else that cannot be read can be read a second later.
                let Some(held) = container.upgrade().filter(|held| held.exit_now().is_none()) else {
                    return;
                };
                let usage = held.usage();
                drop(held);
                let Ok(now) = usage else { continue };
                if let Some(before) = &last {
                    task.write_stat(&ctx, stat(before, &now)).await;
                }
                last = Some(now);
            }
        };
        tokio::select! {
            () = reporting => {}
            _ = ended => {}
            _ = ctx.done() => {}
        }
    };
    shared.engine.tracker().spawn(work.in_current_span());
}

/// Two readings as one report. CPU is in percent of one core, 100 is one core busy.
fn stat(before: &Usage, now: &Usage) -> Stat {
    let elapsed = now.at.duration_since(before.at).as_nanos();
    let percent = |before: u64, now: u64| {
        let used = u128::from(now.saturating_sub(before)) * 100;
        u64::try_from(used.checked_div(elapsed).unwrap_or_default()).unwrap_or(u64::MAX)
    };
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            metrics.insert(name.to_owned(), value);
        }
    };
    if let (Some(was), Some(cpu)) = (before.cgroup.cpu, now.cgroup.cpu) {
        put(metric::CPU_TOTAL, Some(percent(was.total, cpu.total)));
        put(metric::CPU_USER, Some(percent(was.user, cpu.user)));
        put(metric::CPU_KERNEL, Some(percent(was.kernel, cpu.kernel)));
    }
    put(metric::MEM_USAGE, now.cgroup.memory.map(|memory| memory.usage));
    put(
        metric::MEM_LIMIT,
        now.cgroup.memory.and_then(|memory| memory.limit),
    );
    put(metric::DISK_READ, now.cgroup.disk.map(|disk| disk.read));
    put(metric::DISK_WRITE, now.cgroup.disk.map(|disk| disk.written));
    put(metric::NET_RX, Some(now.net_rx));
    put(metric::NET_TX, Some(now.net_tx));
    Stat {
        timestamp: Timestamp::now(),
        metrics,
    }
}
