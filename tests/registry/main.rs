//! Pulls from a real registry into a real containerd: what is fetched and how often, logins, mirrors, faults, races.
//! Between the two is a proxy that counts and breaks.

#![expect(
    clippy::expect_used,
    reason = "a test fails by a panic that says what it expected"
)]

#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/real.rs"]
mod real;
#[path = "../support/registry.rs"]
mod registry;

mod bad;
mod cache;
mod cli;
mod faults;
mod formats;
mod hosts;
mod killed;
mod local;
mod logins;
mod odd;
mod policy;
mod races;
mod resume;
mod rig;
mod sharing;
