//! The gateway to containerd: the only module that may name `containerd_client` or `tonic`.
//!
//! A [`Session`] is a connection with a stamp (the containerd namespace and, when leased, the lease) that every call
//! carries. Each service file offers the operations of one service with this crate's types; the generated messages do
//! not leave this directory. There is no policy here: no retries, no plans, no order of cleaning up. containerd 1.6,
//! 1.7 and 2.x are supported alike, so no code may need a service or a field that 1.6 does not have.
//!
//! ```text
//! Session ─► containers() tasks() snapshots(name) images() content() diff() leases() events() namespaces()
//!            introspection() version()
//!               │
//!               └─ verb(ctx, …) ─► Call { name, target, limit } ─► change: checked, then awaited to its reply
//!                                                               └► read: raced against ctx
//! ```

#![cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "each service's verbs are a set, tested together; cleaning images needs the rest"
    )
)]

mod any;
mod call;
mod containers;
mod content;
mod diff;
mod error;
mod events;
mod execs;
mod images;
mod ingest;
mod introspection;
mod leases;
mod meter;
mod namespaces;
mod processes;
mod session;
mod snapshots;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod version;
mod writer;

pub(crate) use any::RuntimeOptions;
pub(crate) use containers::{Containers, Field, Record};
pub(crate) use content::{Content, Descriptor, Parts};
pub(crate) use diff::Diff;
pub(crate) use error::Error;
#[cfg(feature = "cli")]
pub(crate) use events::Subscription;
pub(crate) use events::{Events, TaskEvent, TaskExit};
pub(crate) use execs::NewExec;
pub(crate) use images::{ImageRecord, Images};
pub(crate) use introspection::{Introspection, SNAPSHOTTER};
pub(crate) use leases::{Lease, Leases, Resource};
pub(crate) use meter::Meter;
#[cfg(feature = "cli")]
pub(crate) use meter::Timing;
pub(crate) use namespaces::Namespaces;
pub(crate) use processes::ProcessId;
pub(crate) use session::Session;
#[cfg(test)]
pub(crate) use snapshots::SnapshotKind;
pub(crate) use snapshots::{Mount, Snapshots};
pub(crate) use tasks::{NewTask, TaskInfo, TaskStatus, Tasks};
pub(crate) use version::Version;
pub(crate) use writer::Writer;
