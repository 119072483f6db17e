//! The OCI runtime that runs containers, and how its shims are addressed, in one place.

use std::path::PathBuf;

use crate::containerd::{self, RuntimeOptions};

/// Where a runtime keeps its records, unless the shim's options name another directory (containerd's runtime/v2/runc).
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

/// The cause of a runtime's failure, where the runtime's own message does not show it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeFailed {
    #[error(
        "{binary:?} reported neither a process nor an error: it is not an OCI runtime, or could not write in containerd's state directory"
    )]
    NotOne {
        /// The program.
        binary: String,
    },
    #[error(
        "the OCI runtime ran out of open files: the function's limit on them applies to it too; 64 are enough"
    )]
    OpenFiles,
}

impl RuntimeFailed {
    /// Finds the cause in the shim's error of a create. The shim reads what a runtime leaves (its pid, its log), and
    /// returns the text of the log.
    pub(super) fn of(runtime: &Runtime, error: &containerd::Error) -> Option<Self> {
        let left_nothing = [
            "failed to retrieve OCI runtime container pid",
            "unable to retrieve OCI runtime error",
        ];
        // The shim's default is an OCI runtime.
        if let Some(binary) = runtime.binary.clone()
            && left_nothing.iter().any(|words| error.says(words))
        {
            return Some(Self::NotOne { binary });
        }
        error.says("Too many open files").then_some(Self::OpenFiles)
    }
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
    /// The shim's options at create; `None` if its defaults suffice.
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
