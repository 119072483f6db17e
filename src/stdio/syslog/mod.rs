//! A function's output as syslog messages, line by line, in addition to the other destinations of its streams.
//!
//! ```text
//! stdout ─► Logged ─┬─► the task's writer              ┌────────────┐
//!                   └─► lines ─► messages ─► Queue ───►│ delivery   │──► udp, tcp, unix, unixgram
//! stderr ─► Logged ─┬─► lines ─► messages ─┘ 1 MiB     │ reconnects │
//!                   └─► the task's writer              └────────────┘
//! ```
//!
//! The endpoint must answer once, before the container is created. After that it may be slow or disappear: the queue
//! then drops its oldest lines and counts them, and the function is not affected. The endpoint receives what Docker's
//! syslog driver sends in the format `rfc5424`, so that a host's receivers keep working; see [`message`].
//!
//! Written without a crate: the part that a crate would save is one line of text, and the difficult part (a bounded
//! queue, reconnecting, a bounded end) is in no crate.

mod connection;
mod delivery;
mod endpoint;
mod lines;
mod message;
mod queue;
#[cfg(test)]
mod rsyslog_tests;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use self::connection::Connection;
use self::delivery::Delivery;
pub(crate) use self::endpoint::Endpoint;
use self::message::{Format, Severity};
use self::queue::Queue;
use self::stream::SyslogStream;
use super::Streams;
use super::logged::logged;
use crate::metrics::Metrics;
use crate::{Context, Interrupted};

/// How long an endpoint may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long delivering the last lines of an ended function may take.
const FLUSHING: Duration = Duration::from_secs(2);

/// The connected log of one container: both output streams share one connection.
#[derive(Debug)]
pub(crate) struct Syslog {
    stdout: SyslogStream,
    stderr: SyslogStream,
}

/// Why the log could not be connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSyslog {
    /// The endpoint did not accept a connection, or not in time.
    #[error("cannot connect")]
    Unavailable(#[source] io::Error),
    /// The caller cancelled first.
    #[error(transparent)]
    Cancelled(Interrupted),
}

impl Syslog {
    /// Connects. If no connection can be made within 5 s, or before the deadline of `ctx`, the log is unavailable.
    /// Delivery runs on `tracker`; it ends when both streams have ended, at most 2 s later. `metrics` counts what it loses.
    ///
    /// # Cancellation
    /// Safe to drop; nothing is left.
    pub(crate) async fn connect(
        ctx: &Context,
        endpoint: &Endpoint,
        tag: &str,
        tracker: &TaskTracker,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, NoSyslog> {
        let patience = ctx.with_timeout(CONNECTING);
        let connection = match patience.run(Connection::open(endpoint)).await {
            Ok(opened) => opened.map_err(NoSyslog::Unavailable)?,
            Err(Interrupted::DeadlineExceeded) => {
                let text = "it did not accept a connection in time";
                return Err(NoSyslog::Unavailable(io::Error::new(
                    io::ErrorKind::TimedOut,
                    text,
                )));
            }
            Err(why @ Interrupted::Cancelled) => return Err(NoSyslog::Cancelled(why)),
        };
        let queue = Queue::new(2, metrics);
        let log = |severity| {
            let format = Format::new(severity, &message::host_name(), tag, endpoint.terminator());
            SyslogStream::new(queue.clone(), format)
        };
        let (stdout, stderr) = (log(Severity::Info), log(Severity::Error));
        tracker.spawn(
            Delivery::new(queue, endpoint.clone(), connection)
                .run()
                .in_current_span(),
        );
        Ok(Self { stdout, stderr })
    }

    /// Returns the streams with logging attached. A null stream becomes attached, only for the log.
    pub(crate) fn attach(self, streams: Streams) -> Streams {
        let Streams {
            stdin,
            stdout,
            stderr,
        } = streams;
        Streams {
            stdin,
            stdout: logged(stdout, self.stdout),
            stderr: logged(stderr, self.stderr),
        }
    }
}
