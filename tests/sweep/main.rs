//! What is left of a container when a containerd call breaks, whichever and however: nothing.
//!
//! The driver works on a fake containerd over its socket, and knows nothing of it. Each test breaks calls, gives up, or
//! goes away, and then compares the world with an empty one. No root is needed, and no time is waited for that a fault
//! does not cost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: a failure here fails the test"
)]

#[path = "../support/fake_containerd/mod.rs"]
mod fake_containerd;
#[path = "../support/kernel.rs"]
mod kernel;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/registry.rs"]
mod registry;

mod cancellation;
mod closing;
#[cfg(feature = "cli")]
mod command;
mod descriptors;
mod exits;
mod fault_sweep;
mod foreign;
mod host_code;
mod images;
#[cfg(feature = "cli")]
mod kept;
mod order;
mod pulls;
mod rig;
#[cfg(feature = "cli")]
mod serve;
#[cfg(feature = "opentelemetry")]
mod traces;
mod undo;
mod ways;
