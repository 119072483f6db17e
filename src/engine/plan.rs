//! Everything decided about one container, as data. Both front doors end here, and nothing below them decides again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fnctr_oci::ContainerConfig;

use crate::ContainerId;
use crate::image::Reference;

/// Labels that this project puts on every container record, beside those of the plan.
pub(crate) mod label {
    /// Present on every record that the engine made; the value is this crate's version.
    pub(crate) const ENGINE: &str = "io.fnctr.engine";
    /// Distinguishes two attempts to create the same id, so that an undo never removes another attempt's record.
    pub(crate) const ATTEMPT: &str = "io.fnctr.attempt";
    /// On the record of a container whose writable layer is limited: to how many bytes. Whoever takes it over knows by it
    /// that there is a limit to take away.
    pub(crate) const FS_SIZE: &str = "io.fnctr.fs-size";
    /// The contract's label for "a container of this kind of host"; hosts of old look for it by this name.
    pub(crate) const CLASSIFIER: &str = "fn-agent-classifier";
    /// The contract's label for "made by this instance".
    pub(crate) const INSTANCE: &str = "fn-agent-instance";
}

/// A container, decided.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a plan does nothing until the engine creates it"]
pub(crate) struct Plan {
    /// The container's name, unique in the containerd namespace.
    pub(crate) id: ContainerId,
    /// The image whose file system and configuration it starts from.
    pub(crate) image: Reference,
    /// What the process gets. The engine fills in where the cgroup goes and which init runs.
    pub(crate) config: ContainerConfig,
    /// Whether an init is PID 1.
    pub(crate) init: bool,
    /// Labels of the containerd record.
    pub(crate) labels: BTreeMap<String, String>,
    /// Most bytes that the writable layer may hold.
    pub(crate) fs_size: Option<u64>,
    /// Host directories that the container's user must be able to write to (the function's socket goes there).
    pub(crate) writable: Vec<PathBuf>,
}
