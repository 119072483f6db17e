//! What an engine has done, counted and timed, for a monitoring system: in the text format that Prometheus reads
//! (OpenMetrics 1.0).
//!
//! Recording costs some hundred nanoseconds, without a call to anything outside this process.

mod counters;
mod levels;
mod retry_reason;

pub(crate) use self::counters::Metrics;
pub(crate) use self::levels::{ImageLevels, PoolCounts};
pub(crate) use self::retry_reason::RetryReason;
