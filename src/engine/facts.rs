//! Facts that a list shows of a container in addition to the fields of its record. A spec is tens of kilobytes of JSON,
//! most of it the seccomp profile. To avoid reading it, the record has these facts as labels. Only if a label is
//! missing, because an older version made the record or the command is too long, the spec is read.

use std::collections::BTreeMap;

use fnctr_oci::Spec;
use serde_json::Value;

use super::label;
use super::placement::Placement;
use crate::containerd::Record;

/// Maximum length of a label's name and value together that containerd accepts, in bytes.
pub(super) const MAX_LABEL: usize = 4096;

/// The facts of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The command as a person would type it, without the init.
    pub(super) command: String,
    /// Where its cgroup is; `None` if the record does not determine it.
    pub(super) placement: Option<Placement>,
    /// Its memory limit, in bytes.
    pub(super) memory: Option<u64>,
}

/// The labels of a container with this spec.
pub(super) fn labels(spec: &Spec) -> BTreeMap<String, String> {
    let args = spec
        .process()
        .as_ref()
        .and_then(|process| process.args().as_ref());
    let args: Vec<_> = args.into_iter().flatten().map(String::as_str).collect();
    let linux = spec.linux().as_ref();
    let cgroup = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let memory = linux
        .and_then(|linux| linux.resources().as_ref())
        .and_then(|resources| resources.memory().as_ref())
        .and_then(|memory| memory.limit());
    let known = [
        (label::COMMAND, Some(without_init(&args))),
        (label::CGROUP, cgroup.map(|path| path.display().to_string())),
        (label::MEMORY, memory.map(|bytes| bytes.to_string())),
    ];
    known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .filter(|(name, value)| name.len() + value.len() <= MAX_LABEL)
        .collect()
}

impl Facts {
    /// Reads the facts of a record.
    pub(super) fn of(record: &Record) -> Self {
        let label = |name| record.labels.get(name).map(String::as_str);
        let (command, cgroup) = (label(label::COMMAND), label(label::CGROUP));
        if let (Some(command), Some(cgroup)) = (command, cgroup) {
            return Self {
                command: command.to_owned(),
                placement: Placement::of_record(record, cgroup),
                memory: label(label::MEMORY).and_then(|bytes| bytes.parse().ok()),
            };
        }
        let spec: Value = serde_json::from_slice(&record.spec).unwrap_or_default();
        let cgroup = spec.pointer("/linux/cgroupsPath").and_then(Value::as_str);
        let memory = spec.pointer("/linux/resources/memory/limit");
        Self {
            command: command_of(&spec),
            placement: cgroup.and_then(|cgroup| Placement::of_record(record, cgroup)),
            memory: memory.and_then(Value::as_u64),
        }
    }
}

/// The record without its spec, which is most of it, unless the facts can be read from the spec only.
pub(super) fn without_spec(mut record: Record) -> Record {
    let has = |name| record.labels.contains_key(name);
    if has(label::COMMAND) && has(label::CGROUP) {
        record.spec = Vec::new();
    }
    record
}

fn command_of(spec: &Value) -> String {
    let args = spec.pointer("/process/args").and_then(Value::as_array);
    let args: Vec<_> = args.into_iter().flatten().filter_map(Value::as_str).collect();
    without_init(&args)
}

fn without_init(args: &[&str]) -> String {
    match args {
        [init, "--", rest @ ..] if *init == fnctr_oci::INIT_PATH => rest.join(" "),
        all => all.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerId;

    fn spec(command: &str) -> Spec {
        let json = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "cwd": "/",
                "user": { "uid": 0, "gid": 0 },
                "args": [fnctr_oci::INIT_PATH, "--", "echo", command],
            },
            "linux": { "cgroupsPath": "/fnctr/ns/c1", "resources": { "memory": { "limit": 64 << 20 } } },
        });
        serde_json::from_value(json).unwrap()
    }

    fn record(spec: Vec<u8>, labels: BTreeMap<String, String>) -> Record {
        Record {
            id: ContainerId::new("c1").unwrap(),
            image: String::new(),
            labels,
            runtime: String::new(),
            runtime_options: None,
            spec,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: None,
            extensions: BTreeMap::new(),
        }
    }

    #[test]
    fn the_facts_come_from_the_labels_without_the_spec() {
        let spec = spec("hello");
        let json = serde_json::to_vec(&spec).unwrap();
        let facts = Facts::of(&record(b"no JSON".to_vec(), labels(&spec)));
        let of_an_older_version = Facts::of(&record(json, BTreeMap::new()));
        assert_eq!(facts, of_an_older_version);
        assert_eq!(
            (facts.command.as_str(), facts.memory),
            ("echo hello", Some(64 << 20))
        );
        assert_eq!(facts.placement.unwrap().path, "/fnctr/ns/c1");
    }

    #[test]
    fn a_command_too_long_for_a_label_is_read_from_the_spec() {
        let long = "x".repeat(MAX_LABEL);
        let spec = spec(&long);
        let labels = labels(&spec);
        assert!(!labels.contains_key(label::COMMAND), "{labels:?}");
        let facts = Facts::of(&record(serde_json::to_vec(&spec).unwrap(), labels));
        assert_eq!(facts.command, format!("echo {long}"));
        assert!(facts.placement.is_some() && facts.memory.is_some());
    }

    #[test]
    fn the_command_is_shown_without_the_init() {
        let spec = |args: &[&str]| serde_json::json!({ "process": { "args": args } });
        let with_init = spec(&["/sbin/docker-init", "--", "sleep", "60"]);
        assert_eq!(command_of(&with_init), "sleep 60");
        assert_eq!(command_of(&spec(&["sleep", "--", "60"])), "sleep -- 60");
        assert_eq!(command_of(&Value::Null), "");
    }
}
