//! The driver on a real containerd with a real runtime: the laws of the contract, the limits as seen from inside, bad
//! input, faults, recovery. Each test has a containerd of its own and ends with a census.

#![expect(
    clippy::expect_used,
    reason = "a test fails by a panic that says what it expected"
)]

#[path = "../support/census.rs"]
mod census;
#[path = "../conformance/mod.rs"]
mod conformance;
#[path = "../support/image.rs"]
mod image;
#[path = "../support/kernel.rs"]
mod kernel;
#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/real.rs"]
mod real;
#[path = "../support/registry.rs"]
mod registry;

mod attach;
mod bad_input;
mod beside;
mod cli;
mod crowd;
mod docker_api;
#[cfg(feature = "docker")]
mod docker_driver;
mod drivers;
mod events;
mod files;
mod forsaken;
mod full;
mod full_disk;
mod habits;
mod half_made;
mod kept;
#[cfg(feature = "failpoints")]
mod killed;
mod laws;
mod limits;
mod memory;
mod metrics;
mod network;
mod orphans;
mod private;
mod quota;
mod races;
mod reclaim;
mod reconcile;
mod recovery;
mod resources;
mod server;
mod session;
mod shim;
mod soak;
mod stats;
mod stats_cli;
mod stopped;
mod syslog;
mod terminals;
mod world;
