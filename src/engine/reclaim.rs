//! Taking memory back from containers that have been frozen for a while.
//!
//! ```text
//!           freeze                    the delay passes                  the kernel has no more
//! Running ─────────► Frozen, waiting ─────────────────► chunk by chunk ──────────────────────► done, until the next freeze
//!    ▲                     │                                   │
//!    └───── thaw, close ───┴───────────────────────────────────┘  seen before each chunk; nobody waits for it
//! ```
//!
//! One task serves all containers and takes memory from one at a time, so that a host that freezes many at once is not
//! flooded with writes to swap. A freeze costs a reading of the clock and an uncontended lock; only the first freeze of
//! a delay adds the container to the queue, and only the first container in an empty queue wakes the task: all have the
//! same delay, so no later one can be due before it. A container that is thawed stays in the queue and is skipped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::cgroup::{self, Freezer, Paths, Reclaimed, Reclaimer, State};
use crate::{ContainerId, Context};

/// A container whose memory is taken back while it idles.
#[derive(Debug)]
pub(super) struct ReclaimTarget {
    id: ContainerId,
    paths: Paths,
    freezer: Freezer,
    idling: Mutex<Idling>,
    /// Bytes that were taken back in its whole life.
    back: AtomicU64,
}

#[derive(Debug, Default)]
struct Idling {
    /// When it was frozen; `None` while it is not.
    since: Option<Instant>,
    /// Whether it is in the queue, in which it is at most once.
    queued: bool,
}

impl ReclaimTarget {
    pub(super) fn new(id: &ContainerId, paths: &Paths, freezer: &Freezer) -> Arc<Self> {
        Arc::new(Self {
            id: id.clone(),
            paths: paths.clone(),
            freezer: freezer.clone(),
            idling: Mutex::default(),
            back: AtomicU64::new(0),
        })
    }

    fn idling(&self) -> MutexGuard<'_, Idling> {
        self.idling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container is thawed or removed. The task stops before it takes the next chunk.
    pub(super) fn ends(&self) {
        self.idling().since = None;
    }

    /// What was taken back in its whole life.
    pub(super) fn reclaimed(&self) -> Reclaimed {
        Reclaimed {
            bytes: self.back.load(Ordering::Relaxed),
        }
    }

    /// Whether the container has been frozen since `since` without a break, for the kernel too: another process may
    /// have thawed it.
    fn goes_on(&self, since: Instant) -> bool {
        self.idling().since == Some(since) && matches!(self.freezer.state(), Ok(State::Frozen))
    }
}

/// The containers that wait for their delay.
#[derive(Debug, Clone)]
pub(super) struct Reclaims(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    delay: Duration,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Keyed by the moment at which each is due, and a number that makes the key unique.
    by_due: BTreeMap<(Instant, u64), Weak<ReclaimTarget>>,
    /// The number of the last key.
    last: u64,
}

impl Reclaims {
    /// Starts the task that takes memory back; it ends with `ctx`.
    pub(super) fn start(delay: Duration, ctx: Context, tracker: &TaskTracker) -> Self {
        let this = Self(Arc::new(Waiting {
            delay,
            queue: Mutex::default(),
            filled: Notify::new(),
        }));
        let serving = this.clone();
        tracker.spawn(async move { serving.serve(&ctx).await }.in_current_span());
        this
    }

    /// The kernel has confirmed that the container is frozen. A second freeze of a frozen container changes nothing.
    pub(super) fn begins(&self, idle: &Arc<ReclaimTarget>) {
        let mut idling = idle.idling();
        if idling.since.is_none() {
            let now = Instant::now();
            idling.since = Some(now);
            if !std::mem::replace(&mut idling.queued, true) {
                self.add(now, idle);
            }
        }
    }

    fn add(&self, frozen: Instant, idle: &Arc<ReclaimTarget>) {
        // A delay that the clock cannot represent never passes.
        let Some(due) = frozen.checked_add(self.0.delay) else {
            return;
        };
        let mut queue = self.lock();
        queue.last += 1;
        let key = (due, queue.last);
        let first = queue.by_due.is_empty();
        queue.by_due.insert(key, Arc::downgrade(idle));
        drop(queue);
        if first {
            self.0.filled.notify_one();
        }
    }

    async fn serve(&self, ctx: &Context) {
        loop {
            let next = self.lock().by_due.first_key_value().map(|((due, _), _)| *due);
            let waited = match next {
                Some(due) => ctx.run(tokio::time::sleep_until(due)).await,
                None => ctx.run(self.0.filled.notified()).await,
            };
            if waited.is_err() {
                return;
            }
            while let Some(idle) = self.due() {
                self.take(ctx, &idle).await;
            }
        }
    }

    /// Takes the first container that is due out of the queue.
    fn due(&self) -> Option<Arc<ReclaimTarget>> {
        let now = Instant::now();
        loop {
            let mut queue = self.lock();
            let first = queue.by_due.first_entry().filter(|first| first.key().0 <= now)?;
            // A container without any handle needs nothing.
            if let Some(idle) = first.remove().upgrade() {
                return Some(idle);
            }
        }
    }

    /// When a container that was in the queue was frozen, if its delay has passed. A container that was frozen anew
    /// goes back into the queue.
    fn since(&self, idle: &Arc<ReclaimTarget>) -> Option<Instant> {
        let mut idling = idle.idling();
        idling.queued = false;
        let since = idling.since?;
        if since + self.0.delay > Instant::now() {
            idling.queued = true;
            self.add(since, idle);
            return None;
        }
        Some(since)
    }

    /// Takes memory back from a container that was in the queue.
    async fn take(&self, ctx: &Context, idle: &Arc<ReclaimTarget>) {
        let Some(since) = self.since(idle) else { return };
        let (work, ctx) = (Arc::clone(idle), ctx.clone());
        let taken = tokio::task::spawn_blocking(move || {
            Reclaimer::of(&work.paths)?.run(|| work.goes_on(since) && ctx.check().is_ok())
        });
        let id = &idle.id;
        match taken.await {
            Ok(Ok(Reclaimed { bytes })) => {
                let total = idle
                    .back
                    .fetch_add(bytes, Ordering::Relaxed)
                    .saturating_add(bytes);
                tracing::info!(%id, bytes, total, "took memory back from a frozen container");
            }
            // The container has ended meanwhile, or the host cannot do it, which is in the log since the connect.
            Ok(Err(error)) if error.is_gone() || matches!(error, cgroup::Error::Unsupported { .. }) => {
                tracing::debug!(%id, error = %crate::chain(&error), "no memory was taken back");
            }
            Ok(Err(error)) => {
                tracing::warn!(%id, error = %crate::chain(&error), "cannot take memory back from a frozen container");
            }
            Err(panic) => tracing::error!(%id, %panic, "taking memory back from a frozen container failed"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const DELAY: Duration = Duration::from_secs(60);

    /// A directory that stands for the cgroup of a frozen container with a gigabyte.
    fn frozen(dir: &Path) -> Arc<ReclaimTarget> {
        for (file, text) in [
            ("cgroup.freeze", "1\n"),
            ("cgroup.events", "populated 1\nfrozen 1\n"),
            ("memory.current", "1073741824\n"),
            ("memory.reclaim", ""),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
        let paths = Paths {
            v2: Some(dir.to_owned()),
            ..Paths::default()
        };
        let freezer = Freezer::of(&paths).unwrap();
        ReclaimTarget::new(&ContainerId::new("c1").unwrap(), &paths, &freezer)
    }

    /// How many bytes were written to the file that the kernel reads: one number for each chunk.
    fn asked(dir: &Path) -> usize {
        fs::read_to_string(dir.join("memory.reclaim")).unwrap().len()
    }

    struct Rig {
        reclaims: Reclaims,
        ctx: Context,
        tracker: TaskTracker,
    }

    impl Rig {
        fn start(delay: Duration) -> Self {
            let (ctx, tracker) = (Context::new(), TaskTracker::new());
            let reclaims = Reclaims::start(delay, ctx.child(), &tracker);
            Self {
                reclaims,
                ctx,
                tracker,
            }
        }

        async fn end(self) {
            self.ctx.cancel();
            self.tracker.close();
            self.tracker.wait().await;
        }
    }

    /// Lets the clock run, and the task and its thread finish what is due.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_taken_once_the_delay_has_passed_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let (rig, idle) = (Rig::start(DELAY), frozen(dir.path()));
        rig.reclaims.begins(&idle);
        pass(DELAY - Duration::from_secs(1)).await;
        assert_eq!(asked(dir.path()), 0);
        pass(Duration::from_secs(2)).await;
        let all = asked(dir.path());
        // A gigabyte in chunks of 8 MiB, seven digits each.
        assert_eq!(all, 128 * 7);
        rig.reclaims.begins(&idle);
        pass(DELAY * 3).await;
        assert_eq!(asked(dir.path()), all, "the same idling");
        fs::write(dir.path().join("memory.reclaim"), "").unwrap();
        idle.ends();
        rig.reclaims.begins(&idle);
        pass(DELAY * 2).await;
        assert_eq!(asked(dir.path()), all, "a later one");
        rig.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_thaw_before_the_delay_cancels_it_and_a_later_freeze_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (rig, idle) = (Rig::start(DELAY), frozen(dir.path()));
        rig.reclaims.begins(&idle);
        pass(DELAY / 2).await;
        idle.ends();
        pass(DELAY / 4).await;
        rig.reclaims.begins(&idle);
        pass(DELAY / 2).await;
        assert_eq!(
            asked(dir.path()),
            0,
            "the first freeze's delay is over, the second's is not"
        );
        pass(DELAY).await;
        assert!(asked(dir.path()) > 0);
        rig.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_another_process_thawed_keeps_its_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (rig, idle) = (Rig::start(DELAY), frozen(dir.path()));
        rig.reclaims.begins(&idle);
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        pass(DELAY * 2).await;
        assert_eq!(asked(dir.path()), 0);
        rig.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_many_has_its_turn_and_a_dropped_one_is_skipped() {
        let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
        let rig = Rig::start(DELAY);
        let mut idles: Vec<_> = dirs.iter().map(|dir| frozen(dir.path())).collect();
        for idle in &idles {
            rig.reclaims.begins(idle);
            pass(Duration::from_secs(1)).await;
        }
        idles.remove(2);
        pass(DELAY * 2).await;
        let taken: Vec<_> = dirs.iter().map(|dir| asked(dir.path()) > 0).collect();
        assert_eq!(taken, [true, true, false, true, true]);
        assert!(rig.reclaims.lock().by_due.is_empty());
        rig.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_freezes_take_one_place_in_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        let (rig, idle) = (Rig::start(DELAY), frozen(dir.path()));
        for _ in 0..1000 {
            rig.reclaims.begins(&idle);
            idle.ends();
        }
        assert_eq!(rig.reclaims.lock().by_due.len(), 1);
        // A delay that never passes queues nothing.
        let never = Rig::start(Duration::MAX);
        idle.idling().queued = false;
        never.reclaims.begins(&idle);
        assert!(never.reclaims.lock().by_due.is_empty());
        rig.end().await;
        never.end().await;
    }
}
