//! Out-of-memory kills that were seen while a container ran, or are in the kernel's log. There is no other source if
//! the cgroup is removed with its counters before they are read, as systemd does with an empty scope. Then containerd's
//! event may be missing, too: its shim reads the same files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cgroup::{self, Above, LimitOwner, OomCount, OomLog, Paths, Sample};
use crate::{ContainerId, Context};

/// How much later than the exit containerd's event that memory ran out may come. Its shim learns of the two in
/// different ways (until containerd#12714). Spent only after a death by SIGKILL that this process did not send and that
/// no record explains.
const LATE: Duration = Duration::from_millis(200);
/// The exit code of a process that SIGKILL ended, which is what the kernel's OOM killer sends.
const KILLED: u32 = 137;

/// Collects what is known about one container's out-of-memory kills.
#[derive(Debug, Default)]
pub(super) struct OomRecorder {
    /// The highest number of kills that was read or reported.
    kills: AtomicU64,
    /// The container's own limit in bytes; 0 if there is none, or it is unknown.
    limit: AtomicU64,
    /// Whether this process sends a SIGKILL that may end the container.
    killed_here: AtomicBool,
    reported: Notify,
    /// The kernel's log, and the place in it at which this container began.
    log: Option<(Arc<OomLog>, u64)>,
}

impl OomRecorder {
    /// `limit` is the container's own limit in bytes.
    pub(super) fn new(limit: Option<u64>, log: Option<&Arc<OomLog>>) -> Self {
        Self {
            limit: AtomicU64::new(limit.unwrap_or(0)),
            log: log.map(|log| (Arc::clone(log), log.now())),
            ..Self::default()
        }
    }

    /// Sets the container's own limit in bytes, after a change.
    pub(super) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Release);
    }

    /// Notes a reading of the kernel's counters while the container runs.
    pub(super) fn note_sample(&self, sample: &Sample) {
        self.kills
            .fetch_max(sample.oom_kills.unwrap_or(0), Ordering::AcqRel);
    }

    /// Notes that containerd reported that memory ran out.
    pub(super) fn note_report(&self) {
        self.kills.fetch_max(1, Ordering::AcqRel);
        self.reported.notify_one();
    }

    /// Notes that this process is about to send a SIGKILL, so that [`Self::verdict`] does not wait for a report.
    pub(super) fn note_kill(&self) {
        self.killed_here.store(true, Ordering::Release);
        self.reported.notify_one();
    }

    /// The kernel's record of a container that has ended, otherwise the kills that were seen; `None` if it is unknown
    /// whether memory ran out. Once `ctx` ends, this no longer waits.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn verdict(
        &self,
        ctx: &Context,
        id: &ContainerId,
        paths: Option<&Paths>,
        above: &Above,
        code: Option<u32>,
    ) -> Option<OomCount> {
        if let Some(count) = record(id, paths, above) {
            return Some(self.complete(count, paths));
        }
        let seen = self.logged(paths).or_else(|| self.seen());
        if seen.is_some() || code != Some(KILLED) || self.killed_here.load(Ordering::Acquire) {
            return seen;
        }
        if ctx
            .with_timeout(LATE)
            .run(self.reported.notified())
            .await
            .is_err()
        {
            tracing::debug!(%id, "killed, and there is no record of whether memory ran out");
        }
        self.seen()
    }

    /// Completes a record that was read during the removal of its cgroup, and so has the kills but not the limit.
    fn complete(&self, count: OomCount, paths: Option<&Paths>) -> OomCount {
        match count.whose {
            Some(LimitOwner::Unknown) => OomCount {
                limit: count.limit.or_else(|| self.limit()),
                whose: self.logged(paths).map_or(count.whose, |logged| logged.whose),
                ..count
            },
            _ => count,
        }
    }

    fn logged(&self, paths: Option<&Paths>) -> Option<OomCount> {
        let (log, since) = self.log.as_ref()?;
        let whose = log.whose(paths?.v2.as_deref()?, *since)?;
        Some(OomCount {
            kills: self.kills.load(Ordering::Acquire).max(1),
            limit: self.limit(),
            whose: Some(whose),
        })
    }

    fn seen(&self) -> Option<OomCount> {
        let kills = self.kills.load(Ordering::Acquire);
        (kills > 0).then(|| OomCount {
            kills,
            limit: self.limit(),
            whose: Some(LimitOwner::Unknown),
        })
    }

    fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Acquire)).filter(|limit| *limit > 0)
    }
}

/// The kernel's record, if the cgroup still exists.
pub(super) fn record(id: &ContainerId, paths: Option<&Paths>, above: &Above) -> Option<OomCount> {
    match cgroup::oom_kills(paths?, above) {
        Ok(count) => count,
        Err(error) => {
            tracing::warn!(%id, error = %crate::chain(&error), "cannot read whether memory ran out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn verdict(recorder: &OomRecorder, code: u32) -> Option<OomCount> {
        let id = ContainerId::new("c1").unwrap();
        recorder
            .verdict(&Context::new(), &id, None, &Above::default(), Some(code))
            .await
    }

    fn seen(kills: u64, limit: Option<u64>) -> Option<OomCount> {
        let whose = Some(LimitOwner::Unknown);
        Some(OomCount { kills, limit, whose })
    }

    #[tokio::test(start_paused = true)]
    async fn a_reported_kill_replaces_a_record_that_was_removed() {
        let recorder = OomRecorder::new(Some(64 << 20), None);
        recorder.note_report();
        for code in [0, 1, 137] {
            assert_eq!(verdict(&recorder, code).await, seen(1, Some(64 << 20)), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_report_is_awaited_after_a_kill_from_elsewhere() {
        let recorder = OomRecorder::new(None, None);
        let late = async {
            tokio::time::sleep(LATE / 2).await;
            recorder.note_report();
        };
        let (verdict, ()) = tokio::join!(verdict(&recorder, 137), late);
        assert_eq!(verdict, seen(1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn no_report_is_awaited_for_an_end_that_is_explained() {
        let began = Instant::now();
        let recorder = OomRecorder::default();
        assert_eq!(
            (verdict(&recorder, 0).await, verdict(&recorder, 1).await),
            (None, None)
        );
        recorder.note_kill();
        assert_eq!(verdict(&recorder, 137).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(verdict(&OomRecorder::default(), 137).await, None);
        assert_eq!(began.elapsed(), LATE);
    }
}
