//! One pull for all callers that want the same image at the same time.
//!
//! The pull belongs to none of its callers: it runs on a task of its own, each caller waits with its own context, and
//! the last caller to leave cancels it. A caller that arrives while a cancelled pull unwinds starts another one, which
//! reuses what the first has fetched.
//!
//! A running pull is called a flight, after the single-flight pattern; its result has landed when it is available to
//! the callers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument as _, field};

use super::progress::{Progress, Reporter};
use super::{Again, Job, Request, Shared};
use crate::Context;
use crate::image::{Error, Image};

/// The result of a pull.
type Landed = Result<Image, Arc<Error>>;

/// The running pulls.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Request, Arc<Flight>>>);

#[derive(Debug)]
struct Flight {
    ctx: Context,
    reporter: Reporter,
    landed: watch::Sender<Option<Landed>>,
    /// The number of waiting callers. Only changed under the lock of the map.
    waiting: Mutex<usize>,
}

/// A caller's share in a pull. Dropping it means that this caller no longer wants the image.
#[derive(Debug)]
#[must_use = "a pull without a waiting caller is cancelled"]
pub(crate) struct Pulling {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    request: Request,
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, shared: &Arc<Shared>, request: Request, again: Again) -> Pulling {
        let mut flights = self.lock();
        let flight = match flights.get(&request) {
            Some(flight) => Arc::clone(flight),
            None => {
                let flight = Arc::new(Flight {
                    ctx: shared.life.child(),
                    reporter: Reporter::new(),
                    landed: watch::Sender::new(None),
                    waiting: Mutex::new(0),
                });
                flights.insert(request.clone(), Arc::clone(&flight));
                self.begin(shared, &request, &flight, again);
                flight
            }
        };
        *flight.waiting() += 1;
        Pulling {
            flights: Arc::clone(self),
            flight,
            request,
        }
    }

    fn begin(self: &Arc<Self>, shared: &Arc<Shared>, request: &Request, flight: &Arc<Flight>, again: Again) {
        let job = Job::new(Arc::clone(shared), request.clone(), flight.reporter.clone());
        let ctx = flight.ctx.clone();
        let image = request.reference.to_string();
        let span = tracing::debug_span!(
            "phase",
            otel.name = "pull",
            name = "pull",
            image,
            outcome = field::Empty,
            otel.status_description = field::Empty
        );
        let phase = span.clone();
        let pull = async move {
            let pulled = job.run(&ctx, again).await;
            phase.record("outcome", if pulled.is_ok() { "ok" } else { "failed" });
            if let Err(error) = &pulled {
                phase.record("otel.status_description", crate::chain(error));
            }
            pulled
        };
        // If the subscriber disables the pull's own span, the pull's events stay in the span of the first caller.
        let work = shared.tracker.spawn(pull.instrument(span).in_current_span());
        shared.tracker.spawn({
            let (flights, flight, request) = (Arc::clone(self), Arc::clone(flight), request.clone());
            let (shared, began) = (Arc::clone(shared), Instant::now());
            async move {
                let landed = work.await.unwrap_or_else(|panic| {
                    Err(Error::Broken {
                        image: request.reference.to_string(),
                        why: panic.to_string(),
                    })
                });
                // Callers that arrive from here on start a new pull, because the tag may have moved.
                remove(&mut flights.lock(), &request, &flight);
                (shared.on_end.0)(&request.reference, began.elapsed(), landed.is_ok());
                flight.landed.send_replace(Some(landed.map_err(Arc::new)));
            }
        });
    }

    fn leave(&self, request: &Request, flight: &Arc<Flight>) {
        let mut flights = self.lock();
        let mut waiting = flight.waiting();
        *waiting -= 1;
        if *waiting == 0 {
            flight.ctx.cancel();
            remove(&mut flights, request, flight);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Request, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a flight, unless a later one for the same request has replaced it.
fn remove(flights: &mut HashMap<Request, Arc<Flight>>, request: &Request, flight: &Arc<Flight>) {
    if flights
        .get(request)
        .is_some_and(|known| Arc::ptr_eq(known, flight))
    {
        flights.remove(request);
    }
}

impl Flight {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulling {
    /// The progress of the pull, from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.flight.reporter.watch()
    }

    /// Waits for the end of the pull.
    ///
    /// # Errors
    /// Returns the pull's error, shared by all callers, or [`Error::NotPulled`] if this caller's `ctx` ends first.
    ///
    /// # Cancellation
    /// Safe to drop: the pull continues as long as another caller wants it.
    pub(crate) async fn done(&self, ctx: &Context) -> Landed {
        let mut landed = self.flight.landed.subscribe();
        let ended = ctx.run(landed.wait_for(Option::is_some)).await;
        let interrupted = |source| {
            let last = self.flight.reporter.last();
            Arc::new(Error::not_pulled(&self.request.reference, last, source))
        };
        match ended {
            Err(why) => Err(interrupted(why)),
            Ok(landed) => {
                let landed = landed.ok().and_then(|landed| landed.clone());
                // There is always a result: `wait_for` waits for it, and `self` holds the flight, which owns the sender.
                landed.unwrap_or_else(|| Err(interrupted(crate::Interrupted::Cancelled)))
            }
        }
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.flights.leave(&self.request, &self.flight);
    }
}
