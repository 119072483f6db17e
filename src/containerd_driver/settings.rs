//! Settings for which the contract's configuration has no field: where on the machine this driver works, and with which
//! means.

use std::path::PathBuf;
use std::time::Duration;

use super::{Registries, pool};
use crate::Namespace;
use crate::driver::{Config, Error, ErrorKind, label, notation};
use crate::embedded::{Embedded, Home};
use crate::engine::{self, CgroupDriver, DEFAULT_PARENT, Runtime, is_slice};
use crate::image::{CacheSettings, Reference};
use crate::init;
use crate::sandbox::NetworkSettings;

/// containerd's default socket.
const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// The longest name and value of a label together, by containerd's own check.
const LONGEST_LABEL: usize = 4096;

/// Where and how the driver works. The default suits a driver that has a machine to itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// containerd's socket, if the configuration's `docker` is empty. `None` is the system's socket.
    pub address: Option<PathBuf>,
    /// The containerd namespace for all objects of this driver. `None` is `fnctr`.
    pub namespace: Option<Namespace>,
    /// Directory for fifos, an absolute path.
    pub run_dir: PathBuf,
    /// Directory for what outlives a reboot: the output that is kept of containers. An absolute path.
    pub data_dir: PathBuf,
    /// containerd's snapshotter. If containerd does not have it, connecting fails.
    pub snapshotter: String,
    /// The OCI runtime's binary, an absolute path or a name on containerd's PATH; `None` is the shim's default, runc.
    /// If the binary is missing, connecting fails.
    pub runtime_binary: Option<String>,
    /// Where the runtime keeps its records; `None` is the shim's default. All containerds of a machine share the
    /// default, so containers of the same namespace and name would collide there.
    pub runtime_root: Option<PathBuf>,
    /// What creates the containers' cgroups.
    pub cgroup_driver: CgroupDriver,
    /// The init on this machine that becomes PID 1; with `None` the driver searches for one.
    pub init: Option<PathBuf>,
    /// The parent of the containers' cgroups. A path is for the file system: the cgroups are `PARENT/NAMESPACE/ID`. A
    /// slice, such as `functions.slice`, is for systemd: the cgroups are scopes in it. Connecting fails if the notation
    /// is that of the other driver; [`CgroupDriver::Probe`] accepts both, and chooses accordingly. If systemd creates
    /// the cgroups and this is not set, they are in `system.slice`.
    pub cgroup_parent: String,
    /// How long a close may take, and how long the host's own clean-up ([`ContainerTask::close`]) may take after it.
    /// Not 0.
    ///
    /// [`ContainerTask::close`]: crate::driver::ContainerTask::close
    pub close_grace: Duration,
    /// How long a container is frozen before the kernel takes back the memory that the container can do without: clean
    /// page cache, and what can go to swap. The container fetches it again when it needs it, so a thaw is as fast as
    /// before, but the work after it may be slower. `None` means never. Requires unified cgroups and Linux 5.19;
    /// without them, connecting logs a warning.
    pub reclaim_after: Option<Duration>,
    /// The registries that images are pulled from.
    pub registries: Registries,
    /// The directories of network configurations and of their plugins.
    pub networks: NetworkSettings,
    /// The largest number of prepared network namespaces. The pool of `pre_fork_pool_size` grows up to it after it was
    /// found empty, and shrinks again. With 0 the pool has a constant size.
    pub pool_ceiling: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: None,
            namespace: None,
            run_dir: "/run/fnctr".into(),
            data_dir: "/var/lib/fnctr".into(),
            snapshotter: "overlayfs".to_owned(),
            runtime_binary: None,
            runtime_root: None,
            cgroup_driver: CgroupDriver::default(),
            init: None,
            cgroup_parent: DEFAULT_PARENT.to_owned(),
            close_grace: Duration::from_secs(30),
            reclaim_after: None,
            registries: Registries::default(),
            networks: NetworkSettings::default(),
            pool_ceiling: 0,
        }
    }
}

impl Settings {
    /// The settings of a driver on a private containerd: its socket, and directories and a cgroup parent that no other
    /// containerd of this machine shares. The networks are the machine's; for separate networks, give
    /// [`Settings::networks`] another first directory of configurations, and another directory of addresses. The cgroup
    /// parent is a path for the file system: set a slice if systemd creates the cgroups.
    ///
    /// ```no_run
    /// # use fnctr::{ContainerdDriver, Context, Settings, embedded::{Embedded, Home}};
    /// # async fn example(ctx: &Context) -> Result<(), Box<dyn std::error::Error>> {
    /// let embedded = Embedded::start(ctx, &Home::under("/srv/functions".as_ref())).await?;
    /// let driver = ContainerdDriver::connect(ctx, Default::default(), Settings::on(&embedded)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on(embedded: &Embedded) -> Self {
        let home = embedded.home();
        Self {
            address: Some(home.socket()),
            runtime_root: Some(home.runc_root()),
            cgroup_parent: home.cgroup_parent(),
            ..Self::within(home)
        }
    }

    /// The default, with the directories of a home, for any containerd.
    pub(crate) fn within(home: &Home) -> Self {
        Self {
            run_dir: home.fifo_dir(),
            data_dir: home.data_dir(),
            networks: NetworkSettings {
                state_dir: home.sandbox_dir(),
                ..NetworkSettings::default()
            },
            ..Self::default()
        }
    }

    /// Fails for settings with which every container would fail.
    fn check(&self) -> Result<(), Error> {
        let text = if self.close_grace.is_zero() {
            "close_grace is 0: a close without time removes nothing".to_owned()
        } else if !self.run_dir.is_absolute() {
            format!(
                "run_dir {:?} is not an absolute path, which containerd needs to find fifos by",
                self.run_dir
            )
        } else if !self.data_dir.is_absolute() || self.data_dir.to_str().is_none() {
            format!(
                "data_dir {:?} is not an absolute path in UTF-8, by which later processes find it",
                self.data_dir
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidConfig, text))
    }

    /// The engine's configuration.
    pub(crate) fn engine(self, config: &Config) -> Result<engine::Config, Error> {
        let invalid =
            |error: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::InvalidConfig, error);
        self.check()?;
        check_config(config)?;
        let namespace = match self.namespace {
            Some(namespace) => namespace,
            None => Namespace::new("fnctr")?,
        };
        check_cgroup(&self.cgroup_parent)?;
        let address = match config.docker.as_str() {
            "" => self.address.unwrap_or_else(|| SYSTEM_SOCKET.into()),
            text => text.strip_prefix("unix://").unwrap_or(text).into(),
        };
        let init = init::find(self.init.as_deref()).map_err(|error| invalid(error.into()))?;
        Ok(engine::Config {
            address,
            namespace,
            run_dir: self.run_dir,
            data_dir: self.data_dir,
            snapshotter: self.snapshotter,
            runtime: Runtime {
                binary: self.runtime_binary,
                root: self.runtime_root,
                ..Runtime::default()
            },
            init,
            cgroup_driver: self.cgroup_driver,
            cgroup_parent: self.cgroup_parent,
            close_grace: self.close_grace,
            reclaim_after: self.reclaim_after,
            pool: pool::pool(config, self.pool_ceiling)?,
            networks: self.networks,
            pulls: self.registries.pulls()?,
            cache: cache(config)?,
            role: engine::Role::Server,
        })
    }
}

/// Fails for fields of the contract with which every container would fail.
fn check_config(config: &Config) -> Result<(), Error> {
    let labels = [
        (
            "container_label_tag",
            label::CLASSIFIER,
            &config.container_label_tag,
        ),
        ("instance_id", label::INSTANCE, &config.instance_id),
    ];
    for (field, name, value) in labels {
        if name.len() + value.len() > LONGEST_LABEL {
            let most = LONGEST_LABEL - name.len();
            let text = format!(
                "{field} has {} bytes, and containerd takes labels of at most {most}",
                value.len()
            );
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
    }
    notation::networks(&config.docker_networks)?;
    Ok(())
}

/// The size limit of the image cache, and its exempt images, which are named by references as everywhere.
fn cache(config: &Config) -> Result<CacheSettings, Error> {
    let names = config.image_clean_exempt_tags.split_whitespace();
    // A slot of the pool must not wait for a pull, so the pool's image is exempt too.
    let names = names.chain(Some(config.pre_fork_image.as_str()).filter(|image| !image.is_empty()));
    let exempt = names.map(|name| {
        Reference::parse(name).map_err(|why| {
            let text = format!("image_clean_exempt_tags: {why}");
            Error::new(ErrorKind::InvalidConfig, text)
        })
    });
    Ok(CacheSettings {
        max_size: config.image_clean_max_size,
        exempt: exempt.collect::<Result<_, _>>()?,
    })
}

/// Accepts a path from the root of each hierarchy without special components, or a slice that systemd would accept.
fn check_cgroup(parent: &str) -> Result<(), Error> {
    let plain = |part: &str| {
        part != "." && part != ".." && !part.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    // systemd reads `a-b.slice` as `b` in `a`, so there must be text on each side of every `-`.
    let unit = |c: char| c.is_ascii_alphanumeric() || "-_.\\".contains(c);
    let slice = parent.strip_suffix(".slice").filter(|_| is_slice(parent));
    let fits = match slice {
        Some("-") => true,
        Some(name) => name.chars().all(unit) && name.split('-').all(|part| !part.is_empty()),
        None => parent.starts_with('/') && parent.split('/').all(plain),
    };
    if fits {
        return Ok(());
    }
    let text = format!(
        "cgroup parent {parent:?} must be an absolute path without spaces, such as /fnctr, or a slice of systemd, such as \
         functions.slice"
    );
    Err(Error::new(ErrorKind::InvalidConfig, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_fail_at_each_container_is_refused_by_name() {
        let refused = |settings: Settings, names: &str| {
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.report().contains(names), "{error:?}");
        };
        let no_grace = Settings {
            close_grace: Duration::ZERO,
            ..Settings::default()
        };
        refused(no_grace, "close_grace");
        let relative = Settings {
            run_dir: "run/fnctr".into(),
            ..Settings::default()
        };
        refused(relative, "run/fnctr");
        Settings::default().check().unwrap();

        let tagged = |tag: String, instance: String, networks: &str| Config {
            container_label_tag: tag,
            instance_id: instance,
            docker_networks: networks.to_owned(),
            ..Config::default()
        };
        let (short, long) = (String::new, || "x".repeat(5000));
        for (config, names) in [
            (tagged(long(), short(), ""), "container_label_tag"),
            (tagged(short(), long(), ""), "instance_id"),
            (tagged(short(), short(), "ca host"), "host"),
            (tagged(short(), short(), "none ca"), "none"),
        ] {
            let error = check_config(&config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.report().contains(names), "{error:?}");
        }
        for networks in ["", "ca cb", " host ", "none"] {
            check_config(&tagged("tag".into(), "one".into(), networks)).unwrap();
        }
    }

    #[test]
    fn a_cgroup_parent_means_what_it_says() {
        for good in ["/", "/fnctr", "/a/b.slice", "a.slice", "a-b.slice", "-.slice"] {
            check_cgroup(good).unwrap();
        }
        for bad in [
            "",
            "fnctr",
            "/a/../b",
            "/a\nb",
            "/a b",
            ".slice",
            "a--b.slice",
            "-a.slice",
            "a/b.slice",
            "a b.slice",
        ] {
            assert!(check_cgroup(bad).is_err(), "{bad:?}");
        }
    }
}
