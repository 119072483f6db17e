//! The traffic of a container's network.

use std::path::Path;

use crate::cgroup;

/// Bytes over all interfaces of a network namespace except loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Received.
    pub(crate) rx: u64,
    /// Sent.
    pub(crate) tx: u64,
}

impl Traffic {
    /// The traffic since an earlier count: a namespace may have served other containers before, which its counters
    /// include.
    pub(super) fn since(self, before: Option<Self>) -> Self {
        let before = before.unwrap_or(Self { rx: 0, tx: 0 });
        Self {
            rx: self.rx.saturating_sub(before.rx),
            tx: self.tx.saturating_sub(before.tx),
        }
    }
}

/// The traffic in the network namespace of a process; `None` if it cannot be read.
pub(super) fn of_pid(pid: u32) -> Option<Traffic> {
    let text = cgroup::read_whole(Path::new(&format!("/proc/{pid}/net/dev"))).ok()?;
    Some(net_bytes(&text))
}

/// The sums over all interfaces except loopback of `/proc/PID/net/dev` (proc_pid_net(5)): field 1 is bytes received,
/// field 9 bytes sent.
fn net_bytes(text: &str) -> Traffic {
    let mut sums = Traffic { rx: 0, tx: 0 };
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
        sums.rx = sums.rx.saturating_add(field(0));
        sums.tx = sums.tx.saturating_add(field(8));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_traffic() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                    lo:  100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n  \
                    eth0: 1500 9 0 0 0 0 0 0 700 8 0 0 0 0 0 0\n  \
                    eth1:5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(net_bytes(text), Traffic { rx: 1505, tx: 706 });
        assert_eq!(net_bytes(""), Traffic { rx: 0, tx: 0 });
    }
}
