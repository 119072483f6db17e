//! The spans of a container's phases, for whatever subscriber the host has.

use tracing::{Instrument as _, field};

use crate::driver::Error;

/// Does the work of the phase `name` of a container in a span that says how it went.
///
/// # Cancellation
/// As for `work`.
pub(super) async fn phase<T>(
    name: &'static str,
    id: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let span = tracing::debug_span!(
        "phase",
        otel.name = name,
        name,
        id,
        outcome = field::Empty,
        otel.status_description = field::Empty
    );
    let done = work.instrument(span.clone()).await;
    let outcome = done.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
    span.record("outcome", outcome);
    if let (Err(error), false) = (&done, span.is_disabled()) {
        span.record("otel.status_description", error.report());
    }
    done
}
