//! Chooses the containerd that a command works on, and connects an engine or a driver to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Invocation;
use super::args::global::Global;
use super::failure::Failure;
use super::output::note;
use crate::containerd_driver::not_connected;
use crate::driver::{Config, Driver as _};
use crate::embedded::{self, Embedded, Home};
use crate::engine::{Engine, Role};
use crate::{CgroupDriver, ContainerdDriver, Context, NetworkSettings, Registries, Settings};

/// How long starting a private containerd and connecting to it may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long each step of disconnecting may take.
const LEAVE: Duration = Duration::from_secs(30);
/// The socket on which containerd listens on most hosts.
const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// An engine, and the private containerd that it uses, if any.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) engine: Engine,
    config: Config,
    grace: Duration,
    embedded: Option<Embedded>,
}

impl Connection {
    /// Connects to the containerd that the command line names. `change` edits the configuration of drivers first.
    pub(super) async fn open(
        invocation: Invocation<'_>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Failure> {
        Self::open_as(Role::Command, invocation, change).await
    }

    /// The same, for a command that lists all containers, once.
    pub(super) async fn listing(invocation: Invocation<'_>) -> Result<Self, Failure> {
        Self::open_as(Role::List, invocation, |_| {}).await
    }

    /// The same, for an engine that only reads.
    pub(super) async fn observe(invocation: Invocation<'_>) -> Result<Self, Failure> {
        Self::open_as(Role::Observer, invocation, |_| {}).await
    }

    /// The same, for an engine that lives until a signal ends it.
    pub(super) async fn serving(
        invocation: Invocation<'_>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Failure> {
        Self::open_as(Role::Server, invocation, change).await
    }

    async fn open_as(
        role: Role,
        invocation: Invocation<'_>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, Failure> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::usage(
                "containers need root: run fnctr as root, for example with sudo",
            ));
        }
        let global = invocation.global;
        let ctx = invocation.interrupt.ctx().with_timeout(CONNECT);
        let (address, embedded) = match system_address(global).await {
            Some(address) => (address, None),
            None => {
                let home = home(global);
                let embedded = Embedded::start(&ctx, &home)
                    .await
                    .map_err(|error| Failure::host(&error))?;
                (embedded.socket(), Some(embedded))
            }
        };
        let mut config = Config::default();
        change(&mut config);
        let base = match &embedded {
            Some(embedded) => Settings::on(embedded),
            None => Settings::within(&home(global)),
        };
        let settings = Settings {
            address: Some(address),
            namespace: Some(global.namespace.clone()),
            runtime_binary: global.runtime.clone(),
            init: global.init_path.clone(),
            cgroup_parent: cgroup_parent(global, embedded.as_ref().map(Embedded::home)),
            cgroup_driver: global.cgroup_driver,
            registries: Registries {
                hosts_dir: global.hosts_dir.clone(),
                plain_http: global.plain_http.clone(),
                ..Registries::from_env()
            },
            networks: network_settings(global),
            ..base
        };
        let grace = settings.close_grace;
        let connected = async {
            let mut config = settings.engine(&config)?;
            config.role = role;
            Engine::connect(&ctx, config).await.map_err(not_connected)
        };
        match connected.await {
            Ok(engine) => Ok(Self {
                engine,
                config,
                grace,
                embedded,
            }),
            Err(error) => {
                if let Some(embedded) = embedded {
                    leave(embedded).await;
                }
                Err(error.into())
            }
        }
    }

    /// A driver on the engine, for commands that use the driver contract.
    pub(super) async fn driver(&self, invocation: Invocation<'_>) -> Result<ContainerdDriver, Failure> {
        let ctx = invocation.interrupt.ctx().with_timeout(CONNECT);
        Ok(ContainerdDriver::on(&ctx, self.engine.clone(), self.config.clone(), self.grace).await?)
    }

    /// Ends the engine's background work, and the private containerd if no other process uses it.
    pub(super) async fn close(self) {
        if let Err(error) = self.engine.close(&Context::timeout(LEAVE)).await {
            let after = LEAVE.as_secs();
            tracing::debug!(error = %crate::chain(&error), "the engine's background work did not end in time");
            note(&format!(
                "fnctr: background work did not end within {after} s and was cut off; the next fnctr command undoes what it left"
            ));
        }
        if let Some(embedded) = self.embedded {
            // Collect garbage now, because containerd may stop before it has collected what was removed.
            if let Err(error) = self.engine.collect_garbage(&Context::timeout(LEAVE)).await {
                tracing::debug!(error = %crate::chain(&error), "cannot collect garbage; the next start of containerd does so");
            }
            leave(embedded).await;
        }
    }
}

async fn leave(embedded: Embedded) {
    if let Err(error) = embedded.stop(&Context::timeout(LEAVE)).await {
        note(&format!("fnctr: {}", crate::chain(&error)));
    }
}

/// Connects, runs one command, and disconnects even if the command fails. A signal ends the command.
pub(super) async fn with<T>(
    invocation: Invocation<'_>,
    command: impl AsyncFnOnce(&Engine) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connection = Connection::open(invocation, |_| {}).await?;
    let ran = invocation.interrupt.ctx().run(command(&connection.engine)).await;
    connection.close().await;
    ran.unwrap_or_else(|_| Err(Failure::interrupted()))
}

/// Like [`with`], but passes a driver to the command. `change` edits the driver's configuration first.
pub(super) async fn with_driver<T>(
    invocation: Invocation<'_>,
    change: impl FnOnce(&mut Config),
    command: impl AsyncFnOnce(&ContainerdDriver) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connection = Connection::open(invocation, change).await?;
    let ran = async {
        let driver = connection.driver(invocation).await?;
        let ran = invocation.interrupt.ctx().run(command(&driver)).await;
        driver.close(&Context::timeout(LEAVE)).await?;
        ran.unwrap_or_else(|_| Err(Failure::interrupted()))
    };
    let ran = ran.await;
    connection.close().await;
    ran
}

/// The address of the containerd that the user named or the host runs; `None` if a private containerd is to be used.
pub(super) async fn system_address(global: &Global) -> Option<PathBuf> {
    if global.embedded {
        return None;
    }
    // An empty value counts as unset, as is usual in shells.
    if let Some(address) = global.address.as_deref().filter(|address| !address.is_empty()) {
        return Some(address.into());
    }
    let system = Path::new(SYSTEM_SOCKET);
    embedded::answers(system).await.then(|| system.to_owned())
}

/// The directories of the private containerd.
pub(super) fn home(global: &Global) -> Home {
    global.root.as_deref().map_or_else(Home::system, Home::under)
}

/// The parent of the containers' cgroups: the one that the user named, else that of the private containerd, else the
/// default.
pub(super) fn cgroup_parent(global: &Global, private: Option<&Home>) -> String {
    let own = private.filter(|_| global.cgroup_driver == CgroupDriver::Cgroupfs);
    match (&global.cgroup_parent, own) {
        (Some(parent), _) => parent.clone(),
        (None, Some(home)) => home.cgroup_parent(),
        // Both cgroup drivers accept the default parent, and systemd uses its own default slice instead.
        (None, None) => Settings::default().cgroup_parent,
    }
}

/// The settings of networks, as far as the command line sets them, else the defaults.
pub(super) fn network_settings(global: &Global) -> NetworkSettings {
    let mut settings = NetworkSettings::default();
    if !global.networks.cni_config_dir.is_empty() {
        settings.config_dirs.clone_from(&global.networks.cni_config_dir);
    }
    if !global.networks.cni_plugin_dir.is_empty() {
        settings.plugin_dirs.clone_from(&global.networks.cni_plugin_dir);
    }
    settings.state_dir = home(global).sandbox_dir();
    settings
}
