//! What was seen of kills for memory while a container lived, and what the kernel's log tells: all there is to go by when
//! its cgroup is removed with the kernel's record in it before the end is read, as systemd does with a scope that is empty.
//! containerd's word is lost then at times, too: its shim reads the same files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cgroup::{self, Above, OomCount, OomLog, Paths, Sample, Whose};
use crate::{ContainerId, Context};

/// How long containerd's word that memory ran out may come after the exit that it explains. Its shim learns of the two
/// on different ways (until containerd#12714); this is paid only for a death by SIGKILL that nobody here sent and that no
/// record explains.
const LATE: Duration = Duration::from_millis(200);
/// The exit code of a process that SIGKILL ended, as the kernel's OOM killer does.
const KILLED: u32 = 137;

/// A witness of one container's kills for memory.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The most kills that were ever read, or told of.
    kills: AtomicU64,
    /// The container's own limit in bytes; 0 is none, or not known.
    limit: AtomicU64,
    /// Somebody here sends the SIGKILL that may end it.
    killed_here: AtomicBool,
    told: Notify,
    /// The kernel's log, and the place in it at which this container began.
    log: Option<(Arc<OomLog>, u64)>,
}

impl Witness {
    /// `limit` is what the container was made with, in bytes.
    pub(super) fn new(limit: Option<u64>, log: Option<&Arc<OomLog>>) -> Self {
        Self {
            limit: AtomicU64::new(limit.unwrap_or(0)),
            log: log.map(|log| (Arc::clone(log), log.now())),
            ..Self::default()
        }
    }

    /// The kernel's record was read while the container lived.
    pub(super) fn saw(&self, sample: &Sample) {
        self.kills
            .fetch_max(sample.oom_kills.unwrap_or(0), Ordering::AcqRel);
    }

    /// containerd told that memory ran out.
    pub(super) fn told(&self) {
        self.kills.fetch_max(1, Ordering::AcqRel);
        self.told.notify_one();
    }

    /// A SIGKILL is about to be sent from here, so there is no need to wait for another reason of the end.
    pub(super) fn kills(&self) {
        self.killed_here.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// The kernel's record of a container that has ended, else what was seen of it; `None` if it cannot be told whether
    /// memory ran out. Once `ctx` ends, nothing more is waited for.
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
        if ctx.with_timeout(LATE).run(self.told.notified()).await.is_err() {
            tracing::debug!(%id, "killed, and there is no record of whether memory ran out");
        }
        self.seen()
    }

    /// A record that was torn by the removal of its cgroup knows the kills and not the limit.
    fn complete(&self, count: OomCount, paths: Option<&Paths>) -> OomCount {
        match count.whose {
            Some(Whose::Unknown) => OomCount {
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
            whose: Some(Whose::Unknown),
        })
    }

    fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Acquire)).filter(|limit| *limit > 0)
    }
}

/// What the kernel recorded, if the cgroup is still there.
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

    async fn verdict(witness: &Witness, code: u32) -> Option<OomCount> {
        let id = ContainerId::new("c1").unwrap();
        witness
            .verdict(&Context::new(), &id, None, &Above::default(), Some(code))
            .await
    }

    fn seen(kills: u64, limit: Option<u64>) -> Option<OomCount> {
        let whose = Some(Whose::Unknown);
        Some(OomCount { kills, limit, whose })
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_stands_in_for_a_record_that_is_gone() {
        let witness = Witness::new(Some(64 << 20), None);
        witness.told();
        for code in [0, 1, 137] {
            assert_eq!(verdict(&witness, code).await, seen(1, Some(64 << 20)), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_late_is_waited_for_after_a_kill_by_nobody_here() {
        let witness = Witness::new(None, None);
        let late = async {
            tokio::time::sleep(LATE / 2).await;
            witness.told();
        };
        let (verdict, ()) = tokio::join!(verdict(&witness, 137), late);
        assert_eq!(verdict, seen(1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_that_would_explain_nothing() {
        let began = Instant::now();
        let witness = Witness::default();
        assert_eq!(
            (verdict(&witness, 0).await, verdict(&witness, 1).await),
            (None, None)
        );
        witness.kills();
        assert_eq!(verdict(&witness, 137).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(verdict(&Witness::default(), 137).await, None);
        assert_eq!(began.elapsed(), LATE);
    }
}
