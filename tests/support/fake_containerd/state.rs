//! The model: what each containerd namespace holds. Plain data; the rules are in the services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::SystemTime;

use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use prost_types::{FieldMask, Timestamp};
use tonic::Status;

use super::grpc::Call;
use super::process::{Process, Script};

/// Everything that the server knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) namespaces: BTreeMap<String, Namespace>,
    pub(super) default_script: Script,
    pub(super) scripts: HashMap<String, Script>,
    /// Gives each snapshot a directory of its own.
    pub(super) snapshots_made: u64,
}

/// One containerd namespace. It comes to be with the first thing in it, as in containerd.
#[derive(Default)]
pub(super) struct Namespace {
    pub(super) labels: HashMap<String, String>,
    pub(super) containers: BTreeMap<String, api::Container>,
    pub(super) tasks: BTreeMap<String, Process>,
    /// By snapshotter and key.
    pub(super) snapshots: BTreeMap<(String, String), Snapshot>,
    pub(super) images: BTreeMap<String, api::Image>,
    pub(super) content: BTreeMap<String, Blob>,
    pub(super) ingests: BTreeMap<String, Ingest>,
    pub(super) leases: BTreeMap<String, Lease>,
}

/// A snapshot with its directory, in which `fs` and `work` exist.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) info: api::snapshots::Info,
    pub(super) dir: PathBuf,
}

/// Committed content.
pub(super) struct Blob {
    pub(super) info: api::Info,
    pub(super) data: Vec<u8>,
}

/// Content that is being written.
#[derive(Default)]
pub(super) struct Ingest {
    pub(super) data: Vec<u8>,
    pub(super) total: i64,
    pub(super) expected: String,
    pub(super) started_at: Option<Timestamp>,
    /// A stream is open on it.
    pub(super) locked: bool,
}

/// A lease and what it holds: kind (`content`, `ingests`, `snapshots/NAME`) and id.
#[derive(Default)]
pub(super) struct Lease {
    pub(super) created_at: Option<Timestamp>,
    pub(super) labels: HashMap<String, String>,
    pub(super) holds: BTreeSet<(String, String)>,
}

impl State {
    /// The namespace of the call.
    pub(super) fn of(&mut self, call: &Call) -> Result<&mut Namespace, Status> {
        Ok(self.namespaces.entry(call.namespace()?.to_owned()).or_default())
    }
}

impl Namespace {
    /// Puts what the call makes under its lease, if it came with one. The lease must exist.
    pub(super) fn hold(&mut self, call: &Call, kind: &str, id: &str) -> Result<(), Status> {
        let Some(name) = &call.lease else {
            return Ok(());
        };
        let lease = self
            .leases
            .get_mut(name)
            .ok_or_else(|| not_found("lease", name))?;
        lease.holds.insert((kind.into(), id.into()));
        Ok(())
    }
}

impl Snapshot {
    /// How the snapshot would be mounted, as overlayfs does it. `below` are its ancestors, nearest first.
    pub(super) fn mounts(&self, below: &[PathBuf]) -> Vec<Mount> {
        let writable = self.info.kind() == api::snapshots::Kind::Active;
        let fs = self.dir.join("fs");
        let mount = |r#type: &str, source: String, options: Vec<String>| {
            vec![Mount {
                r#type: r#type.into(),
                source,
                target: String::new(),
                options,
            }]
        };
        let lower = below.iter().map(|dir| dir.join("fs").display().to_string());
        let lower: Vec<_> = lower.collect();
        let bind = |source: String, mode: &str| mount("bind", source, vec![mode.into(), "rbind".into()]);
        match (writable, lower.as_slice()) {
            (true, []) => bind(fs.display().to_string(), "rw"),
            (false, []) => bind(fs.display().to_string(), "ro"),
            (false, [only]) => bind(only.clone(), "ro"),
            (false, _) => mount(
                "overlay",
                "overlay".into(),
                vec![format!("lowerdir={}", lower.join(":"))],
            ),
            (true, _) => mount(
                "overlay",
                "overlay".into(),
                vec![
                    format!("workdir={}", self.dir.join("work").display()),
                    format!("upperdir={}", fs.display()),
                    format!("lowerdir={}", lower.join(":")),
                ],
            ),
        }
    }
}

pub(super) fn now() -> Option<Timestamp> {
    Some(SystemTime::now().into())
}

pub(super) fn not_found(what: &str, id: &str) -> Status {
    Status::not_found(format!("{what} {id:?}: not found"))
}

pub(super) fn already_exists(what: &str, id: &str) -> Status {
    Status::already_exists(format!("{what} {id:?}: already exists"))
}

/// Applies an update of labels: all of them, or those that the mask names. Empty values remove.
pub(super) fn update_labels(
    old: &mut HashMap<String, String>,
    new: HashMap<String, String>,
    mask: Option<&FieldMask>,
) {
    let paths = mask.map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() || paths.iter().any(|path| path == "labels") {
        *old = new;
    } else {
        for key in paths.iter().filter_map(|path| path.strip_prefix("labels.")) {
            old.insert(key.into(), new.get(key).cloned().unwrap_or_default());
        }
    }
    old.retain(|_, value| !value.is_empty());
}
