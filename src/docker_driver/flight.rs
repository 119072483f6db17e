//! One pull for all callers that want the same image with the same credentials at the same time.
//!
//! The pull belongs to none of its callers: it runs on a task of its own, each caller waits with its own context, and
//! the last caller to leave cancels it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::daemon::Cause;
use super::image_name::ImageName;
use crate::credentials::Credential;
use crate::{Context, Interrupted};

/// What a pull is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) image: ImageName,
    pub(super) credential: Option<Credential>,
}

/// The result of a pull, which all its callers share.
pub(super) type Landed = Result<(), Arc<Cause>>;

/// The running pulls. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Wanted, Arc<Flight>>>>);

#[derive(Debug)]
struct Flight {
    ctx: Context,
    landed: watch::Sender<Option<Landed>>,
    /// The number of waiting callers. Only changed under the lock of the map.
    waiting: Mutex<usize>,
}

/// A caller's share in a pull. Dropping it means that this caller no longer wants the image.
#[derive(Debug)]
#[must_use = "a pull without a waiting caller is cancelled"]
pub(super) struct Pulling {
    flights: Flights,
    flight: Arc<Flight>,
    wanted: Wanted,
}

impl Flights {
    /// Joins the running pull for `wanted`, or begins one with `pull`, on a context that ends with `life` or when
    /// nobody waits any more.
    pub(super) fn join<F>(
        &self,
        tracker: &TaskTracker,
        life: &Context,
        wanted: Wanted,
        pull: impl FnOnce(Context) -> F,
    ) -> Pulling
    where
        F: Future<Output = Landed> + Send + 'static,
    {
        let mut flights = self.lock();
        let flight = match flights.get(&wanted) {
            Some(flight) => Arc::clone(flight),
            None => {
                let flight = Arc::new(Flight {
                    ctx: life.child(),
                    landed: watch::Sender::new(None),
                    waiting: Mutex::new(0),
                });
                flights.insert(wanted.clone(), Arc::clone(&flight));
                let unlanded = Unlanded {
                    flights: self.clone(),
                    flight: Arc::clone(&flight),
                    wanted: wanted.clone(),
                };
                let work = pull(flight.ctx.clone());
                let work = async move { unlanded.lands(work.await) };
                tracker.spawn(work.in_current_span());
                flight
            }
        };
        *flight.waiting() += 1;
        Pulling {
            flights: self.clone(),
            flight,
            wanted,
        }
    }

    fn leave(&self, wanted: &Wanted, flight: &Arc<Flight>) {
        // In one turn of the map's lock, so that nobody joins a pull that is cancelled.
        let mut flights = self.lock();
        let mut waiting = flight.waiting();
        *waiting = waiting.saturating_sub(1);
        if *waiting == 0 {
            flight.ctx.cancel();
            remove(&mut flights, wanted, flight);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Wanted, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a flight, unless a later one for the same image has replaced it.
fn remove(flights: &mut HashMap<Wanted, Arc<Flight>>, wanted: &Wanted, flight: &Arc<Flight>) {
    if flights
        .get(wanted)
        .is_some_and(|known| Arc::ptr_eq(known, flight))
    {
        flights.remove(wanted);
    }
}

impl Flight {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, even if the pull panics.
struct Unlanded {
    flights: Flights,
    flight: Arc<Flight>,
    wanted: Wanted,
}

impl Unlanded {
    fn lands(self, landed: Landed) {
        remove(&mut self.flights.lock(), &self.wanted, &self.flight);
        self.flight.landed.send_replace(Some(landed));
    }
}

impl Drop for Unlanded {
    fn drop(&mut self) {
        remove(&mut self.flights.lock(), &self.wanted, &self.flight);
        self.flight.landed.send_if_modified(|landed| {
            let is_open = landed.is_none();
            if is_open {
                *landed = Some(Err(Arc::new(Cause::Broken("the pull has panicked".to_owned()))));
            }
            is_open
        });
    }
}

impl Pulling {
    /// Waits for the end of the pull.
    ///
    /// # Errors
    /// Why this caller no longer waits.
    ///
    /// # Cancellation
    /// Safe to drop: the pull continues as long as another caller wants it.
    pub(super) async fn done(&self, ctx: &Context) -> Result<Landed, Interrupted> {
        let mut landed = self.flight.landed.subscribe();
        let landed = ctx.run(landed.wait_for(Option::is_some)).await?;
        // There is always a result: `self` holds the flight, which owns the sender.
        let landed = landed.ok().and_then(|landed| landed.clone());
        landed.ok_or(Interrupted::Cancelled)
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.flights.leave(&self.wanted, &self.flight);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    struct Sky {
        flights: Flights,
        tracker: TaskTracker,
        begun: Arc<AtomicUsize>,
        cancelled: Arc<AtomicUsize>,
    }

    impl Sky {
        fn new() -> Self {
            Self {
                flights: Flights::default(),
                tracker: TaskTracker::new(),
                begun: Arc::default(),
                cancelled: Arc::default(),
            }
        }

        /// Joins a pull that takes a second.
        fn join(&self, image: &str) -> Pulling {
            let wanted = Wanted {
                image: ImageName::parse(image).unwrap(),
                credential: None,
            };
            let (begun, cancelled) = (Arc::clone(&self.begun), Arc::clone(&self.cancelled));
            self.flights
                .join(&self.tracker, &Context::new(), wanted, |ctx| async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    if ctx.run(tokio::time::sleep(Duration::from_secs(1))).await.is_err() {
                        cancelled.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(())
                })
        }

        fn counts(&self) -> (usize, usize) {
            (
                self.begun.load(Ordering::SeqCst),
                self.cancelled.load(Ordering::SeqCst),
            )
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_of_one_image_share_a_pull_and_each_keeps_its_own_deadline() {
        let sky = Sky::new();
        let (one, two, other) = (
            sky.join("a"),
            sky.join("docker.io/library/a:latest"),
            sky.join("b"),
        );
        let short = Context::timeout(Duration::from_millis(10));
        assert_eq!(one.done(&short).await.unwrap_err(), Interrupted::DeadlineExceeded);
        drop(one);
        two.done(&Context::new()).await.unwrap().unwrap();
        other.done(&Context::new()).await.unwrap().unwrap();
        assert_eq!(sky.counts(), (2, 0));
        drop((two, other));
        // It is over, so the next one begins anew.
        sky.join("a").done(&Context::new()).await.unwrap().unwrap();
        assert_eq!(sky.counts(), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_caller_to_leave_cancels_the_pull() {
        let sky = Sky::new();
        let (one, two) = (sky.join("a"), sky.join("a"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(one);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(sky.counts(), (1, 0));
        drop(two);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(sky.counts(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_panics_fails_for_everybody() {
        let sky = Sky::new();
        let wanted = Wanted {
            image: ImageName::parse("a").unwrap(),
            credential: None,
        };
        let pulling = sky
            .flights
            .join(&sky.tracker, &Context::new(), wanted, |_| async {
                panic!("as it happens")
            });
        assert!(pulling.done(&Context::new()).await.unwrap().is_err());
    }
}
