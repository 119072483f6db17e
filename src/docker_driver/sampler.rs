//! Passes the engine's samples of one container to its task, once a second, until the container ends.
//!
//! The first report is measured against the start, where no processor time was spent. A task that is slow to receive a
//! report misses those in between, and delays nobody else's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::daemon::{CpuTime, Daemon};
use super::stats::{Reading, stat};
use crate::Context;
use crate::driver::{ContainerTask, Stat, Timestamp};
use crate::pauses::Pauses;

/// The first and the longest pause before the engine is asked again for samples.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A rate over a shorter time would be meaningless.
const SHORTEST: Duration = Duration::from_millis(50);

/// A container to measure.
pub(super) struct Sampler {
    pub(super) daemon: Daemon,
    pub(super) id: String,
    pub(super) task: Arc<dyn ContainerTask>,
    pub(super) memory_limit: Option<u64>,
    pub(super) tracker: TaskTracker,
    /// Ends with the container, and with the driver.
    pub(super) life: Context,
}

impl Sampler {
    /// Measures until the container ends.
    pub(super) async fn run(self) {
        let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
        let mut state = Measured::at_the_start(Instant::now());
        loop {
            let life = self.life.clone();
            if life.run(self.follow(&mut state)).await.is_err() || life.run(pauses.wait()).await.is_err() {
                return;
            }
        }
    }

    /// Passes samples on until the engine sends no more.
    async fn follow(&self, state: &mut Measured) {
        let mut samples = self.daemon.samples(&self.id);
        while let Some(sample) = samples.next().await {
            let sample = match sample {
                Ok(sample) => sample,
                Err(failed) => {
                    tracing::debug!(id = self.id, error = %crate::chain(&failed), "cannot measure a container");
                    return;
                }
            };
            // An empty sample: the container has not run yet, or runs no more.
            let Some(at) = sample.at else { continue };
            let passed = state.passed(at);
            if passed < SHORTEST {
                continue;
            }
            let report = stat(&Reading {
                before: state.cpu,
                passed,
                now: &sample,
                at,
                memory_limit: self.memory_limit,
            });
            state.cpu = sample.cpu.unwrap_or(state.cpu);
            state.at = Some(at);
            self.write(state, report);
        }
    }

    /// Passes a report to the task, unless the task is still receiving another one.
    fn write(&self, state: &mut Measured, report: Stat) {
        if state
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished())
        {
            return;
        }
        let (task, life) = (Arc::clone(&self.task), self.life.clone());
        // Dropped when the container has ended: its last report needs not be taken.
        let write = async move {
            let _ = life.run(task.write_stat(&life, report)).await;
        };
        state.writing = Some(self.tracker.spawn(write.in_current_span()));
    }
}

/// What the next sample is measured against.
struct Measured {
    began: Instant,
    at: Option<Timestamp>,
    cpu: CpuTime,
    writing: Option<JoinHandle<()>>,
}

impl Measured {
    fn at_the_start(began: Instant) -> Self {
        Self {
            began,
            at: None,
            cpu: CpuTime::default(),
            writing: None,
        }
    }

    /// The time since the sample before, by the engine's clock; since the start, by ours.
    fn passed(&self, at: Timestamp) -> Duration {
        match self.at {
            None => self.began.elapsed(),
            Some(before) => {
                let ms = at.unix_ms().saturating_sub(before.unix_ms());
                Duration::from_millis(u64::try_from(ms).unwrap_or_default())
            }
        }
    }
}
