//! What the contract's configuration has no field for: where on the host this driver works, and by which means.

use std::path::PathBuf;
use std::time::Duration;

use crate::Namespace;
use crate::driver::{Config, Error, ErrorKind};
use crate::engine::{self, Runtime};
use crate::init;

/// containerd's socket where nothing else is configured.
const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// Where and how; the default suits a host of its own.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The containerd namespace that holds everything of ours. `None` is `fnctr`.
    pub namespace: Option<Namespace>,
    /// Directory for fifos.
    pub run_dir: PathBuf,
    /// containerd's snapshotter.
    pub snapshotter: String,
    /// The OCI runtime's binary; `None` is the shim's default, runc.
    pub runtime_binary: Option<String>,
    /// Where the runtime keeps its records; `None` is the shim's default, which all containerds of a host share, so that two
    /// with the same namespace and container name would meet there.
    pub runtime_root: Option<PathBuf>,
    /// Whether cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// The host's init that becomes PID 1; `None` looks for one.
    pub init: Option<PathBuf>,
    /// Parent of the containers' cgroups; they are `PARENT/NAMESPACE/ID`.
    pub cgroup_parent: String,
    /// How long a close may take.
    pub close_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: None,
            run_dir: "/run/fnctr".into(),
            snapshotter: "overlayfs".to_owned(),
            runtime_binary: None,
            runtime_root: None,
            systemd_cgroup: false,
            init: None,
            cgroup_parent: "/fnctr".to_owned(),
            close_grace: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// The engine's configuration.
    pub(super) fn engine(self, config: &Config) -> Result<engine::Config, Error> {
        let invalid =
            |error: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::InvalidConfig, error);
        let namespace = match self.namespace {
            Some(namespace) => namespace,
            None => Namespace::new("fnctr")?,
        };
        check_cgroup(&self.cgroup_parent)?;
        let address = if config.docker.is_empty() {
            SYSTEM_SOCKET
        } else {
            &config.docker
        };
        let address = address.strip_prefix("unix://").unwrap_or(address);
        let init = init::find(self.init.as_deref()).map_err(|error| invalid(error.into()))?;
        Ok(engine::Config {
            address: address.into(),
            namespace,
            run_dir: self.run_dir,
            snapshotter: self.snapshotter,
            runtime: Runtime {
                binary: self.runtime_binary,
                root: self.runtime_root,
                systemd_cgroup: self.systemd_cgroup,
                ..Runtime::default()
            },
            init,
            cgroup_parent: self.cgroup_parent,
            close_grace: self.close_grace,
        })
    }
}

/// A path from the root of each hierarchy that means what it says.
fn check_cgroup(parent: &str) -> Result<(), Error> {
    let plain = |part: &str| {
        part != "." && part != ".." && !part.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    if parent.starts_with('/') && parent.split('/').all(plain) {
        return Ok(());
    }
    let text = format!("cgroup parent {parent:?} must be an absolute path without spaces, such as /fnctr");
    Err(Error::new(ErrorKind::InvalidConfig, text))
}

/// Refuses what this driver would otherwise have to ignore in silence.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    let unsupported = [
        (config.pre_fork_pool_size != 0, "pre_fork_pool_size"),
        (config.image_clean_max_size != 0, "image_clean_max_size"),
    ];
    match unsupported.into_iter().find(|(set, _)| *set) {
        Some((_, field)) => {
            let text = format!("this version of fnctr does not implement {field}; leave it unset");
            Err(Error::new(ErrorKind::InvalidConfig, text))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_cgroup;

    #[test]
    fn a_cgroup_parent_means_what_it_says() {
        for good in ["/", "/fnctr", "/a/b.slice"] {
            check_cgroup(good).unwrap();
        }
        for bad in ["", "fnctr", "/a/../b", "/a\nb", "/a b"] {
            assert!(check_cgroup(bad).is_err(), "{bad:?}");
        }
    }
}
