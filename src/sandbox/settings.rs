//! Where networks are configured, and where their plugins are.

use std::path::PathBuf;
use std::time::Duration;

/// The directory in which fnctr configures networks if none is set.
pub(super) const CONFIG_DIR: &str = "/etc/fnctr/net.d";

/// Where networks are configured, and where their plugins are. The defaults are those of Debian and the CNI ecosystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Directories of CNI network configurations (`.conflist`, `.conf`, `.json`). fnctr writes its own configurations
    /// to the first directory, and only reads the others.
    pub config_dirs: Vec<PathBuf>,
    /// Directories of CNI plugins. A plugin is run from the first directory that contains it.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where attachments are recorded, so that addresses are given back even after a power cut.
    pub state_dir: PathBuf,
    /// Where the networks that fnctr configures record their addresses. The directory should not survive a reboot, so
    /// that all addresses are free afterwards.
    pub address_dir: PathBuf,
    /// How long one plugin may take. A plugin that takes longer is killed.
    pub plugin_patience: Duration,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            config_dirs: vec![CONFIG_DIR.into(), "/etc/cni/net.d".into()],
            plugin_dirs: vec![
                "/opt/cni/bin".into(),
                "/usr/lib/cni".into(),
                "/usr/libexec/cni".into(),
            ],
            state_dir: "/var/lib/fnctr/sandboxes".into(),
            address_dir: "/run/fnctr/addresses".into(),
            plugin_patience: Duration::from_secs(30),
        }
    }
}
