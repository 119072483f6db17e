//! Sends messages from the queue to the endpoint while the container's streams are open, and for a moment longer.
//!
//! A message counts as sent when the kernel has taken all of it. A message that a broken connection took in part is
//! sent again as a whole. What the kernel had taken when the connection broke may be lost, as with any syslog over TCP.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::time::Duration;

use super::connection::{Connection, Progress};
use super::endpoint::Endpoint;
use super::queue::Queue;
use super::{CONNECTING, FLUSHING};

/// The pause between attempts to reconnect. Doubles from the first value to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// An endpoint that takes nothing for this long counts as gone.
const STALLED: Duration = Duration::from_secs(30);

/// The background work for one log.
#[derive(Debug)]
pub(super) struct Delivery {
    queue: Queue,
    endpoint: Endpoint,
    connection: Option<Connection>,
    /// Attempts that failed since the last successful send.
    failures: u32,
    /// Whether the last attempt was made. Once the streams have ended, an unreachable endpoint gets one more attempt;
    /// the function's result does not wait for another.
    last_attempt: bool,
}

impl Delivery {
    pub(super) fn new(queue: Queue, endpoint: Endpoint, connection: Connection) -> Self {
        Self {
            queue,
            endpoint,
            connection: Some(connection),
            failures: 0,
            last_attempt: false,
        }
    }

    /// Works until all streams have ended and their lines are delivered, or [`FLUSHING`] has passed since they ended.
    ///
    /// # Cancellation
    /// Safe to drop; messages in the queue are lost.
    pub(super) async fn run(mut self) {
        let (queue, endpoint) = (self.queue.clone(), self.endpoint.clone());
        let time_is_up = async {
            queue.closing().await;
            tokio::time::sleep(FLUSHING).await;
        };
        tokio::select! {
            biased;
            () = self.deliver() => {}
            () = time_is_up => {}
        }
        let lost = queue.abandon();
        if lost > 0 {
            tracing::warn!(%endpoint, lost, "lost lines of a function's log, because syslog did not accept them");
        }
    }

    async fn deliver(&mut self) {
        while let Some(mut batch) = self.queue.take().await {
            while !batch.is_empty() {
                let Some(connection) = self.connected().await else {
                    return;
                };
                let sent = tokio::time::timeout(STALLED, connection.send(&mut batch)).await;
                match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(Progress { done, lost }) => {
                        self.failures = 0;
                        self.queue.settle(done, lost);
                    }
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    /// The connection, restored with as many attempts as needed; `None` if the log ends first.
    async fn connected(&mut self) -> Option<&mut Connection> {
        if self.connection.as_ref().is_some_and(Connection::is_gone) {
            tracing::debug!(endpoint = %self.endpoint, "syslog closed the connection");
            self.connection = None;
        }
        while self.connection.is_none() {
            if self.failures > 0 {
                let pause = pause(self.failures);
                // The end of the streams interrupts the pause, because little time is left then.
                drop(tokio::time::timeout(pause, self.queue.closing()).await);
            }
            if self.queue.is_closing() && std::mem::replace(&mut self.last_attempt, true) {
                return None;
            }
            self.queue.connects_again();
            let opened = tokio::time::timeout(CONNECTING, Connection::open(&self.endpoint)).await;
            match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => self.failed(&error),
            }
        }
        self.connection.as_mut()
    }

    fn failed(&mut self, error: &io::Error) {
        if self.failures == 0 {
            tracing::debug!(endpoint = %self.endpoint, %error, "syslog is unreachable; retrying");
        }
        self.connection = None;
        self.failures = self.failures.saturating_add(1);
        self.queue.fall_behind();
    }
}

/// How long to wait after this many failures: at random between half of the doubled pause and all of it, so that the
/// containers of a host do not all reconnect to a restarted server at once.
fn pause(failures: u32) -> Duration {
    let longest = PAUSES
        .0
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(PAUSES.1);
    // Each state of the standard library's hasher has its own random keys.
    let random = RandomState::new().build_hasher().finish() % 1000;
    longest / 2 + (longest / 2).mul_f64(random as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for (failures, longest) in [(1, 100), (2, 200), (5, 1600), (8, 10_000), (u32::MAX, 10_000)] {
            let longest = Duration::from_millis(longest);
            let pause = pause(failures);
            assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
        }
    }
}
