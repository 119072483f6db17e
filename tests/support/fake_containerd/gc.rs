//! Garbage collection by containerd's rules: what no image, container, lease or root label leads to goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::state::Namespace;

type Node = (String, String);

/// Collects what is not reachable.
pub(super) fn collect(namespace: &mut Namespace) {
    let mut todo: Vec<Node> = roots(namespace);
    let mut reached = BTreeSet::new();
    while let Some(node) = todo.pop() {
        if reached.insert(node.clone()) {
            todo.extend(references(namespace, &node));
        }
    }
    let kept = |kind: &str, id: &str| reached.contains(&(kind.to_owned(), id.to_owned()));
    namespace.content.retain(|digest, _| kept("content", digest));
    namespace.ingests.retain(|name, _| kept("ingests", name));
    let (stay, go): (BTreeMap<_, _>, _) = std::mem::take(&mut namespace.snapshots)
        .into_iter()
        .partition(|((snapshotter, key), _)| kept(&format!("snapshots/{snapshotter}"), key));
    namespace.snapshots = stay;
    for snapshot in go.into_values() {
        fs::remove_dir_all(snapshot.dir).unwrap();
    }
}

fn roots(namespace: &Namespace) -> Vec<Node> {
    let content = |digest: &str| ("content".to_owned(), digest.to_owned());
    let snapshot = |of: &str, key: &str| (format!("snapshots/{of}"), key.to_owned());
    let root = |labels: &std::collections::HashMap<_, _>| labels.contains_key("containerd.io/gc.root");
    let mut roots = Vec::new();
    roots.extend(namespace.leases.values().flat_map(|lease| lease.holds.clone()));
    let targets = namespace
        .images
        .values()
        .filter_map(|image| image.target.as_ref());
    roots.extend(targets.map(|target| content(&target.digest)));
    let used = namespace.containers.values();
    roots.extend(used.map(|container| snapshot(&container.snapshotter, &container.snapshot_key)));
    let blobs = namespace
        .content
        .iter()
        .filter(|(_, blob)| root(&blob.info.labels));
    roots.extend(blobs.map(|(digest, _)| content(digest)));
    let snapshots = namespace
        .snapshots
        .iter()
        .filter(|(_, found)| root(&found.info.labels));
    roots.extend(snapshots.map(|((of, key), _)| snapshot(of, key)));
    roots
}

fn references(namespace: &Namespace, (kind, id): &Node) -> Vec<Node> {
    if kind == "content" {
        let Some(blob) = namespace.content.get(id) else {
            return Vec::new();
        };
        let labels = blob.info.labels.iter();
        return labels
            .filter_map(|(label, value)| reference(label, value))
            .collect();
    }
    let Some(of) = kind.strip_prefix("snapshots/") else {
        return Vec::new();
    };
    let found = namespace.snapshots.get(&(of.to_owned(), id.clone()));
    let parent = found
        .map(|snapshot| snapshot.info.parent.clone())
        .filter(|parent| !parent.is_empty());
    parent.map(|parent| (kind.clone(), parent)).into_iter().collect()
}

/// `containerd.io/gc.ref.content[.anything]` and `containerd.io/gc.ref.snapshot.SNAPSHOTTER[/anything]`.
fn reference(label: &str, value: &str) -> Option<Node> {
    let rest = label.strip_prefix("containerd.io/gc.ref.")?;
    if rest.starts_with("content") {
        return Some(("content".into(), value.into()));
    }
    let of = rest.strip_prefix("snapshot.")?;
    let of = of.split_once('/').map_or(of, |(of, _)| of);
    Some((format!("snapshots/{of}"), value.into()))
}
