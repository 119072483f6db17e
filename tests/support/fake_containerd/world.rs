//! What exists, for a test to compare with nothing. Images and their layers are furniture and not counted.

use super::state::{Namespace, State};
use containerd_client::services::v1::snapshots::Kind;

/// What a lifecycle must not leave behind, each as `NAMESPACE/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// Records.
    pub containers: Vec<String>,
    /// Processes, as long as their task is not deleted.
    pub tasks: Vec<String>,
    /// Writable snapshots, views, and committed ones that are not the layer of an image.
    pub snapshots: Vec<String>,
    /// Leases.
    pub leases: Vec<String>,
    /// Content that was begun and neither committed nor aborted.
    pub ingests: Vec<String>,
}

impl World {
    pub(super) fn of(state: &State) -> Self {
        let mut world = Self::default();
        for (name, namespace) in &state.namespaces {
            let all = |ids: &mut dyn Iterator<Item = &String>| {
                ids.map(|id| format!("{name}/{id}")).collect::<Vec<_>>()
            };
            world.containers.extend(all(&mut namespace.containers.keys()));
            world.tasks.extend(all(&mut namespace.tasks.keys()));
            world.snapshots.extend(all(&mut loose_snapshots(namespace)));
            world.leases.extend(all(&mut namespace.leases.keys()));
            world.ingests.extend(all(&mut namespace.ingests.keys()));
        }
        world
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn loose_snapshots(namespace: &Namespace) -> impl Iterator<Item = &String> {
    let layer = |kind: Kind, key: &str| kind == Kind::Committed && key.starts_with("sha256:");
    let loose = namespace
        .snapshots
        .iter()
        .filter(move |((_, key), found)| !layer(found.info.kind(), key));
    loose.map(|((_, key), _)| key)
}
