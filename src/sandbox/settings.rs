//! Where networks are configured, and where their plugins are.

use std::path::PathBuf;
use std::time::Duration;

/// Where fnctr configures networks if nothing else is set.
pub(super) const CONFIG_DIR: &str = "/etc/fnctr/net.d";

/// Where networks are configured, and where their plugins are. The default is what Debian and the ecosystem use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Directories of CNI network configurations (`.conflist`, `.conf`, `.json`). In the first one fnctr writes its own; what is
    /// in the others it only reads.
    pub config_dirs: Vec<PathBuf>,
    /// Directories of CNI plugins; the first that has a plugin wins.
    pub plugin_dirs: Vec<PathBuf>,
    /// Where it is remembered what is attached, so that addresses are given back even after a power cut.
    pub state_dir: PathBuf,
    /// Where the networks that fnctr configures keep their addresses. It should die with the host: then so do they.
    pub address_dir: PathBuf,
    /// How long one plugin may take; one that takes longer is ended.
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
