//! Which OCI runtime runs containers, and how its shims are addressed: the one place that knows.

use std::path::PathBuf;

use crate::containerd::RuntimeOptions;

/// Where the shim has a runtime keep its records, unless it is told otherwise (containerd's runtime/v2/runc).
pub(super) const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// A runtime as containerd addresses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// containerd's name of the shim.
    pub(crate) name: String,
    /// The OCI runtime's binary, a name on containerd's PATH or an absolute path; `None` is the shim's default, runc.
    pub(crate) binary: Option<String>,
    /// Where the runtime keeps its records; `None` is the shim's default.
    pub(crate) root: Option<PathBuf>,
    /// Whether cgroups are made by systemd; decided at connect, see [`super::Config::cgroup_driver`].
    pub(crate) systemd_cgroup: bool,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            name: "io.containerd.runc.v2".to_owned(),
            binary: None,
            root: None,
            systemd_cgroup: false,
        }
    }
}

impl Runtime {
    /// What the shim is told at create; `None` where its defaults serve.
    pub(crate) fn options(&self) -> Option<RuntimeOptions> {
        if self.binary.is_none() && self.root.is_none() && !self.systemd_cgroup {
            return None;
        }
        Some(RuntimeOptions {
            binary_name: self.binary.clone(),
            root: self.root.as_ref().map(|root| root.display().to_string()),
            systemd_cgroup: self.systemd_cgroup,
            ..RuntimeOptions::default()
        })
    }
}
