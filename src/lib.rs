//! fnctr runs function containers on containerd, with no Docker daemon: limits that are really enforced, idle
//! containers frozen in microseconds, endings that say what happened, and nothing left behind.
//!
//! # For whom
//!
//! A platform links this crate, fills in a [`driver::Task`] (or implements [`driver::ContainerTask`]) and gets
//! containers through [`driver::Driver`] and [`driver::Cookie`]:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use fnctr::driver::{Config, Driver, Output, Task};
//! use fnctr::{ContainerdDriver, Context, Settings};
//!
//! # async fn example() -> Result<(), fnctr::driver::Error> {
//! let ctx = Context::new();
//! let driver = ContainerdDriver::connect(&ctx, Config::default(), Settings::default()).await?;
//! let (stdout, said) = Output::capture(64 << 10);
//! let task = Task {
//!     id: "hello-1".into(),
//!     image: "busybox".into(),
//!     command: "echo hello".into(),
//!     memory: 64 << 20,
//!     disable_net: true,
//!     stdout: stdout.into(),
//!     ..Task::default()
//! };
//! let cookie = driver.create_cookie(&ctx, Arc::new(task)).await?;
//! let must_pull = cookie.validate_image(&ctx).await?;
//! assert!(!must_pull);
//! cookie.create_container(&ctx).await?;
//! let running = cookie.run(&ctx).await?;
//! cookie.freeze(&ctx).await?;
//! cookie.unfreeze(&ctx).await?;
//! println!("{}: {}", running.wait(&ctx).await.status(), said.text());
//! cookie.close(&ctx).await?;
//! # Ok(())
//! # }
//! ```
//!
//! An operator uses the `fnctr` command, which is the same through `cli` (the feature `cli`; the library is built without).
//!
//! # Architecture
//!
//! ```text
//!                        main.rs → cli/               composition root: the only place that knows everyone
//!                 ┌───────┬──┴──────┬──────────┐
//!          embedded/   doctor/   init/   containerd_driver/     the front door: translate in · call engine · translate out
//!       (a private     (is this  (PID 1        │
//!        containerd)  host fit?)  of all)      ▼
//!                                           engine/             lifecycle: plan → create → start → wait → close
//!                  ┌──────────┬──────────┬─────┴────┬──────────┐
//!               image/    stdio/ sandbox/ cgroup/   quota/  containerd/   mechanisms: each hides one external world
//!                  └──────────┴──────────┴─────┬────┴──────────┘
//!                                              │      oci (crate)   pure: ContainerConfig × ImageConfig × Host → Spec
//!                       context · teardown · tracked · holder · ids · units  foundation: imports nothing of ours
//!       driver/  (the contract: traits Driver, Cookie, ContainerTask; imports the foundation only)
//! ```
//!
//! Reading order: [`driver`] (what is promised) → `engine/mod.rs` (the states of a container, and the nine containerd
//! calls of its life) → `engine/{resolve,create}.rs` (a dozen lines that are the whole story) → whichever mechanism you
//! came for.
//!
//! | Module | Knows | Must never |
//! |---|---|---|
//! | [`oci`] | configuration as data | do I/O, read a clock, know a task or containerd |
//! | [`Context`], teardown, tracked, holder, [`ids`](ContainerId), [`units`](ByteSize) | std, tokio's time | import any of our modules |
//! | [`driver`] | the foundation | name tonic, containerd, Docker |
//! | `containerd` | the gRPC services | hold policy: no retries, no plans, no cleanup order |
//! | `image`, `stdio`, `sandbox`, `cgroup`, `quota` | one external world each (`image` also `containerd`) | import each other or the engine |
//! | `engine` | the mechanisms and [`oci`] | know the contract's traits, HTTP, a command-line flag |
//! | `containerd_driver` | the engine, the contract, where an [`embedded`] containerd is, and the values of `image`, `stdio` and `sandbox` that it hands over | call containerd itself |
//! | [`embedded`], [`init`], [`doctor`] | the host; the first also `cgroup`, the last also both, `quota` and `sandbox` | call containerd's services, import the engine |
//! | `cli` | everything | contain what deserves a unit test of its own elsewhere |
//!
//! # Invariants
//!
//! * **Undo before effect.** Whatever changes the world is first put on a list of named undo steps; a failed create runs
//!   it, a successful one hands it to the container and its run, and the removal runs it.
//! * **Ownership is a value.** Who creates a container gets the duty to remove it with it (`engine/owned.rs`); the drop of its
//!   last owner removes what nobody did. Any other handle may be dropped, and leaves the container as it is.
//! * **The record is the lock.** A containerd record is made first and removed last. It gives an id to one attempt, and
//!   keeps the snapshot that it names from containerd's garbage collector, so a container needs no lease; leases with an
//!   expiry guard what has no record yet (images being loaded or pulled).
//! * **What outlives the host is written down first.** A network's addresses are files of its plugins, so a sandbox has an entry
//!   on disk before the first plugin runs and until the last has undone its work; a container's record names its sandbox.
//! * **A change is never raced against its caller.** It runs on a tracked task (`tracked.rs`); a caller that goes away cancels
//!   it, and it unwinds there. Every verb of the engine does so itself, so each of its futures may be dropped.
//! * **The host's own code may fail in any way.** What a host implements or hands over may panic, block or never end. It is
//!   called through `containerd_driver/{host,streams}.rs`, which turn that into an error of the call that asked for it.
//! * **The kernel is asked, not remembered.** Whether a container is frozen, and whether memory ran out, is read from its
//!   cgroup.
//! * Only `containerd/` names tonic, and only `image/registry/` an HTTP client; only `quota/sys.rs` has unsafe code; only
//!   `cli`, [`Registries::from_env`] and the search for programs in [`embedded`] read the environment; only `main.rs`
//!   installs a subscriber or exits; every task that can change the world belongs to a tracker that a close waits for;
//!   "namespace" always says which kind.

mod cgroup;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod containerd;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        unused_imports,
        reason = "the command's verbs; a build with it finds what nobody uses"
    )
)]
mod containerd_driver;
mod context;
pub mod doctor;
pub mod driver;
pub mod embedded;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        unused_imports,
        reason = "the command's verbs; a build with it finds what nobody uses"
    )
)]
mod engine;
mod holder;
mod ids;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        reason = "the command's verbs; a build with it finds what nobody uses"
    )
)]
mod image;
pub mod init;
mod quota;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        unused_imports,
        reason = "the command's verbs; a build with it finds what nobody uses"
    )
)]
mod sandbox;
mod stdio;
mod teardown;
mod tracked;
mod units;

pub use containerd_driver::{
    Adoptable, Adopted, CgroupDriver, ContainerOptions, ContainerState, ContainerdDriver, InvalidPortMapping,
    Network, NetworkSettings, PoolState, PortMapping, Protocol, Registries, Settings, UnknownDriver,
    register,
};
pub use context::{Context, Interrupted};
pub use fnctr_oci as oci;
pub use ids::{ContainerId, Digest, InvalidName, LeaseId, Namespace};
pub use units::{ByteSize, InvalidQuantity, MilliCpus};

pub(crate) use driver::report as chain;
