//! containerd's events, delivered to the watches of containers: one stream for the whole engine.
//!
//! Events may be lost (a reconnect, a full buffer at the server), so nothing depends on them alone: see [`super::wait`]
//! for exits and [`super::oom`] for memory that ran out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::oom::OomRecorder;
use crate::containerd::{Session, TaskEvent, TaskExit};
use crate::metrics::RetryReason;
use crate::pauses::Pauses;
use crate::{ContainerId, Context};

/// First pause before subscribing again after the stream broke; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How many ends of unwatched containers are kept; the next search finds the others.
const MOST_UNWATCHED: usize = 64;

/// The watches of each container.
type Watches = HashMap<String, Vec<Watch>>;

#[derive(Debug)]
struct Watch {
    /// The process whose end is watched for: an earlier container may have had the same name.
    pid: u32,
    /// Taken when the exit arrives.
    exit: Option<oneshot::Sender<TaskExit>>,
    /// Notified when memory runs out. The event names no process, but it comes from a shim, and an earlier container's
    /// shim is gone before a later container of the same name can begin.
    oom: Arc<OomRecorder>,
}

/// Delivers events by container.
#[derive(Debug, Clone, Default)]
pub(super) struct Exits {
    watches: Arc<Mutex<Watches>>,
    unwatched: Arc<Mutex<Unwatched>>,
    ended: Arc<Notify>,
}

/// The ends of processes that this engine does not watch.
#[derive(Debug, Default)]
struct Unwatched {
    /// Their containers, in order.
    ended: VecDeque<ContainerId>,
    /// The processes that were watched until a moment ago: the event of an end may come after the reply that reported
    /// it.
    watched: VecDeque<u32>,
}

impl Unwatched {
    fn add(&mut self, exit: &TaskExit) -> bool {
        let Ok(id) = ContainerId::new(&exit.container_id) else {
            return false;
        };
        let is_new = !self.watched.contains(&exit.pid);
        if is_new {
            keep_last(&mut self.ended, id);
        }
        is_new
    }
}

/// Adds a value, and drops the oldest one if there are too many.
fn keep_last<T>(values: &mut VecDeque<T>, value: T) {
    if values.len() == MOST_UNWATCHED {
        values.pop_front();
    }
    values.push_back(value);
}

/// A watch of one process of a container, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watching {
    exits: Exits,
    id: String,
    pid: u32,
    oom: Arc<OomRecorder>,
    exit: oneshot::Receiver<TaskExit>,
}

impl Watching {
    /// Waits for the exit event; `None` if none will come.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn exit(&mut self) -> Option<TaskExit> {
        (&mut self.exit).await.ok()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        keep_last(&mut self.exits.unwatched_now().watched, self.pid);
        let mut watches = self.exits.lock();
        if let Some(of_this) = watches.get_mut(&self.id) {
            of_this.retain(|watch| !Arc::ptr_eq(&watch.oom, &self.oom));
            if of_this.is_empty() {
                watches.remove(&self.id);
            }
        }
    }
}

impl Exits {
    /// Starts to listen for events; stops when `ctx` ends.
    pub(super) fn start(session: Session, ctx: Context, tracker: &TaskTracker) -> Self {
        let exits = Self::default();
        let listening = exits.clone();
        tracker.spawn(async move { listening.listen(session, ctx).await }.in_current_span());
        exits
    }

    /// Watches this process of the container. `oom` must not be shared with another watch.
    pub(super) fn of(&self, id: &ContainerId, pid: u32, oom: &Arc<OomRecorder>) -> Watching {
        let (tx, rx) = oneshot::channel();
        let watch = Watch {
            pid,
            exit: Some(tx),
            oom: Arc::clone(oom),
        };
        self.lock().entry(id.to_string()).or_default().push(watch);
        Watching {
            exits: self.clone(),
            id: id.to_string(),
            pid,
            oom: Arc::clone(oom),
            exit: rx,
        }
    }

    /// Waits for the end of a process that this engine does not watch, and returns its container. Only the latest ends
    /// are kept.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn unwatched(&self) -> ContainerId {
        loop {
            let next = self.ended.notified();
            if let Some(id) = self.unwatched_now().ended.pop_front() {
                return id;
            }
            next.await;
        }
    }

    fn unwatched_now(&self) -> std::sync::MutexGuard<'_, Unwatched> {
        self.unwatched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, event: &TaskEvent) {
        let mut watches = self.lock();
        match event {
            TaskEvent::Exit(exit) if exit.is_init() && !watches.contains_key(exit.container_id.as_str()) => {
                if self.unwatched_now().add(exit) {
                    self.ended.notify_one();
                }
            }
            TaskEvent::Exit(exit) if exit.is_init() => {
                let of_this = watches.get_mut(exit.container_id.as_str());
                for watch in of_this
                    .into_iter()
                    .flatten()
                    .filter(|watch| watch.pid == exit.pid)
                {
                    if let Some(tx) = watch.exit.take() {
                        // A watch that got the exit elsewhere no longer listens, and that is fine.
                        drop(tx.send(exit.clone()));
                    }
                }
            }
            TaskEvent::Exit(_) => {}
            TaskEvent::Oom { container_id } => {
                let of_this = watches.get_mut(container_id.as_str());
                of_this
                    .into_iter()
                    .flatten()
                    .for_each(|watch| watch.oom.note_report());
            }
        }
    }

    async fn listen(self, session: Session, ctx: Context) {
        let fresh = Pauses::new(MIN_PAUSE, MAX_PAUSE);
        let mut pauses = fresh.clone();
        while ctx.check().is_ok() {
            match session.events().tasks(&ctx).await {
                Ok(mut stream) => {
                    while let Ok(event) = stream.next(&ctx).await {
                        pauses.clone_from(&fresh);
                        self.deliver(&event);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot subscribe to containerd's events; trying again")
                }
            }
            if ctx.run(pauses.wait()).await.is_err() {
                return;
            }
            session.metrics().retry(RetryReason::EventStream);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Above;

    fn exit(pid: u32) -> TaskEvent {
        TaskEvent::Exit(TaskExit {
            container_id: "c1".to_owned(),
            id: "c1".to_owned(),
            pid,
            code: 7,
            at: None,
        })
    }

    fn id() -> ContainerId {
        ContainerId::new("c1").unwrap()
    }

    fn watch(exits: &Exits, pid: u32) -> (Watching, Arc<OomRecorder>) {
        let oom = Arc::new(OomRecorder::default());
        (exits.of(&id(), pid, &oom), oom)
    }

    #[tokio::test]
    async fn the_exit_of_an_earlier_process_does_not_end_a_later_one() {
        let exits = Exits::default();
        let ((mut later, _), (mut again, _)) = (watch(&exits, 2), watch(&exits, 2));
        exits.deliver(&exit(1));
        assert!(later.exit.try_recv().is_err());
        exits.deliver(&exit(2));
        exits.deliver(&exit(2));
        assert_eq!(later.exit().await.map(|exit| exit.code), Some(7));
        assert_eq!(again.exit().await.map(|exit| exit.code), Some(7));
    }

    #[tokio::test]
    async fn a_dropped_watch_is_removed_and_the_others_stay() {
        let exits = Exits::default();
        let ((gone, _), (mut held, _)) = (watch(&exits, 1), watch(&exits, 1));
        drop(gone);
        exits.deliver(&exit(1));
        assert!(held.exit().await.is_some());
        drop((held, watch(&exits, 3)));
        assert!(exits.lock().is_empty());
    }

    #[tokio::test]
    async fn an_oom_event_reaches_its_own_container_even_after_the_exit() {
        let exits = Exits::default();
        let (_held, oom) = watch(&exits, 1);
        let ran_out = |id: &str| TaskEvent::Oom {
            container_id: id.to_owned(),
        };
        let ctx = Context::new();
        let known = async || oom.verdict(&ctx, &id(), None, &Above::default(), Some(1)).await;
        exits.deliver(&ran_out("c2"));
        assert_eq!(known().await, None);
        exits.deliver(&exit(1));
        exits.deliver(&ran_out("c1"));
        assert_eq!(known().await.map(|count| count.kills), Some(1));
    }
}
