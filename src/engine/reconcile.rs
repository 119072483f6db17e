//! Finds strays and removes them one by one: objects that a killed process, containerd or shim has left, and that no
//! running process and no container needs any more. Only objects with this engine's mark are found: its containerd
//! namespace, its labels, its directories, its names of cgroups and networks.
//!
//! An engine does most of this at its start, in the background, and a long-lived one repeats it at intervals.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::abandoned::{self, Need};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::first_records::FirstRecords;
use super::orphans::{self, Trace};
use super::{Deps, Engine, find, stray_files, stray_networks, unfinished};
use crate::metrics::RetryReason;
use crate::pauses::Pauses;
use crate::{ContainerId, Context};

/// How often a long-lived engine searches.
const EVERY: Duration = Duration::from_secs(60);
/// The longest pause after failures.
const LONGEST: Duration = Duration::from_secs(600);

/// A stray that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is.
    pub(crate) kind: Stray,
    /// Its name.
    pub(crate) id: String,
}

/// The kinds of strays. The text is the reason why nothing needs the object any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    /// A container of which a part could not be removed, or whose remover was killed.
    Unfinished,
    /// A container past its deadline, whose owner is gone.
    Overdue,
    /// A kept container that has ended without a record of its end.
    Unsettled,
    /// A shim with all that it holds, of a container that has no record.
    Shim,
    /// A shim of a run whose end is written.
    EndedRun,
    /// An empty cgroup of a container that is gone.
    Cgroup,
    /// Files of the streams of a container that has no record.
    Streams,
    /// Files that containerd has of a container that has no record.
    Bundle,
    /// The OCI runtime's own record of a container that has no other.
    RuntimeRecord,
    /// The log of a container that has no record.
    Log,
    /// A container that holds a slot of a pool of networks, and the slot no longer exists.
    Holder,
    /// A network namespace, its addresses and rules, that no container has.
    Network,
    /// A lease of a pull or load whose process is gone.
    Lease,
}

impl Stray {
    /// The kind of object that it is.
    pub(crate) fn object(self) -> &'static str {
        match self {
            Self::Unfinished | Self::Overdue | Self::Unsettled | Self::Holder => "container",
            Self::Shim | Self::EndedRun => "shim",
            Self::Cgroup => "cgroup",
            Self::Streams => "streams",
            Self::Bundle => "bundle",
            Self::RuntimeRecord => "runtime record",
            Self::Log => "log",
            Self::Network => "network namespace",
            Self::Lease => "lease",
        }
    }

    /// What is done about it, after "is" or "would be".
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Unsettled => "settled",
            Self::Overdue => "ended",
            _ => "removed",
        }
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfinished => "its removal was begun and not finished",
            Self::Overdue => "its time is over, and the process that was to end it is gone",
            Self::Unsettled => "it has ended, and its end is not on its record",
            Self::Shim => "its container has no record",
            Self::EndedRun => "its run has ended, and the process that was removing it is gone",
            Self::Cgroup => "it is empty, and its container is gone",
            Self::Streams => "their container has no record",
            Self::Bundle => "its container has no record, and containerd does not remove it",
            Self::RuntimeRecord => "its container has no record, no shim and no process",
            Self::Log => "its container has no record",
            Self::Holder => "the slot of the pool that it held no longer exists",
            Self::Network => "no container has it, and the process that made it is gone",
            Self::Lease => "the process that held it is gone",
        })
    }
}

/// The strays that were found.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// In the order in which it is to be removed.
    pub(crate) found: Vec<Finding>,
    /// Why a part could not be examined, if so.
    pub(crate) failed: Option<Error>,
}

impl Strays {
    fn add(&mut self, kind: Stray, id: impl Into<String>) {
        self.found.push(Finding { kind, id: id.into() });
    }

    /// The result of one search. The first failure is kept, and the other searches go on.
    fn of<T: Default>(&mut self, looked: Result<T>) -> T {
        looked.unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            T::default()
        })
    }
}

impl Engine {
    /// Finds strays, and changes nothing. Takes a third of a second longer if there are remains of containers.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn strays(&self, ctx: &Context) -> Strays {
        let mut strays = Strays::default();
        abandoned_ones(&self.0, &mut strays).await;
        others(&self.0, ctx, &mut strays).await;
        strays
    }

    /// Removes a stray, if it still exists and nothing needs it.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn mend(&self, finding: &Finding) -> Result<()> {
        let (deps, finding) = (Arc::clone(&self.0), finding.clone());
        self.0.finished(async move { mend(&deps, &finding).await }).await
    }
}

/// Searches and removes at intervals, until the engine ends. Containers that a command has abandoned are left to
/// commands, which may have another run directory, and to a server.
pub(super) fn keep_looking(deps: &Arc<Deps>) {
    // Weak, because an engine ends with its last handle.
    let (this, life) = (Arc::downgrade(deps), deps.background.life.clone());
    let work = async move {
        let fresh = Pauses::new(EVERY, LONGEST);
        let mut pauses = fresh.clone();
        while life.run(pauses.wait()).await.is_ok() {
            let Some(deps) = this.upgrade() else { return };
            let Ok(strays) = life.run(look_once(&deps)).await else {
                return;
            };
            match remove_all(&deps, strays).await {
                Ok(()) => pauses.clone_from(&fresh),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "cannot remove all strays; trying again later");
                    deps.metrics().retry(RetryReason::CleanUp);
                }
            }
        }
    };
    deps.background.tracker.spawn(work.in_current_span());
}

async fn look_once(deps: &Arc<Deps>) -> Strays {
    let mut strays = Strays::default();
    others(deps, &Context::timeout(deps.config.close_grace), &mut strays).await;
    strays
}

async fn remove_all(deps: &Arc<Deps>, strays: Strays) -> Result<()> {
    let mut failed = strays.failed;
    for finding in strays.found {
        if deps.background.life.check().is_err() {
            break;
        }
        tracing::info!(id = finding.id, what = finding.kind.object(), why = %finding.kind, "found a stray");
        failed = mend(deps, &finding).await.err().or(failed);
    }
    failed.map_or(Ok(()), Err)
}

/// Containers whose owner is gone.
async fn abandoned_ones(deps: &Arc<Deps>, strays: &mut Strays) {
    let Some(found) = strays.of(abandoned::find(deps, FirstRecords::default()).await.map(Some)) else {
        return;
    };
    for (record, need) in found.due {
        let kind = match need {
            Need::End => Stray::Overdue,
            Need::Settle => Stray::Unsettled,
        };
        strays.add(kind, record.id.as_str());
    }
    strays.failed = strays.failed.take().or(found.failed);
}

/// Everything else.
async fn others(deps: &Arc<Deps>, ctx: &Context, strays: &mut Strays) {
    for id in unfinished::noted(deps) {
        strays.add(Stray::Unfinished, id.as_str());
    }
    if deps.host.shares_pids {
        for (id, trace) in strays.of(orphans::find(deps, FirstRecords::default()).await) {
            strays.add(of_trace(trace), id.as_str());
        }
        let files = strays.of(stray_files::find(deps, ctx).await);
        for id in files.streams {
            strays.add(Stray::Streams, id.as_str());
        }
        for (id, _) in files.bundles {
            strays.add(Stray::Bundle, id.as_str());
        }
        for id in files.runtime_records {
            strays.add(Stray::RuntimeRecord, id.as_str());
        }
        for id in files.logs {
            strays.add(Stray::Log, id.as_str());
        }
    }
    let networks = strays.of(stray_networks::find(deps).await);
    for id in networks.holders {
        strays.add(Stray::Holder, id.as_str());
    }
    for id in networks.sandboxes {
        strays.add(Stray::Network, id);
    }
    let leases = deps.images.store.orphans(ctx, deps.config.pulls.kept()).await;
    for lease in strays.of(leases.at(Step::Find, "the leases of images")).ids() {
        strays.add(Stray::Lease, lease.as_str());
    }
}

fn of_trace(trace: Trace) -> Stray {
    match trace {
        Trace::Shim => Stray::Shim,
        Trace::Cgroup => Stray::Cgroup,
        Trace::EndedRun => Stray::EndedRun,
    }
}

/// Removes a stray.
///
/// # Cancellation
/// Not safe to drop.
async fn mend(deps: &Arc<Deps>, finding: &Finding) -> Result<()> {
    let ctx = Context::timeout(deps.config.close_grace);
    let id = || {
        let id = ContainerId::new(&finding.id);
        id.map_err(|error| Error::new(Step::Close, &finding.id, Kind::Internal, error))
    };
    let mended = match finding.kind {
        Stray::Unfinished => unfinished::finish(deps, &id()?).await,
        Stray::Overdue => look_after(deps, &ctx, &id()?, Need::End).await,
        Stray::Unsettled => look_after(deps, &ctx, &id()?, Need::Settle).await,
        Stray::Shim => orphans::mend(deps, &id()?, Trace::Shim).await,
        Stray::Cgroup => orphans::mend(deps, &id()?, Trace::Cgroup).await,
        Stray::EndedRun => orphans::mend(deps, &id()?, Trace::EndedRun).await,
        Stray::Streams => stray_files::remove_streams(deps, &ctx, &id()?).await,
        Stray::Bundle => stray_files::remove_bundles(deps, &ctx, &id()?).await,
        Stray::RuntimeRecord => stray_files::remove_runtime_record(deps, &ctx, &id()?).await,
        Stray::Log => stray_files::remove_log(deps, &ctx, &id()?).await,
        Stray::Holder => stray_networks::remove_holder(deps, &id()?).await,
        Stray::Network => stray_networks::remove(deps, &finding.id).await,
        Stray::Lease => end_lease(deps, &ctx, &finding.id).await,
    };
    let mended = match mended {
        // Another process was faster.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::OutOfOrder) => Ok(()),
        mended => mended,
    };
    deps.metrics().stray(finding.kind.object(), mended.is_ok());
    mended
}

/// Does what the container needs, if it still needs it: the name may belong to another container by now.
async fn look_after(deps: &Arc<Deps>, ctx: &Context, id: &ContainerId, found: Need) -> Result<()> {
    let record = find::get(deps, ctx, id).await?;
    match abandoned::need_of(deps, &record).await? {
        Some(need) if need == found => abandoned::mend(deps, ctx, &record, need).await,
        _ => Ok(()),
    }
}

async fn end_lease(deps: &Arc<Deps>, ctx: &Context, lease: &str) -> Result<()> {
    let store = &deps.images.store;
    let ended = async {
        let mut orphans = store.orphans(ctx, deps.config.pulls.kept()).await?;
        orphans.retain(|orphan| orphan.as_str() == lease);
        let mut sweep = store.sweep(ctx).await?;
        store.end_leases(ctx, &mut sweep, &orphans).await
    };
    ended.await.at(Step::Close, lease)
}
