//! What the contract's configuration has no field for: where on the host this driver works, and by which means.

use std::path::PathBuf;
use std::time::Duration;

use super::{Registries, label, pool};
use crate::Namespace;
use crate::driver::{Config, Error, ErrorKind};
use crate::embedded::{Embedded, Home};
use crate::engine::{self, CgroupDriver, DEFAULT_PARENT, Runtime, is_slice};
use crate::image::{CacheSettings, Reference};
use crate::init;
use crate::sandbox::NetworkSettings;

/// containerd's socket where nothing else is configured.
const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// Name and value of a label together, by containerd's own check.
const LONGEST_LABEL: usize = 4096;

/// Where and how; the default suits a host of its own.
#[derive(Debug, Clone)]
pub struct Settings {
    /// containerd's socket, if the configuration's `docker` is empty. `None` is the system's.
    pub address: Option<PathBuf>,
    /// The containerd namespace that holds everything of ours. `None` is `fnctr`.
    pub namespace: Option<Namespace>,
    /// Directory for fifos, an absolute path.
    pub run_dir: PathBuf,
    /// containerd's snapshotter; one that containerd does not have is refused at connect.
    pub snapshotter: String,
    /// The OCI runtime's binary, an absolute path or a name on containerd's PATH; `None` is the shim's default, runc. One that
    /// is not there is refused at connect.
    pub runtime_binary: Option<String>,
    /// Where the runtime keeps its records; `None` is the shim's default, which all containerds of a host share, so that two
    /// with the same namespace and container name would meet there.
    pub runtime_root: Option<PathBuf>,
    /// Who makes the containers' cgroups.
    pub cgroup_driver: CgroupDriver,
    /// The host's init that becomes PID 1; `None` looks for one.
    pub init: Option<PathBuf>,
    /// Parent of the containers' cgroups. A path, for the file system: they are `PARENT/NAMESPACE/ID`. A slice, such as
    /// `functions.slice`, for systemd: they are scopes in it. The other one's notation is refused at connect;
    /// [`CgroupDriver::Probe`] takes either, and chooses by it. Where systemd makes them and nothing is set, they are in
    /// `system.slice`.
    pub cgroup_parent: String,
    /// How long a close may take, and how long the cleaning up of the host's own ([`ContainerTask::close`]) may take after it.
    /// Not 0.
    ///
    /// [`ContainerTask::close`]: crate::driver::ContainerTask::close
    pub close_grace: Duration,
    /// How long a container is frozen before its memory is taken back, as far as the kernel can do without it: clean page
    /// cache, and what can go to swap. It is fetched again when it is needed, so a thaw stays as fast, and what comes after
    /// it may be slower. `None` is never. Takes unified cgroups and Linux 5.19; elsewhere it is a warning at connect.
    pub reclaim_after: Option<Duration>,
    /// Where images are pulled from.
    pub registries: Registries,
    /// Where networks are configured, and where their plugins are.
    pub networks: NetworkSettings,
    /// The most prepared network namespaces. The pool of `pre_fork_pool_size` grows up to it when it was found empty, and
    /// shrinks again. 0 is a pool of constant size.
    pub pool_ceiling: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: None,
            namespace: None,
            run_dir: "/run/fnctr".into(),
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
    /// Those of a driver on a private containerd: its socket, and directories and a cgroup parent that no other containerd of
    /// this host shares. Networks are the host's; give [`Settings::networks`] another first directory of configurations, and
    /// another one of addresses, for networks of its own. The cgroup parent is one for the file system: name a slice if systemd
    /// makes the cgroups.
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

    /// The default, with the directories of a place, whichever containerd it is for.
    pub(crate) fn within(home: &Home) -> Self {
        Self {
            run_dir: home.fifo_dir(),
            networks: NetworkSettings {
                state_dir: home.sandbox_dir(),
                ..NetworkSettings::default()
            },
            ..Self::default()
        }
    }

    /// Refuses what would fail at each container.
    fn check(&self) -> Result<(), Error> {
        let text = if self.close_grace.is_zero() {
            "close_grace is 0: a close without time removes nothing".to_owned()
        } else if !self.run_dir.is_absolute() {
            format!(
                "run_dir {:?} is not an absolute path, which containerd needs to find fifos by",
                self.run_dir
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
        })
    }
}

/// The same of the contract's fields.
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
    let networks: Vec<_> = config.docker_networks.split_whitespace().collect();
    let lone = networks.iter().find(|name| ["host", "none"].contains(*name));
    if let Some(lone) = lone
        && networks.len() > 1
    {
        let text = format!(
            "docker_networks: {lone} is not a network to choose from by use; list it alone, or only networks"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    Ok(())
}

/// How much room images may take; what never goes is named by a reference, as images are everywhere.
fn cache(config: &Config) -> Result<CacheSettings, Error> {
    let names = config.image_clean_exempt_tags.split_whitespace();
    // A slot of the pool must not wait for a pull.
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

/// A path from the root of each hierarchy that means what it says, or a slice that systemd would accept.
fn check_cgroup(parent: &str) -> Result<(), Error> {
    let plain = |part: &str| {
        part != "." && part != ".." && !part.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    // systemd reads `a-b.slice` as `b` in `a`, so there is something on each side of every `-`.
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
