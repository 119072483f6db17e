//! Which containerd a command talks to, and the driver on it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::At;
use super::args::global::Global;
use super::failure::Failure;
use super::output::note;
use crate::containerd_driver::not_connected;
use crate::driver::{Config, Driver as _};
use crate::embedded::{self, Embedded, Home};
use crate::engine::Engine;
use crate::{CgroupDriver, ContainerdDriver, Context, NetworkSettings, Registries, Settings};

/// How long starting a private containerd and connecting may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(30);
/// Where containerd listens on most hosts.
const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";

/// An engine, and the private containerd below it if there is one.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) engine: Engine,
    config: Config,
    grace: Duration,
    embedded: Option<Embedded>,
}

impl Connection {
    /// Connects as the command line says. `change` edits the configuration of drivers first.
    pub(super) async fn open(at: At<'_>, change: impl FnOnce(&mut Config)) -> Result<Self, Failure> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::usage(
                "containers need root: run fnctr as root, for example with sudo",
            ));
        }
        let global = at.global;
        let ctx = at.interrupt.ctx().with_timeout(CONNECT);
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
            Engine::connect(&ctx, settings.engine(&config)?)
                .await
                .map_err(not_connected)
        };
        match connected.await {
            Ok(engine) => {
                engine.end_overdue();
                Ok(Self {
                    engine,
                    config,
                    grace,
                    embedded,
                })
            }
            Err(error) => {
                if let Some(embedded) = embedded {
                    leave(embedded).await;
                }
                Err(error.into())
            }
        }
    }

    /// A driver on the engine, for what goes by the contract.
    pub(super) async fn driver(&self, at: At<'_>) -> Result<ContainerdDriver, Failure> {
        let ctx = at.interrupt.ctx().with_timeout(CONNECT);
        Ok(ContainerdDriver::on(&ctx, self.engine.clone(), self.config.clone(), self.grace).await?)
    }

    /// Ends the engine's background work, and the private containerd if nobody else uses it.
    pub(super) async fn close(self) {
        if let Err(error) = self.engine.close(&Context::timeout(LEAVE)).await {
            let after = LEAVE.as_secs();
            tracing::debug!(error = %crate::chain(&error), "the engine's background work is not over");
            note(&format!(
                "fnctr: background work did not end within {after} s and was cut off; the next fnctr command undoes what it left"
            ));
        }
        if let Some(embedded) = self.embedded {
            // It may end now, before it has collected what was removed.
            if let Err(error) = self.engine.collect_garbage(&Context::timeout(LEAVE)).await {
                tracing::debug!(error = %crate::chain(&error), "cannot collect garbage; the next start does");
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

/// Runs one command on a connection, and leaves whatever came of it. A signal ends the command.
pub(super) async fn with<T>(
    at: At<'_>,
    command: impl AsyncFnOnce(&Engine) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connection = Connection::open(at, |_| {}).await?;
    let ran = at.interrupt.ctx().run(command(&connection.engine)).await;
    connection.close().await;
    ran.unwrap_or_else(|_| Err(Failure::interrupted()))
}

/// The same on a driver, the configuration of which `change` edits first.
pub(super) async fn with_driver<T>(
    at: At<'_>,
    change: impl FnOnce(&mut Config),
    command: impl AsyncFnOnce(&ContainerdDriver) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connection = Connection::open(at, change).await?;
    let ran = async {
        let driver = connection.driver(at).await?;
        let ran = at.interrupt.ctx().run(command(&driver)).await;
        driver.close(&Context::timeout(LEAVE)).await?;
        ran.unwrap_or_else(|_| Err(Failure::interrupted()))
    };
    let ran = ran.await;
    connection.close().await;
    ran
}

/// The containerd that is there already; `None` if a private one shall serve.
pub(super) async fn system_address(global: &Global) -> Option<PathBuf> {
    if global.embedded {
        return None;
    }
    // Empty counts as unset, as everywhere in a shell.
    if let Some(address) = global.address.as_deref().filter(|address| !address.is_empty()) {
        return Some(address.into());
    }
    let system = Path::new(SYSTEM_SOCKET);
    embedded::answers(system).await.then(|| system.to_owned())
}

/// Where the private containerd lives.
pub(super) fn home(global: &Global) -> Home {
    global.root.as_deref().map_or_else(Home::system, Home::under)
}

/// The parent of the containers' cgroups: what was asked for, else that of the private containerd, else the usual one.
pub(super) fn cgroup_parent(global: &Global, private: Option<&Home>) -> String {
    let own = private.filter(|_| global.cgroup_driver == CgroupDriver::Cgroupfs);
    match (&global.cgroup_parent, own) {
        (Some(parent), _) => parent.clone(),
        (None, Some(home)) => home.cgroup_parent(),
        // In no driver's notation, so each takes its own.
        (None, None) => Settings::default().cgroup_parent,
    }
}

/// The settings of networks that follow from the command line.
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
