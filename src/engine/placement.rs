//! Where the cgroup of a container is: what its runtime is told, and where the kernel then has it.
//!
//! | driver | the spec's `cgroupsPath` | below the top of each hierarchy |
//! |---|---|---|
//! | cgroupfs | `/fnctr/NAMESPACE/ID` | the same |
//! | systemd | `system.slice:fnctr-NAMESPACE-:ID` | `/system.slice/fnctr-NAMESPACE--ID.scope` |
//!
//! A process that finds a container goes by the container's record, which has the notation and the driver that it was
//! made with; its own configuration may be another.
//!
//! The name of a scope is one word, so two pairs of a namespace and an id must never give the same. Both may have `-`
//! inside, but never two in a row, so a double one tells where the first ends. They are made of what systemd allows in the
//! name of a unit (unit_name_is_valid() in its source), and with at most 76 characters each they stay below its 255.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fnctr_oci::Cgroup;

use super::error::{Error, Kind, Result, Step};
use super::{Config, Deps};
use crate::ContainerId;
use crate::cgroup::{self, Choice, DEFAULT_SLICE, Facts, OomLog, Wanted};
use crate::containerd::Record;

/// How often, and how many times, the shims are looked at before the cgroups of a namespace are kept.
const SHIM_AGAIN: Duration = Duration::from_millis(20);
const SHIM_LOOKS: u32 = 10;

/// The cgroup of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// From the top of each hierarchy.
    pub(super) path: String,
    /// What the path ends in wherever the runtime sees that top, and what no other container's path ends in.
    pub(super) name: PathBuf,
}

/// Decides who makes the cgroups, before anything is made.
pub(super) async fn choose_driver(config: &mut Config, daemon: u32) -> Result<()> {
    let wanted = Wanted {
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

/// The kernel's log, where it is the last witness of kills for memory.
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
    /// Where the cgroup of a container that is made here goes.
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

    /// Where the kernel then has it. `None` only for a parent that the spec would be refused for.
    pub(super) fn placement(&self, id: &ContainerId) -> Option<Placement> {
        match self.cgroup(id) {
            Cgroup::Systemd { slice, prefix, id } => Placement::in_slice(&slice, &prefix, &id),
            Cgroup::Cgroupfs { parent, id } => Placement::at(&format!("{parent}/{id}")),
            Cgroup::Unset => None,
        }
    }
}

impl Deps {
    /// Where it goes, in the words of a spec.
    pub(super) fn notation(&self, id: &ContainerId) -> Option<String> {
        match self.cgroup(id) {
            Cgroup::Systemd { slice, prefix, id } => Some(format!("{slice}:{prefix}:{id}")),
            Cgroup::Cgroupfs { parent, id } => Some(format!("{parent}/{id}")),
            Cgroup::Unset => None,
        }
    }

    /// The cgroup that all those of this namespace are made in, if it is ours alone: systemd's slices are systemd's.
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

/// The containers of this namespace that have a cgroup in any hierarchy, where the parent of all of them is ours.
pub(super) fn present(deps: &Deps) -> BTreeSet<ContainerId> {
    let places = deps
        .parent()
        .and_then(|parent| deps.host.cgroups.places(&parent).ok());
    let names = places.iter().flat_map(cgroup::Places::children);
    names.filter_map(|name| ContainerId::new(&name).ok()).collect()
}

/// Removes the cgroups above those of the containers of this namespace, when there are none and none is being made.
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
    // A shim outlives its container by a moment; one that stays makes another container. Those of another containerd may make
    // one here only where nobody has chosen a parent.
    let is_default = deps.config.cgroup_parent == cgroup::DEFAULT_PARENT;
    let busy = || deps.shims().iter().any(|shim| is_default || deps.is_ours(shim));
    let mut looks = 0..SHIM_LOOKS;
    while busy() {
        if looks.next().is_none() {
            return;
        }
        tokio::time::sleep(SHIM_AGAIN).await;
    }
    if !is_empty() {
        return;
    }
    places.remove_childless();
    // The one above it is ours only if nobody has named another.
    if is_default && let Ok(above) = deps.host.cgroups.places(cgroup::DEFAULT_PARENT) {
        above.remove_childless();
    }
}

impl Placement {
    /// The cgroup of a container by its record and the `cgroupsPath` of its spec; `None` if they do not tell.
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

    /// A directory for the namespace, and one in it for the container.
    fn at(path: &str) -> Option<Self> {
        let mut tail = Path::new(path).components().rev();
        let (id, namespace) = (tail.next()?, tail.next()?);
        let normal = |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        (path.starts_with('/') && normal(&id) && normal(&namespace)).then(|| Self {
            path: path.to_owned(),
            name: Path::new(&namespace).join(id),
        })
    }

    /// A scope; runc and crun put its name together in this way.
    fn in_slice(slice: &str, prefix: &str, id: &str) -> Option<Self> {
        let unit = format!("{prefix}-{id}.scope");
        Some(Self {
            path: format!("{}/{unit}", expanded(slice)?),
            name: unit.into(),
        })
    }
}

/// The name of a container in the name of its scope. runc takes a name that ends in `.slice` for that of a slice; no id
/// ends in `_`, so this one stays its own.
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

/// Where the runtime has put the process, as far as it bears the container's name. Without it there is no fast freeze and
/// no statistics, but a container. `None` for the pid of a process that has ended.
pub(super) fn cgroups_of(
    deps: &Deps,
    id: &ContainerId,
    pid: Option<u32>,
    placement: Option<&Placement>,
) -> Option<cgroup::Paths> {
    let found = pid.and_then(|pid| deps.host.cgroups.of_pid(pid).ok()?.named(&placement?.name));
    // A process that has ended leaves its cgroup behind until its task is deleted, and in it what became of memory.
    let named = || {
        deps.host
            .cgroups
            .of_path(&placement?.path)
            .ok()
            .filter(cgroup::Paths::exist)
    };
    let paths = found.or_else(named);
    if paths.is_none() {
        tracing::debug!(%id, ?pid, "no cgroup bears the container's name");
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
    fn a_container_is_where_its_own_record_says() {
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
            // What is not in the notation of its driver, or could be anybody's, is nowhere.
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

    /// What [`Deps::cgroup`] and [`Deps::placement`] say of systemd, without an engine.
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
    fn the_longest_names_fit_into_that_of_a_unit() {
        let longest = "a".repeat(76);
        assert!(unit(&longest, &longest).len() < 255);
    }
}
