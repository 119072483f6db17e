//! What a container uses: its cgroup's counters, its network's, and the rate between two readings.

use tokio::time::Instant;

use super::container::Container;
use super::error::{Error, Kind, Result, Step};
use crate::cgroup::{self, Sample};

/// One reading.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// When, on the clock that rates are taken from.
    pub(crate) at: Instant,
    /// The cgroup's counters.
    pub(crate) cgroup: Sample,
    /// Bytes received in the container's network namespace, loopback left out.
    pub(crate) net_rx: u64,
    /// Bytes sent.
    pub(crate) net_tx: u64,
}

impl Container {
    /// Reads the counters now. A container that has ended is [`Kind::NotFound`].
    pub(crate) fn usage(&self) -> Result<Usage> {
        let gone = "its process has ended";
        let paths = self.paths().ok_or_else(|| {
            Error::new(
                Step::Stats,
                self.id(),
                Kind::Unsupported,
                "its cgroups could not be found",
            )
        })?;
        let cgroup = cgroup::sample(paths).map_err(|error| {
            let kind = if error.is_gone() {
                Kind::NotFound
            } else {
                Kind::Internal
            };
            Error::new(Step::Stats, self.id(), kind, error)
        })?;
        let ended = || Error::new(Step::Stats, self.id(), Kind::NotFound, gone);
        let pid = self.pid().ok_or_else(ended)?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).map_err(|_| ended())?;
        let (net_rx, net_tx) = net_bytes(&text);
        Ok(Usage {
            at: Instant::now(),
            cgroup,
            net_rx,
            net_tx,
        })
    }
}

/// The sums over all interfaces but loopback of `/proc/PID/net/dev` (proc_pid_net(5)): field 1 is bytes received,
/// field 9 bytes sent.
fn net_bytes(text: &str) -> (u64, u64) {
    let mut sums = (0u64, 0u64);
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let field = |n: usize| {
            counters
                .split_whitespace()
                .nth(n)
                .and_then(|v| v.parse().ok())
                .unwrap_or(0u64)
        };
        sums.0 = sums.0.saturating_add(field(0));
        sums.1 = sums.1.saturating_add(field(8));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::net_bytes;

    #[test]
    fn loopback_is_not_traffic() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                    lo:  100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n  \
                    eth0: 1500 9 0 0 0 0 0 0 700 8 0 0 0 0 0 0\n  \
                    eth1:5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(net_bytes(text), (1505, 706));
        assert_eq!(net_bytes(""), (0, 0));
    }
}
