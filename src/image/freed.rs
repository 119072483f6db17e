//! How much a removal has freed. This is measured after the removal and not computed before it, because a lease or a
//! container may keep parts that no image uses any more. Kept parts are reported together with their holders.

use std::collections::{BTreeMap, BTreeSet};

use super::abandoned_leases::AbandonedLeases;
use super::footprint::Part;
use super::scratch::{PURPOSE, SUBJECT};
use super::{Error, ImageStore};
use crate::containerd::{self, Lease, Resource};
use crate::process_identity::{Life, ProcessIdentity};
use crate::{Context, LeaseId};

/// What a removal has not freed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The number of bytes.
    pub(crate) bytes: u64,
    /// The holders that keep them, each as a phrase for a sentence.
    pub(crate) by: Vec<String>,
}

/// Parts with their sizes in bytes.
pub(super) type Parts = BTreeMap<Part, u64>;

/// The sum of their sizes.
pub(super) fn bytes(parts: &Parts) -> u64 {
    parts.values().fold(0, |sum, size| sum.saturating_add(*size))
}

impl ImageStore {
    /// The parts that these leases hold, with their sizes.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn held_by(&self, ctx: &Context, leases: &AbandonedLeases) -> Result<Parts, Error> {
        let mut parts = Parts::new();
        for lease in &leases.0 {
            for part in self.parts_of(ctx, lease).await? {
                if let Some(size) = self.size_of(ctx, &part).await? {
                    parts.insert(part, size);
                }
            }
        }
        Ok(parts)
    }

    /// How many bytes of these parts have been freed, and which holders keep the others. `containers` use what was
    /// removed. If this cannot be determined, nothing is counted as freed and no error is returned, because the removal
    /// is done.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn freed_of(
        &self,
        ctx: &Context,
        parts: Parts,
        containers: &[String],
    ) -> (u64, Option<Kept>) {
        self.look_again(ctx, parts, containers)
            .await
            .unwrap_or_else(|why| {
                tracing::warn!(why = %crate::chain(&why), "cannot find out how much a removal has freed");
                (0, None)
            })
    }

    async fn look_again(
        &self,
        ctx: &Context,
        mut parts: Parts,
        containers: &[String],
    ) -> Result<(u64, Option<Kept>), Error> {
        let all = bytes(&parts);
        let mut gone = Vec::new();
        for part in parts.keys() {
            if self.size_of(ctx, part).await?.is_none() {
                gone.push(part.clone());
            }
        }
        for part in gone {
            parts.remove(&part);
        }
        let stay = bytes(&parts);
        if parts.is_empty() {
            return Ok((all, None));
        }
        let mut by = self.keepers(ctx, &parts).await?;
        by.extend(containers.iter().map(|id| format!("container {id}")));
        Ok((all.saturating_sub(stay), Some(Kept { bytes: stay, by })))
    }

    /// The leases that hold any of these parts, as they are shown to the user.
    async fn keepers(&self, ctx: &Context, parts: &Parts) -> Result<Vec<String>, Error> {
        let leases = self.session.leases().list(ctx, &[]).await;
        let mut keepers = Vec::new();
        for lease in leases.map_err(Error::store("the list of leases"))? {
            let held: BTreeSet<Part> = self.parts_of(ctx, &lease.id).await?;
            if held.iter().any(|part| parts.contains_key(part)) {
                keepers.push(shown(&lease));
            }
        }
        Ok(keepers)
    }

    async fn parts_of(&self, ctx: &Context, lease: &LeaseId) -> Result<BTreeSet<Part>, Error> {
        let held = match self.session.leases().resources(ctx, lease).await {
            Err(why) if why.is_not_found() => Vec::new(),
            held => held.map_err(Error::store("the list of a lease's objects"))?,
        };
        let parts = held.into_iter().filter_map(|resource| match resource {
            Resource::Content(digest) => Some(Part::Blob(digest)),
            Resource::Ingest(reference) => Some(Part::Unfinished(reference)),
            Resource::Snapshot { snapshotter, key } => {
                (snapshotter == self.snapshotter).then_some(Part::Snapshot(key))
            }
        });
        Ok(parts.collect())
    }

    /// The size of a part; `None` if it does not exist.
    async fn size_of(&self, ctx: &Context, part: &Part) -> Result<Option<u64>, Error> {
        let (content, snapshots) = (self.session.content(), self.session.snapshots(&self.snapshotter));
        let size = match part {
            Part::Blob(digest) => content.info(ctx, digest).await.map(|info| info.size),
            Part::Unfinished(reference) => content.ingested(ctx, reference).await,
            Part::Snapshot(key) => snapshots.usage(ctx, key).await.map(|(bytes, _)| bytes),
        };
        there(size).map_err(Error::store("the remains of an image"))
    }
}

fn there(size: Result<u64, containerd::Error>) -> Result<Option<u64>, containerd::Error> {
    match size {
        Err(why) if why.is_not_found() => Ok(None),
        size => size.map(Some),
    }
}

/// The description of a lease, as in "the pull of r.io/a:1 by process 7".
fn shown(lease: &Lease) -> String {
    let label = |name: &str| lease.labels.get(name).map(String::as_str);
    let id = lease.id.as_str();
    let Some(purpose) = label(PURPOSE) else {
        return format!("lease {id}");
    };
    let what = format!("the {purpose} of {}", label(SUBJECT).unwrap_or("something"));
    match ProcessIdentity::of(&lease.labels) {
        Some(holder) if holder.life() == Life::Lives => format!("{what} by process {}", holder.pid()),
        Some(holder) => format!(
            "{what} by process {} of another pid namespace (lease {id})",
            holder.pid()
        ),
        None => format!("{what} (lease {id})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(labels: &[(&str, &str)]) -> Lease {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Lease {
            id: LeaseId::new("x-1").unwrap(),
            created: None,
            labels: labels.collect(),
        }
    }

    #[test]
    fn a_lease_is_described_with_what_is_known_of_it() {
        assert_eq!(shown(&lease(&[])), "lease x-1");
        let pull = [(PURPOSE, "pull"), (SUBJECT, "r.io/a:1")];
        assert_eq!(shown(&lease(&pull)), "the pull of r.io/a:1 (lease x-1)");
        let mut mine = lease(&pull);
        mine.labels.extend(ProcessIdentity::this().unwrap().labels());
        let expected = format!("the pull of r.io/a:1 by process {}", std::process::id());
        assert_eq!(shown(&mine), expected);
        mine.labels.insert("fnctr/namespaces".into(), "1.1".into());
        assert!(shown(&mine).ends_with("of another pid namespace (lease x-1)"));
    }
}
