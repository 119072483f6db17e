//! The Container Network Interface, from the side of the runtime that runs the plugins
//! (github.com/containernetworking/cni, SPEC.md 0.4.0 and 1.0.0).
//!
//! ```text
//! NAME.conflist ─► config: List ─► chain: ADD 1 ─► 2 ─► … n ─► Outcome ─► (journal)
//!                                  DEL n ─► … ─► 1     ▲ plugin: one process, JSON in, JSON out, a deadline
//! ```
//!
//! A plugin keeps running if the process that ran it is killed; `stragglers` ends such plugins.
//!
//! Written by hand, because no crate for it is well maintained, and it is small: a file format, an environment, a
//! program, a reply.

mod chain;
mod config;
mod outcome;
mod plugin;
mod stragglers;

pub(super) use chain::{Added, Chain, Taken};
pub(super) use config::{List, find, read_dirs};
pub(crate) use outcome::{Address, Dns, Outcome};
pub(super) use plugin::{Attachment, Plugins};
pub(super) use stragglers::end as end_stragglers;
