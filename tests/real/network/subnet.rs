//! Addresses that no other test uses: not of this process, not of a suite beside it, not of the host.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

use super::host::said;

/// A /24 of 10.190.0.0/15, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Subnet {
    number: u32,
    /// The kernel gives an abstract name to one socket at a time, and takes it back when its process ends.
    _held: UnixListener,
}

impl Subnet {
    /// One that nobody holds, and that the host has neither a route nor a rule for.
    pub(crate) fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let routes = said("ip", &["-4", "route", "show", "table", "all"]);
        let known = routes + &said("iptables-save", &[]);
        let candidates = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed) % 512).take(512);
        for number in candidates {
            let name = format!("fnctr-test-subnet-{number}");
            let address = SocketAddr::from_abstract_name(name).expect("a name");
            let Ok(_held) = UnixListener::bind_addr(&address) else {
                continue;
            };
            let subnet = Self { number, _held };
            let prefix = format!("{}.", subnet.prefix());
            if !known.split_whitespace().any(|word| word.starts_with(&prefix)) {
                return subnet;
            }
        }
        panic!("no subnet of 10.190.0.0/15 is free");
    }

    /// The first three numbers of its addresses.
    pub(crate) fn prefix(&self) -> String {
        format!("10.{}.{}", 190 + self.number / 256, self.number % 256)
    }
}
