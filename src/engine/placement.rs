//! Where the cgroup of a container is: its notation in the spec, and its path in the kernel's hierarchies.
//!
//! | driver | the spec's `cgroupsPath` | below the top of each hierarchy |
//! |---|---|---|
//! | cgroupfs | `/fnctr/NAMESPACE/ID` | the same |
//! | systemd | `system.slice:fnctr-NAMESPACE-:ID` | `/system.slice/fnctr-NAMESPACE--ID.scope` |
//!
//! A process that adopts a container uses the container's record, which has the notation and the driver that it was
//! made with, because the configuration of that process may be another.
//!
//! The name of a scope is one word, so different pairs of a namespace and an id must give different names. Both may
//! contain `-`, but never two in a row, so the `--` shows where the namespace ends. They consist of characters that
//! systemd allows in the name of a unit (unit_name_is_valid() in its source), and with at most 76 characters each they
//! stay below its limit of 255.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fnctr_oci::Cgroup;
use tokio::time::Instant;

use super::error::{Error, Kind, Result, Step};
use super::{Config, Deps};
use crate::cgroup::{self, Choice, DEFAULT_SLICE, DriverSettings, Facts, OomLog};
use crate::containerd::Record;
use crate::pauses::Pauses;
use crate::{ContainerId, Context};

/// How long to wait for shims that may be making a container before the cgroups of a namespace are kept.
const SHIM_PATIENCE: Duration = Duration::from_millis(200);
/// The first and the longest pause between two searches for them. Most end within some milliseconds.
const SHIM_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The cgroup of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The path from the top of each hierarchy.
    pub(super) path: String,
    /// The end of the path, which is the same wherever the runtime sees that top, and unique to the container.
    pub(super) name: PathBuf,
}

/// Chooses the cgroup driver, before anything is made.
pub(super) async fn choose_driver(config: &mut Config, daemon: u32) -> Result<()> {
    let wanted = DriverSettings {
        driver: config.cgroup_driver,
        runtime: config.runtime.binary.as_deref(),
        parent: &config.cgroup_parent,
    };
    let facts = Facts::of_host(daemon).await;
    let Choice { systemd, why } = cgroup::choose(wanted, facts)
        .map_err(|error| Error::new(Step::Connect, config.address.display(), Kind::Unsupported, error))?;
    tracing::debug!(systemd, why, "the cgroup driver was chosen");
    config.runtime.systemd_cgroup = systemd;
    Ok(())
}

/// The kernel's log, if it may be the last record of out-of-memory kills.
pub(super) fn oom_log(config: &Config, cgroups: &cgroup::Root) -> Option<Arc<OomLog>> {
    let top = cgroups.unified_top().filter(|_| config.runtime.systemd_cgroup)?;
    match OomLog::open(top) {
        Ok(log) => Some(Arc::new(log)),
        Err(error) => {
            tracing::debug!(%error, "cannot read the kernel's log, so a result may lack an out-of-memory kill");
            None
        }
    }
}

impl Deps {
    /// The cgroup of a container that is made here, for its spec.
    pub(super) fn cgroup(&self, id: &ContainerId) -> Cgroup {
        let Config {
            namespace,
            cgroup_parent,
            runtime,
            ..
        } = &self.config;
        if runtime.systemd_cgroup {
            let named = cgroup::is_slice(cgroup_parent);
            return Cgroup::Systemd {
                slice: if named { cgroup_parent } else { DEFAULT_SLICE }.to_owned(),
                prefix: format!("fnctr-{namespace}-"),
                id: unit_id(id),
            };
        }
        Cgroup::Cgroupfs {
            parent: format!("{}/{namespace}", cgroup_parent.trim_end_matches('/')),
            id: id.to_string(),
        }
    }

    /// The path of that cgroup. `None` only for a parent that makes the spec invalid.
    pub(super) fn placement(&self, id: &ContainerId) -> Option<Placement> {
        match self.cgroup(id) {
            Cgroup::Systemd { slice, prefix, id } => Placement::in_slice(&slice, &prefix, &id),
            Cgroup::Cgroupfs { parent, id } => Placement::at(&format!("{parent}/{id}")),
            Cgroup::Unset => None,
        }
    }
}

impl Deps {
    /// The `cgroupsPath` of a container that is made here.
    pub(super) fn notation(&self, id: &ContainerId) -> Option<String> {
        match self.cgroup(id) {
            Cgroup::Systemd { slice, prefix, id } => Some(format!("{slice}:{prefix}:{id}")),
            Cgroup::Cgroupfs { parent, id } => Some(format!("{parent}/{id}")),
            Cgroup::Unset => None,
        }
    }

    /// The parent of all cgroups of this namespace; `None` with systemd, which manages its slices itself.
    fn parent(&self) -> Option<String> {
        let Config {
            namespace,
            cgroup_parent,
            runtime,
            ..
        } = &self.config;
        let parent = cgroup_parent.trim_end_matches('/');
        (!runtime.systemd_cgroup).then(|| format!("{parent}/{namespace}"))
    }
}

/// The containers of this namespace that have a cgroup in any hierarchy; none if [`Deps::parent`] is `None`.
pub(super) fn present(deps: &Deps) -> BTreeSet<ContainerId> {
    let places = deps
        .parent()
        .and_then(|parent| deps.host.cgroups.places(&parent).ok());
    let names = places.iter().flat_map(cgroup::CgroupDirs::children);
    names.filter_map(|name| ContainerId::new(&name).ok()).collect()
}

/// Removes the parent cgroups of this namespace if it has no container, and none is being made.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn remove_empty_parents(deps: &Deps) {
    let Some(parent) = deps.parent() else { return };
    let Ok(places) = deps.host.cgroups.places(&parent) else {
        return;
    };
    let is_empty = || places.exist() && places.children().next().is_none();
    if !is_empty() {
        return;
    }
    let until = Instant::now() + SHIM_PATIENCE;
    let mut pauses = Pauses::new(SHIM_AGAIN.0, SHIM_AGAIN.1);
    while is_making(deps).await {
        if Instant::now() >= until {
            return;
        }
        pauses.wait().await;
    }
    if !is_empty() {
        return;
    }
    places.remove_childless();
    // The cgroup above it belongs to fnctr only with the default parent.
    if has_default_parent(deps)
        && let Ok(above) = deps.host.cgroups.places(cgroup::DEFAULT_PARENT)
    {
        above.remove_childless();
    }
}

/// Whether a shim may be making the cgroup of a container of this namespace. A shim exists before that cgroup and ends
/// some milliseconds after it, and a record exists before its shim and is removed after the task. So a shim of this
/// containerd that has no record is only about to end. The shims of another containerd may be making one here only with
/// the default parent; whether they have a record cannot be seen.
async fn is_making(deps: &Deps) -> bool {
    let (own, foreign): (Vec<_>, Vec<_>) = deps.shim_args().into_iter().partition(|shim| deps.is_ours(shim));
    if has_default_parent(deps) && !foreign.is_empty() {
        return true;
    }
    let ctx = Context::timeout(SHIM_PATIENCE);
    for shim in own {
        let Ok(id) = ContainerId::new(&shim.id) else {
            return true;
        };
        match deps.session.containers().get(&ctx, &id).await {
            Err(error) if error.is_not_found() => {}
            Ok(_) | Err(_) => return true,
        }
    }
    false
}

fn has_default_parent(deps: &Deps) -> bool {
    deps.config.cgroup_parent == cgroup::DEFAULT_PARENT
}

impl Placement {
    /// The cgroup of a container by its record and the `cgroupsPath` of its spec; `None` if they do not determine it.
    pub(super) fn of_record(record: &Record, notation: &str) -> Option<Self> {
        let systemd = record
            .runtime_options
            .as_ref()
            .is_some_and(|options| options.systemd_cgroup);
        if !systemd {
            return Self::at(notation);
        }
        let mut parts = notation.splitn(3, ':');
        Self::in_slice(parts.next()?, parts.next()?, parts.next()?)
    }

    /// With cgroupfs: a directory for the namespace, and one in it for the container.
    fn at(path: &str) -> Option<Self> {
        let mut tail = Path::new(path).components().rev();
        let (id, namespace) = (tail.next()?, tail.next()?);
        let normal = |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        (path.starts_with('/') && normal(&id) && normal(&namespace)).then(|| Self {
            path: path.to_owned(),
            name: Path::new(&namespace).join(id),
        })
    }

    /// With systemd: a scope, whose name runc and crun compose in this way.
    fn in_slice(slice: &str, prefix: &str, id: &str) -> Option<Self> {
        let unit = format!("{prefix}-{id}.scope");
        Some(Self {
            path: format!("{}/{unit}", expanded(slice)?),
            name: unit.into(),
        })
    }
}

/// The container's part of its scope's name. runc takes a name that ends in `.slice` for the name of a slice; no id
/// ends in `_`, so an added `_` keeps the name unique.
fn unit_id(id: &ContainerId) -> String {
    let id = id.as_str();
    let close = if id.ends_with(".slice") { "_" } else { "" };
    format!("{id}{close}")
}

/// The directory of a slice: `a-b.slice` is in `a.slice`, and `-.slice` is the top (systemd.slice(5)).
fn expanded(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    let mut path = String::new();
    if name == "-" {
        return Some(path);
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    for end in ends {
        path.push('/');
        path.push_str(name.get(..end)?);
        path.push_str(".slice");
    }
    Some(path)
}

/// How often the limits above a container have been hit, read before it has a cgroup; `None` if it is not known where
/// that will be.
pub(super) fn above(deps: &Deps, placement: Option<&Placement>) -> Option<cgroup::Above> {
    let paths = deps.host.cgroups.of_path(&placement?.path).ok()?;
    Some(cgroup::Above::note(&paths, true))
}

/// The cgroups in which the runtime has put the process, if they have the container's name. Without them, the container
/// has no fast freeze and no statistics, but it runs. `pid` is `None` if the process has ended.
pub(super) fn cgroups_of(
    deps: &Deps,
    id: &ContainerId,
    pid: Option<u32>,
    placement: Option<&Placement>,
) -> Option<cgroup::Paths> {
    let found = pid.and_then(|pid| deps.host.cgroups.of_pid(pid).ok()?.named(&placement?.name));
    // The cgroup of an ended process stays until its task is deleted, with the counters of its memory.
    let named = || {
        deps.host
            .cgroups
            .of_path(&placement?.path)
            .ok()
            .filter(cgroup::Paths::exist)
    };
    let paths = found.or_else(named);
    if paths.is_none() {
        tracing::debug!(%id, ?pid, "no cgroup has the container's name");
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;
    use crate::containerd::RuntimeOptions;

    fn record(systemd: bool) -> Record {
        Record {
            id: ContainerId::new("c1").unwrap(),
            image: String::new(),
            labels: Default::default(),
            runtime: String::new(),
            runtime_options: systemd.then(|| RuntimeOptions {
                systemd_cgroup: true,
                ..RuntimeOptions::default()
            }),
            spec: Vec::new(),
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: None,
            extensions: Default::default(),
        }
    }

    fn placed(notation: &str, systemd: bool) -> Option<(String, String)> {
        let placement = Placement::of_record(&record(systemd), notation)?;
        Some((placement.path, placement.name.display().to_string()))
    }

    fn pair(path: &str, name: &str) -> Option<(String, String)> {
        Some((path.to_owned(), name.to_owned()))
    }

    #[test]
    fn the_placement_of_a_container_follows_from_its_record() {
        for (notation, systemd, expected) in [
            ("/fnctr/ns/c1", false, pair("/fnctr/ns/c1", "ns/c1")),
            ("/a/b/ns/c1", false, pair("/a/b/ns/c1", "ns/c1")),
            ("/ns/c1", false, pair("/ns/c1", "ns/c1")),
            (
                "system.slice:fnctr-ns-:c1",
                true,
                pair("/system.slice/fnctr-ns--c1.scope", "fnctr-ns--c1.scope"),
            ),
            (
                "a-b.slice:fnctr-ns-:c1",
                true,
                pair("/a.slice/a-b.slice/fnctr-ns--c1.scope", "fnctr-ns--c1.scope"),
            ),
            ("-.slice:p:c1", true, pair("/p-c1.scope", "p-c1.scope")),
            // A path that is not in the notation of its driver, or could be any container's, gives no placement.
            ("system.slice:fnctr-ns-:c1", false, None),
            ("/fnctr/ns/c1", true, None),
            ("/c1", false, None),
            ("/..", false, None),
            ("ns/c1", false, None),
        ] {
            assert_eq!(
                placed(notation, systemd),
                expected,
                "{notation} systemd: {systemd}"
            );
        }
    }

    /// What [`Deps::cgroup`] and [`Deps::placement`] return for systemd, without an engine.
    fn unit(namespace: &str, id: &str) -> String {
        let (namespace, id) = (Namespace::new(namespace).unwrap(), ContainerId::new(id).unwrap());
        let prefix = format!("fnctr-{namespace}-");
        let placement = Placement::in_slice(DEFAULT_SLICE, &prefix, &unit_id(&id)).unwrap();
        placement.name.display().to_string()
    }

    #[test]
    fn no_two_containers_have_the_same_scope() {
        let names = [
            "a", "a-b", "a-b-c", "b", "b-c", "c", "a.slice", "a_b", "a-slice", "a.b", "scope",
        ];
        let mut units = BTreeSet::new();
        for namespace in names {
            for id in names {
                let unit = unit(namespace, id);
                assert!(
                    units.insert(unit.clone()),
                    "{unit} is also that of {namespace} and {id}"
                );
            }
        }
        assert_eq!(unit("fnctr", "c1"), "fnctr-fnctr--c1.scope");
        assert_eq!(unit("n", "a.slice"), "fnctr-n--a.slice_.scope");
    }

    #[test]
    fn the_longest_names_fit_into_the_name_of_a_unit() {
        let longest = "a".repeat(76);
        assert!(unit(&longest, &longest).len() < 255);
    }
}
