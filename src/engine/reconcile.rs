//! Finds what no living process and no container needs any more, and removes it, thing by thing: what a killed process, a
//! killed containerd or a killed shim has left. Only what carries this engine's mark is ever found: its containerd
//! namespace, its labels, its directories, its names of cgroups and networks.
//!
//! An engine does this at its start, in the background, and one that lives for long again and again.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::abandoned::{self, Need};
use super::error::{At as _, Error, Kind, Result, Step};
use super::first_records::FirstRecords;
use super::orphans::{self, Trace};
use super::{Deps, Engine, find, stray_networks, unfinished};
use crate::pauses::Pauses;
use crate::stdio::Fifos;
use crate::{ContainerId, Context};

/// How often an engine that lives for long looks.
const EVERY: Duration = Duration::from_secs(60);
/// The longest pause after failures.
const LONGEST: Duration = Duration::from_secs(600);
/// The time between two looks at what may just be made, or removed.
const SETTLE: Duration = Duration::from_millis(300);

/// Something that nothing needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is.
    pub(crate) kind: Stray,
    /// Its name.
    pub(crate) id: String,
}

/// The kinds of what nothing needs any more; the text says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    /// A container of which a part could not be removed, or whose remover was killed.
    Unfinished,
    /// A container past its deadline, whose owner is gone.
    Overdue,
    /// A kept container that has ended, and nobody has written its end.
    Unsettled,
    /// A shim with all that it holds, of a container that has no record.
    Shim,
    /// A shim of a run whose end is written.
    EndedRun,
    /// An empty cgroup of a container that is gone.
    Cgroup,
    /// Files of the streams of a container that has no record.
    Streams,
    /// A container that holds a place in a pool of networks that is gone.
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
            Self::Network => "network namespace",
            Self::Lease => "lease",
        }
    }

    /// What is done about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Unsettled => "write its end and remove the run",
            Self::Overdue => "end it",
            _ => "remove it",
        }
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfinished => "its removal was begun and not finished",
            Self::Overdue => "its time is over, and the process that was to end it is gone",
            Self::Unsettled => "it has ended, and no process has written how",
            Self::Shim => "its container has no record",
            Self::EndedRun => "its run has ended, and the process that was removing it is gone",
            Self::Cgroup => "it is empty, and its container is gone",
            Self::Streams => "their container has no record",
            Self::Holder => "the place in the pool that it held is gone",
            Self::Network => "no container has it, and the process that made it is gone",
            Self::Lease => "the process that held it is gone",
        })
    }
}

impl Engine {
    /// Finds what nothing needs any more. Changes nothing; takes a third of a second if there is anything.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn strays(&self, ctx: &Context) -> Result<Vec<Finding>> {
        strays(&self.0, ctx).await
    }

    /// Removes what was found, if it is still there.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn mend(&self, finding: &Finding) -> Result<()> {
        let (deps, finding) = (Arc::clone(&self.0), finding.clone());
        self.0.finished(async move { mend(&deps, &finding).await }).await
    }
}

/// Looks again and again, until the engine ends.
pub(super) fn keep_looking(deps: &Arc<Deps>) {
    let this = Arc::clone(deps);
    let work = async move {
        let fresh = Pauses::new(EVERY, LONGEST);
        let mut pauses = fresh.clone();
        while this.background.life.run(pauses.wait()).await.is_ok() {
            match once(&this).await {
                Ok(()) => pauses.clone_from(&fresh),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "cannot remove all that nothing needs any more; trying again later");
                }
            }
        }
    };
    deps.background.tracker.spawn(work.in_current_span());
}

async fn once(deps: &Arc<Deps>) -> Result<()> {
    let mut failed = Ok(());
    for finding in strays(deps, &Context::timeout(deps.config.close_grace)).await? {
        tracing::info!(id = finding.id, what = finding.kind.object(), why = %finding.kind, "found what nothing needs any more");
        if let Err(error) = mend(deps, &finding).await {
            failed = Err(error);
        }
    }
    failed
}

async fn strays(deps: &Arc<Deps>, ctx: &Context) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    let mut found = |kind, id: String| all.push(Finding { kind, id });
    for id in unfinished::noted(deps) {
        found(Stray::Unfinished, id.to_string());
    }
    let first = FirstRecords::default();
    for (record, need) in abandoned::find(deps, first.clone()).await?.due {
        let kind = match need {
            Need::End => Stray::Overdue,
            Need::Settle => Stray::Unsettled,
        };
        found(kind, record.id.to_string());
    }
    if deps.host.shares_pids {
        for (id, trace) in orphans::find(deps, first).await? {
            found(of_trace(trace), id.to_string());
        }
    }
    for id in unused_streams(deps, ctx).await? {
        found(Stray::Streams, id.to_string());
    }
    let networks = stray_networks::find(deps).await?;
    for id in networks.holders {
        found(Stray::Holder, id.to_string());
    }
    for id in networks.sandboxes {
        found(Stray::Network, id);
    }
    let leases = deps.images.store.orphans(ctx, deps.config.pulls.kept()).await;
    for lease in leases.at(Step::Find, "the leases of images")?.ids() {
        found(Stray::Lease, lease.to_string());
    }
    Ok(all)
}

fn of_trace(trace: Trace) -> Stray {
    match trace {
        Trace::Shim => Stray::Shim,
        Trace::Cgroup => Stray::Cgroup,
        Trace::EndedRun => Stray::EndedRun,
    }
}

/// The containers without a record that have files of streams, at two looks.
async fn unused_streams(deps: &Deps, ctx: &Context) -> Result<Vec<ContainerId>> {
    let first = unused_streams_now(deps, ctx).await?;
    if first.is_empty() {
        return Ok(first);
    }
    tokio::time::sleep(SETTLE).await;
    let mut now = unused_streams_now(deps, ctx).await?;
    now.retain(|id| first.contains(id));
    Ok(now)
}

async fn unused_streams_now(deps: &Deps, ctx: &Context) -> Result<Vec<ContainerId>> {
    // The files are read first: they are made after the record, and removed before it.
    let dir = deps.config.run_dir.join(deps.config.namespace.as_str());
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: Vec<_> = names.filter_map(|name| ContainerId::new(&name).ok()).collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    let records = deps.session.containers().list(ctx, &[]).await;
    let records = records.at(Step::Find, "the streams of containers")?;
    let known: BTreeSet<_> = records.iter().map(|record| &record.id).collect();
    ids.retain(|id| !known.contains(id));
    Ok(ids)
}

/// Removes what was found.
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
        Stray::Streams => {
            let removed = Fifos::remove(&deps.fifo_dir(&id()?));
            removed.map_err(|error| Error::new(Step::Close, &finding.id, Kind::Internal, error))
        }
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

async fn look_after(deps: &Arc<Deps>, ctx: &Context, id: &ContainerId, need: Need) -> Result<()> {
    let record = find::get(deps, ctx, id).await?;
    abandoned::mend(deps, ctx, &record, need).await
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
