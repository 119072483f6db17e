//! What checks depend on.

use std::path::PathBuf;

use crate::embedded::Home;
use crate::{CgroupDriver, NetworkSettings};

/// The parts of the configuration that checks depend on.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address of the containerd that will be used; `None` if a private one will be started, so that none needs to
    /// run.
    pub address: Option<PathBuf>,
    /// Where images and writable layers will be.
    pub data: PathBuf,
    /// Where FIFOs and other files will be that do not survive a reboot.
    pub run_dir: PathBuf,
    /// Whether the address comes from the environment, and not from the command line.
    pub address_from_environment: bool,
    /// Where a private containerd would live, if one is to be started.
    pub home: Option<Home>,
    /// The init that the configuration names.
    pub init: Option<PathBuf>,
    /// The OCI runtime that the configuration names, by name or path.
    pub runtime: Option<String>,
    /// Which driver makes the cgroups of functions.
    pub cgroup_driver: CgroupDriver,
    /// The parent of these cgroups: a path, or a slice of systemd.
    pub cgroup_parent: String,
    /// Where networks are configured.
    pub networks: NetworkSettings,
}
