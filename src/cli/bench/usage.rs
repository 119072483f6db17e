//! What this process uses, and work on many containers at once.

use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::Context;
use crate::cli::failure::Failure;
use crate::containerd_driver::ContainerdCookie;

/// The number of containers that are started at the same time.
const AT_ONCE: u32 = 4;

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

/// Does `work` for all cookies, a few at a time, and returns the first failure when all have been worked on.
pub(super) async fn in_batches<F>(
    cookies: &[ContainerdCookie],
    work: impl Fn(ContainerdCookie) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let tracker = TaskTracker::new();
    let mut first = Ok(());
    for batch in cookies.chunks(usize::try_from(AT_ONCE).unwrap_or(1)) {
        let begun: Vec<_> = batch
            .iter()
            .map(|cookie| tracker.spawn(work(cookie.clone())))
            .collect();
        for one in begun {
            let done = one
                .await
                .unwrap_or_else(|panic| Err(Failure::usage(panic.to_string())));
            first = first.and(done);
        }
    }
    first
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
