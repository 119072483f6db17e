//! One pull for everybody who wants the same at the same time.
//!
//! The pull belongs to none of them: it runs on a task of its own, each of them waits with its own context, and the one who
//! leaves last cancels it. Whoever comes while a cancelled one is unwinding begins another, which finds what the first has
//! fetched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tracing::Instrument as _;

use super::progress::{Progress, Reporter};
use super::{Again, Job, Request, Shared};
use crate::Context;
use crate::image::{Error, Image};

type Landed = Result<Image, Arc<Error>>;

/// The pulls that are under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Request, Arc<Flight>>>);

#[derive(Debug)]
struct Flight {
    ctx: Context,
    reporter: Reporter,
    landed: watch::Sender<Option<Landed>>,
    /// How many wait for it. Changes under the lock of the map only.
    waiting: Mutex<usize>,
}

/// A share in a pull. Dropped, it no longer wants it.
#[derive(Debug)]
#[must_use = "a pull that nobody wants is cancelled"]
pub(crate) struct Pulling {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    request: Request,
}

impl Flights {
    pub(super) fn join(this: &Arc<Self>, shared: &Arc<Shared>, request: Request, again: Again) -> Pulling {
        let mut flights = this.lock();
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
                this.begin(shared, &request, &flight, again);
                flight
            }
        };
        *flight.waiting() += 1;
        Pulling {
            flights: Arc::clone(this),
            flight,
            request,
        }
    }

    fn begin(self: &Arc<Self>, shared: &Arc<Shared>, request: &Request, flight: &Arc<Flight>, again: Again) {
        let job = Job::new(Arc::clone(shared), request.clone(), flight.reporter.clone());
        let ctx = flight.ctx.clone();
        let work = shared
            .tracker
            .spawn(async move { job.run(&ctx, again).await }.in_current_span());
        let (flights, flight, request) = (Arc::clone(self), Arc::clone(flight), request.clone());
        shared.tracker.spawn(async move {
            let landed = work.await.unwrap_or_else(|panic| {
                Err(Error::Broken {
                    image: request.reference.to_string(),
                    why: panic.to_string(),
                })
            });
            // Whoever comes from here on begins anew: the tag may have moved.
            flights.remove(&request, &flight);
            flight.landed.send_replace(Some(landed.map_err(Arc::new)));
        });
    }

    fn leave(&self, request: &Request, flight: &Arc<Flight>) {
        let mut flights = self.lock();
        let mut waiting = flight.waiting();
        *waiting -= 1;
        if *waiting == 0 {
            flight.ctx.cancel();
            if flights
                .get(request)
                .is_some_and(|known| Arc::ptr_eq(known, flight))
            {
                flights.remove(request);
            }
        }
    }

    fn remove(&self, request: &Request, flight: &Arc<Flight>) {
        let mut flights = self.lock();
        if flights
            .get(request)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            flights.remove(request);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Request, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulling {
    /// How far it is, from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.flight.reporter.watch()
    }

    /// Waits for the end of the pull.
    ///
    /// # Errors
    /// Everybody who waits is told the same; [`Error::NotPulled`] if `ctx` ended first.
    ///
    /// # Cancellation
    /// Safe to drop: the pull goes on for as long as anybody else wants it.
    pub(crate) async fn done(&self, ctx: &Context) -> Landed {
        let mut landed = self.flight.landed.subscribe();
        let ended = ctx.run(landed.wait_for(Option::is_some)).await;
        let interrupted = |source| {
            let last = self.flight.reporter.last();
            Arc::new(Error::not_pulled(&self.request.reference, last, source))
        };
        match ended {
            Err(why) => Err(interrupted(why)),
            Ok(Ok(landed)) => match &*landed {
                Some(landed) => landed.clone(),
                None => Err(interrupted(crate::Interrupted::Cancelled)),
            },
            // The flight, which has the sender, is ours.
            Ok(Err(_)) => Err(interrupted(crate::Interrupted::Cancelled)),
        }
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.flights.leave(&self.request, &self.flight);
    }
}
