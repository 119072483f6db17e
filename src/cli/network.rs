//! `network`: which networks there are, who is attached, and more of them. And what `run` is told about them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::global::Global;
use super::output::{Print, line, note, table};
use crate::engine::unique;
use crate::sandbox::{DEFAULT, Error, Known, Listed, NewNetwork, Sandboxes};
use crate::{ContainerId, Network, NetworkSettings, PortMapping};

/// Where networks are configured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = super::global::HEADING)]
pub(super) struct Dirs {
    /// Directory of CNI network configurations; fnctr writes its own to the first [default: /etc/fnctr/net.d, /etc/cni/net.d]
    #[arg(
        long,
        global = true,
        env = "FNCTR_CNI_CONFIG_DIR",
        value_delimiter = ',',
        value_name = "DIR",
        hide_env_values = true
    )]
    cni_config_dir: Vec<PathBuf>,
    /// Directory of CNI plugins [default: /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni]
    #[arg(
        long,
        global = true,
        env = "FNCTR_CNI_PLUGIN_DIR",
        value_delimiter = ',',
        value_name = "DIR",
        hide_env_values = true
    )]
    cni_plugin_dir: Vec<PathBuf>,
}

/// The settings that follow from the command line.
pub(super) fn settings(global: &Global) -> NetworkSettings {
    let mut settings = NetworkSettings::default();
    if !global.networks.cni_config_dir.is_empty() {
        settings.config_dirs.clone_from(&global.networks.cni_config_dir);
    }
    if !global.networks.cni_plugin_dir.is_empty() {
        settings.plugin_dirs.clone_from(&global.networks.cni_plugin_dir);
    }
    settings.state_dir = super::connect::home(global).sandbox_dir();
    settings
}

/// What `--network` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    None,
    Host,
    Of(ContainerId),
    /// Of these, the one used least.
    Named(Vec<String>),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            "" => Err("it is empty".to_owned()),
            "default" | "bridge" => Ok(Self::Named(vec![DEFAULT.to_owned()])),
            _ => match text.strip_prefix("container:") {
                Some(id) => ContainerId::new(id)
                    .map(Self::Of)
                    .map_err(|error| error.to_string()),
                None => Ok(Self::Named(text.split(',').map(str::to_owned).collect())),
            },
        }
    }
}

/// The network of a container, and the ports of the host that lead into it.
#[derive(Debug, Args)]
pub(super) struct NetworkArgs {
    /// Network: none (loopback only), host, default, container:ID, or a name; of several names, the one used least [default:
    /// none, or default with --publish]
    #[arg(long, value_name = "NETWORK")]
    network: Option<Choice>,
    /// Publish a port of the container on the host
    #[arg(long, short = 'p', value_name = "[IP:]PORT:PORT[/udp]")]
    publish: Vec<PortMapping>,
}

impl NetworkArgs {
    fn choice(&self) -> Choice {
        match &self.network {
            Some(choice) => choice.clone(),
            None if self.publish.is_empty() => Choice::None,
            None => Choice::Named(vec![DEFAULT.to_owned()]),
        }
    }

    /// Whether it has its own loopback and nothing else.
    pub(super) fn is_none(&self) -> bool {
        self.choice() == Choice::None
    }
}

/// The network of a container, and whether it goes by a name of its own there.
pub(super) fn choose(args: &NetworkArgs) -> Result<(Network, bool), Failure> {
    let choice = args.choice();
    if !args.publish.is_empty() && !matches!(choice, Choice::Named(_)) {
        return Err(Failure::usage(
            "--publish needs a network of the host's: name one with --network, or leave it to be the default one",
        ));
    }
    Ok(match choice {
        Choice::None => (Network::None, true),
        Choice::Host => (Network::Host, false),
        Choice::Of(id) => (Network::Of(id), true),
        Choice::Named(networks) => {
            let ports = args.publish.clone();
            let attached = Network::Attached {
                networks,
                ports,
                pooled: false,
            };
            (attached, true)
        }
    })
}

/// What to do about networks.
#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// List networks, with how many are attached
    Ls,
    /// Show a network's configuration and who is attached, as JSON
    Inspect {
        /// Its name
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Configure a bridge network
    Create {
        /// Its name
        name: String,
        /// Its addresses, as in 10.20.0.0/16 [default: a part of 10.143.0.0 to 10.174.255.255 that this host does not use]
        #[arg(long, value_name = "SUBNET")]
        subnet: Option<String>,
        /// The bridge's name on the host [default: fn-NAME]
        #[arg(long, value_name = "INTERFACE")]
        bridge: Option<String>,
    },
    /// Remove a network that fnctr configured, with its bridge; not one that is in use
    Rm {
        /// Its name
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// A network in `network ls`.
#[derive(Debug, Serialize)]
struct Row {
    network: String,
    plugins: Vec<String>,
    subnets: Vec<String>,
    attached: usize,
    file: PathBuf,
}

/// Works on the files alone: no containerd needs to run.
pub(super) async fn network(
    global: &Global,
    what: NetworkCommand,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let settings = settings(global);
    let opened =
        tokio::task::spawn_blocking(move || Sandboxes::open(&settings, "/run/fnctr".as_ref(), "", &unique()));
    let sandboxes = opened.await.map_err(|error| Failure::host(&error))?;
    let sandboxes = sandboxes.map_err(failed)?;
    match what {
        NetworkCommand::Ls => list(&sandboxes, print),
        NetworkCommand::Inspect { names } => inspect(&sandboxes, &names, print),
        NetworkCommand::Create { name, subnet, bridge } => {
            let created = sandboxes.networks().create(&NewNetwork { name, subnet, bridge });
            let row = row(created.map_err(failed)?, &[]);
            print.result(&row, || format!("{} {}", row.network, row.subnets.join(" ")));
            Ok(ExitCode::SUCCESS)
        }
        NetworkCommand::Rm { names } => {
            for name in names {
                sandboxes.remove_network(&name).map_err(failed)?;
                print.result(&serde_json::json!({ "network": name, "removed": true }), || {
                    name.clone()
                });
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn failed(error: Error) -> Failure {
    Failure::network(&error)
}

fn row(known: Known, attached: &[Listed]) -> Row {
    let is_on = |listed: &&Listed| listed.network.as_ref() == Some(&known.name);
    Row {
        attached: attached.iter().filter(is_on).count(),
        network: known.name,
        plugins: known.plugins,
        subnets: known.subnets,
        file: known.file,
    }
}

fn list(sandboxes: &Sandboxes, print: &Print) -> Result<ExitCode, Failure> {
    let attached = sandboxes.list_all().map_err(failed)?;
    let (known, broken) = sandboxes.networks().list().map_err(failed)?;
    let rows: Vec<_> = known.into_iter().map(|known| row(known, &attached)).collect();
    for error in broken {
        note(&format!("fnctr: {}", crate::chain(&error)));
    }
    if print.is_json() {
        rows.iter().for_each(|row| print.json(row));
        return Ok(ExitCode::SUCCESS);
    }
    let cells = |row: &Row| {
        vec![
            row.network.clone(),
            row.plugins.join(","),
            row.subnets.join(","),
            row.attached.to_string(),
            row.file.display().to_string(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    line(&table(
        &["NETWORK", "PLUGINS", "SUBNETS", "ATTACHED", "FILE"],
        &rows,
    ));
    Ok(ExitCode::SUCCESS)
}

fn inspect(sandboxes: &Sandboxes, names: &[String], print: &Print) -> Result<ExitCode, Failure> {
    let attached = sandboxes.list_all().map_err(failed)?;
    for name in names {
        let known = sandboxes.networks().known(name).map_err(failed)?;
        let users = attached
            .iter()
            .filter(|listed| listed.network.as_ref() == Some(name));
        let users: Vec<_> = users.map(user).collect();
        let value = serde_json::json!({
            "network": known.name,
            "file": known.file,
            "subnets": known.subnets,
            "config": known.config,
            "attached": users,
        });
        print.result(&value, || {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn user(listed: &Listed) -> serde_json::Value {
    let addresses = listed.addresses.iter();
    let addresses: Vec<_> = addresses.map(|at| format!("{}/{}", at.ip, at.prefix)).collect();
    serde_json::json!({
        "sandbox": listed.id,
        "container": listed.container,
        "pooled": listed.container.is_none(),
        "addresses": addresses,
        "ports": listed.ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_word_a_container_or_names() {
        let choice = |text: &str| text.parse::<Choice>();
        assert_eq!(choice("none"), Ok(Choice::None));
        assert_eq!(choice("host"), Ok(Choice::Host));
        assert_eq!(choice("default"), Ok(Choice::Named(vec!["fnctr".to_owned()])));
        assert_eq!(
            choice("container:c1"),
            Ok(Choice::Of(ContainerId::new("c1").unwrap()))
        );
        assert_eq!(
            choice("a,b"),
            Ok(Choice::Named(vec!["a".to_owned(), "b".to_owned()]))
        );
        assert!(choice("").is_err() && choice("container:").is_err() && choice("container:a b").is_err());
    }
}
