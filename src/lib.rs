//! fnctr runs function containers on containerd, without a Docker daemon: limits are enforced, idle containers are
//! frozen in microseconds, the outcome of a container states why it ended, and nothing is left behind.
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
//! An operator uses the `fnctr` command, which is the module `cli` and offers the same functions. It is built with the
//! feature `cli` only, which the library does not need.
//!
//! # Spans
//!
//! What the library does is in spans of the crate `tracing`, at the level DEBUG and with the target `fnctr`, for whatever
//! subscriber the platform has; it installs none itself. A `phase` (`name` is create, start, exec, remove or pull) has the `id` of its
//! container or its `image`, and an `outcome`. A `call` to containerd is inside the phase that needs it, and has the `object` that
//! it is about and the `answer`. A phase is inside the span from which the platform has called. The layer of `tracing-opentelemetry`
//! finds names, kinds and errors in the fields that begin with `otel.`. The command sends the same spans to a collector, if
//! it is built with the feature `opentelemetry`.
//!
//! # Architecture
//!
//! ```text
//!                        main.rs → cli/               composition root: the only place that knows everyone
//!                 ┌───────┬──┴──────┬──────────┐
//!          embedded/   doctor/   init/   containerd_driver/ docker_api/ ◄─HTTP─ docker_driver/   the front doors: translate in · call engine · translate out
//!       (a private     (is this  (PID 1        │               │               (the contract over any Docker Engine API; knows no engine)
//!        containerd)  host fit?)  of all)      ▼               ▼
//!                                           engine/             lifecycle: plan → create → start → wait → close
//!                  ┌──────────┬──────────┬─────┴────┬──────────┐
//!               image/ stdio/ sandbox/ cgroup/ quota/ files/ volume/ dns/ events/ containerd/   mechanisms: each hides one external world
//!                  └──────────┴──────────┴─────┬────┴──────────┘
//!                                              │      oci (crate)   pure: ContainerConfig × ImageConfig × Host → Spec
//!        context · teardown · tracked · pauses · process_identity · file_lock · metrics · mountinfo · failpoint · clock · sys · idle_memory · ids · units · docker_syntax · detach_keys · dir_changes · compression · credentials · eviction · pool  foundation: imports nothing of ours
//!       driver/  (the contract: traits Driver, Cookie, ContainerTask; imports the foundation only)
//! ```
//!
//! Reading order: [`driver`] (the contract) → `engine/mod.rs` (the states of a container, and the nine containerd calls
//! of its life) → `containerd_driver/cookie.rs` (the contract on the engine) → `engine/{resolve,create}.rs` (the steps of
//! a create) → the mechanism that you are interested in.
//!
//! | Module | Depends on | Must never |
//! |---|---|---|
//! | [`oci`] | configuration as data | do I/O, read a clock, refer to tasks or containerd |
//! | [`Context`], teardown, tracked, pauses, process_identity, file_lock, metrics, mountinfo, failpoint, clock, sys, idle_memory, [`ids`](ContainerId), [`units`](ByteSize), docker_syntax, detach_keys, dir_changes, compression, credentials, eviction, pool | std, tokio | import any other of our modules |
//! | [`driver`] | the foundation | name tonic, containerd, Docker |
//! | `containerd` | the gRPC services | hold policy: no retries, no plans, no cleanup order |
//! | `image`, `stdio`, `sandbox`, `cgroup`, `quota`, `files`, `volume`, `dns`, `events` | one external world each (`image` also `containerd`) | import each other or the engine |
//! | `engine` | the mechanisms and [`oci`] | refer to the contract's traits, HTTP, a command-line flag |
//! | `containerd_driver` | the engine, the contract, the socket of an [`embedded`] containerd, and the types of `image`, `stdio` and `sandbox` that it passes on | call containerd itself |
//! | `docker_driver` | the contract, and a client of Docker's API | know an engine, whichever answers |
//! | `docker_api` | the engine, and an HTTP server | call containerd, know the driver contract |
//! | [`embedded`], [`init`], [`doctor`] | the host; `embedded` also `cgroup`; `doctor` also `cgroup`, `quota`, `sandbox`, `embedded` and `init` | call containerd's services, import the engine |
//! | `cli` | everything | contain logic that deserves a unit test of its own |
//!
//! # Invariants
//!
//! * **Undo before effect.** Before each change outside this process, a named step that undoes it is put on a list. A
//!   create that fails runs the list; a create that succeeds hands it to the container and its run, and the removal
//!   runs it.
//! * **Ownership is a value.** The creator of a container gets an owner (`engine/owned.rs`) and with it the duty to
//!   remove the container. If no owner has removed it, the drop of the last owner does. Any other handle may be
//!   dropped, and leaves the container as it is.
//! * **The record is the lock.** A containerd record is made first and removed last. It reserves an id for one attempt,
//!   and protects the snapshot that it names from containerd's garbage collector, so a container needs no lease. Leases
//!   with an expiry protect data that has no record yet (images being loaded or pulled).
//! * **The end of a kept container is written down before its task is deleted.** Afterwards the exit code cannot be
//!   read any more. One process at a time changes the record of a kept container (`engine/turn.rs`), and one at a time
//!   removes a container of another kind (`engine/removal_turn.rs`).
//! * **State that survives a reboot is written down first.** Network plugins keep the addresses that they assign in
//!   files, so a sandbox has an entry on disk from before the first plugin runs until the last plugin has undone its
//!   work. A container's record names its sandbox.
//! * **A change is never raced against its caller.** It runs on a tracked task (`tracked.rs`). If the caller goes away,
//!   the task is cancelled and undoes the change itself. Every method of the engine that changes something works like
//!   this, so each of its futures may be dropped. The exceptions have names that end in `_here`: they run on the
//!   caller's own task, which must be tracked.
//! * **The platform's code may fail in any way.** Traits that the platform implements and streams that it passes in may
//!   panic, block or never end. They are called through `driver/{host,guarded}.rs`, which turn this into an
//!   error of the call that used them.
//! * **State is read from the kernel, not remembered.** Whether a container is frozen, and whether memory ran out, is
//!   read from its cgroup.
//! * Only `containerd/` names tonic, only `image/registry/` an HTTP client, only `docker_api/` an HTTP server, and only
//!   `docker_driver/` a client of Docker's API; only `sys.rs` has unsafe code; only `cli`, `credentials`, the
//!   settings of `docker_driver` and the search for programs in [`embedded`] read the environment, `failpoint` in a
//!   build for tests, and `main.rs` for what is logged and traced; only `main.rs` installs a subscriber or exits; every
//!   task that can change something outside this process belongs to a tracker that a close waits for; the word
//!   "namespace" is always used with its kind. `bin/fnctr-shim/` is a program of its own, and names none of this crate.

mod cgroup;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
mod compression;
mod containerd;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        unused_imports,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod containerd_driver;
mod context;
mod credentials;
#[cfg(feature = "cli")]
mod detach_keys;
mod dir_changes;
#[cfg(feature = "cli")]
mod dns;
#[cfg(feature = "cli")]
mod docker_api;
#[cfg(feature = "docker")]
mod docker_driver;
#[cfg(feature = "cli")]
mod docker_syntax;
pub mod doctor;
pub mod driver;
pub mod embedded;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        unused_imports,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod engine;
mod events;
mod eviction;
mod failpoint;
mod file_lock;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod files;
#[cfg(feature = "cli")]
mod idle_memory;
mod ids;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod image;
pub mod init;
mod metrics;
mod mountinfo;
mod pauses;
mod pool;
mod process_identity;
mod quota;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod sandbox;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod stdio;
mod sys;
mod teardown;
mod tracked;
mod units;
#[cfg_attr(
    not(feature = "cli"),
    expect(
        dead_code,
        reason = "only the command uses these verbs; a build with the feature reports dead code"
    )
)]
mod volume;

pub use containerd_driver::{
    Adoptable, Adopted, CgroupDriver, ContainerOptions, ContainerState, ContainerdDriver, InvalidPortMapping,
    Network, NetworkSettings, PoolState, PortMapping, Protocol, Registries, Settings, UnknownDriver,
    register,
};
pub use context::{Context, Interrupted};
#[cfg(feature = "docker")]
pub use docker_driver::{
    DockerDriver, DockerOptions, DockerSettings, docker_models, register as register_docker,
};
pub use fnctr_oci as oci;
pub use ids::{ContainerId, ContainerName, Digest, InvalidName, LeaseId, Namespace};
pub use units::{ByteSize, InvalidQuantity, MilliCpus};

pub(crate) use driver::report as chain;
