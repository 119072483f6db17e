//! What this process uses: memory, tasks, descriptors and processor time.

use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::Context;
use crate::cli::failure::Failure;

/// The resources that this process holds at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// Memory in bytes: private memory, and a proportional share of shared memory.
    pub(super) memory: u64,
    pub(super) tasks: usize,
    pub(super) descriptors: usize,
}

pub(super) async fn pause(ctx: &Context, long: Duration) -> Result<(), Failure> {
    let paused = ctx.run(tokio::time::sleep(long)).await;
    paused.map_err(|_| Failure::interrupted())
}

/// The processor time that this process uses while it is idle, in percent of one core.
pub(super) async fn cpu(ctx: &Context, seconds: u32) -> Result<f64, Failure> {
    let (before, began) = (processor_time()?, Instant::now());
    pause(ctx, Duration::from_secs(seconds.into())).await?;
    let spent = processor_time()?.saturating_sub(before);
    Ok(spent.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0)
}

fn processor_time() -> Result<Duration, Failure> {
    let used = getrusage(UsageWho::RUSAGE_SELF).map_err(|errno| Failure::host(&io::Error::from(errno)))?;
    Ok(duration(used.user_time()).saturating_add(duration(used.system_time())))
}

fn duration(time: TimeVal) -> Duration {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec())).saturating_add(Duration::from_micros(part(time.tv_usec())))
}

pub(super) fn held() -> Result<Held, Failure> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").map_err(|error| Failure::host(&error))?;
    let descriptors = std::fs::read_dir("/proc/self/fd").map_err(|error| Failure::host(&error))?;
    Ok(Held {
        memory: pss(&rollup),
        tasks: Handle::current().metrics().num_alive_tasks(),
        // Do not count the descriptor of the directory that is read here.
        descriptors: descriptors.count().saturating_sub(1),
    })
}

/// The proportional set size in `smaps_rollup` (proc_pid_smaps(5)), in bytes.
fn pss(rollup: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_read_and_not_its_parts() {
        let rollup = "55d-7ff ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss:   120 kB\nPss_Anon: 80 kB\n";
        assert_eq!(pss(rollup), 120 << 10);
        assert_eq!(pss(""), 0);
    }

    #[test]
    fn processor_time_is_that_of_this_process_and_grows() {
        let before = processor_time().unwrap();
        while processor_time().unwrap() == before {}
        assert!(processor_time().unwrap() > before);
    }
}
