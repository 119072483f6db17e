//! containerd's exit events, handed to whoever watches that container: one stream for the whole engine.
//!
//! Events may be lost (a reconnect, a full buffer at the server), so nothing depends on them alone: see [`super::wait`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::containerd::{Session, TaskExit};
use crate::{ContainerId, Context};

/// First pause before subscribing again after the stream broke; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Who watches which container, and for the end of which process: a name may have had an earlier life.
type Waiting = HashMap<String, Vec<(u32, oneshot::Sender<TaskExit>)>>;

/// Hands out exit events by container.
#[derive(Debug, Clone, Default)]
pub(super) struct Exits(Arc<Mutex<Waiting>>);

impl Exits {
    /// Starts to listen; ends with `ctx`.
    pub(super) fn start(session: Session, ctx: Context, tracker: &TaskTracker) -> Self {
        let exits = Self::default();
        let listening = exits.clone();
        tracker.spawn(async move { listening.listen(session, ctx).await }.in_current_span());
        exits
    }

    /// The exit of this process of the container, if an event tells it.
    pub(super) fn of(&self, id: &ContainerId, pid: u32) -> oneshot::Receiver<TaskExit> {
        let (tx, rx) = oneshot::channel();
        self.lock().entry(id.to_string()).or_default().push((pid, tx));
        rx
    }

    /// Forgets the watches of this container that nobody holds any more.
    pub(super) fn forget(&self, id: &ContainerId) {
        let mut waiting = self.lock();
        if let Some(watches) = waiting.get_mut(id.as_str()) {
            watches.retain(|(_, watch)| !watch.is_closed());
            if watches.is_empty() {
                waiting.remove(id.as_str());
            }
        }
    }

    fn deliver(&self, exit: &TaskExit) {
        let mut waiting = self.lock();
        let Some(watches) = waiting.get_mut(exit.container_id.as_str()) else {
            return;
        };
        for (_, watch) in watches.extract_if(.., |(pid, _)| *pid == exit.pid) {
            // A watch that has learned of the exit elsewhere is gone, and that is fine.
            drop(watch.send(exit.clone()));
        }
        if watches.is_empty() {
            waiting.remove(exit.container_id.as_str());
        }
    }

    async fn listen(self, session: Session, ctx: Context) {
        let mut pause = MIN_PAUSE;
        while ctx.check().is_ok() {
            match session.events().exits(&ctx).await {
                Ok(mut stream) => {
                    while let Ok(exit) = stream.next(&ctx).await {
                        pause = MIN_PAUSE;
                        if exit.is_init() {
                            self.deliver(&exit);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot subscribe to containerd's events; trying again")
                }
            }
            if ctx.run(tokio::time::sleep(pause)).await.is_err() {
                return;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32) -> TaskExit {
        TaskExit {
            container_id: "c1".to_owned(),
            id: "c1".to_owned(),
            pid,
            code: 7,
            at: None,
        }
    }

    #[test]
    fn the_exit_of_an_earlier_life_does_not_end_a_later_one() {
        let exits = Exits::default();
        let id = ContainerId::new("c1").unwrap();
        let (mut later, mut again) = (exits.of(&id, 2), exits.of(&id, 2));
        exits.deliver(&exit(1));
        assert!(later.try_recv().is_err());
        exits.deliver(&exit(2));
        assert_eq!(later.try_recv().map(|exit| exit.code), Ok(7));
        assert_eq!(again.try_recv().map(|exit| exit.code), Ok(7));
        assert!(exits.lock().is_empty());
    }

    #[test]
    fn a_watch_that_nobody_holds_is_forgotten_and_the_others_stay() {
        let exits = Exits::default();
        let id = ContainerId::new("c1").unwrap();
        let (gone, mut held) = (exits.of(&id, 1), exits.of(&id, 1));
        drop(gone);
        exits.forget(&id);
        exits.deliver(&exit(1));
        assert!(held.try_recv().is_ok());
        drop(exits.of(&id, 3));
        exits.forget(&id);
        assert!(exits.lock().is_empty());
    }
}
