//! `network`: lists, shows, creates and removes networks. Also translates the network options of `run`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::args::global::Global;
use super::args::network::{Choice, NetworkArgs, NetworkCommand};
use super::connect::{home, network_settings};
use super::failure::Failure;
use super::output::{Print, columns, fitted, line, note};
use crate::Network;
use crate::engine::{Action, Event, EventKind, event_log};
use crate::ids::unique;
use crate::sandbox::{ConfiguredNetwork, Error, Listed, NewNetwork, Sandboxes};

/// Returns the network of a container, and whether the container has its own hostname on that network.
pub(super) fn choose(args: &NetworkArgs) -> Result<(Network, bool), Failure> {
    let choice = args.choice();
    if !args.publish.is_empty() && !matches!(choice, Choice::Named(_)) {
        return Err(Failure::usage(
            "--publish needs a network of this host: name one with --network, or leave --network out for the default one",
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

/// A network in `network ls`.
#[derive(Debug, Serialize)]
struct Row {
    network: String,
    plugins: Vec<String>,
    subnets: Vec<String>,
    attached: usize,
    file: PathBuf,
}

/// Runs a `network` command. It works on files only, so no containerd needs to run.
pub(super) async fn network(
    global: &Global,
    what: NetworkCommand,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let settings = network_settings(global);
    let opened =
        tokio::task::spawn_blocking(move || Sandboxes::open(&settings, "/run/fnctr".as_ref(), "", &unique()));
    let sandboxes = opened.await.map_err(|error| Failure::host(&error))?;
    let sandboxes = sandboxes.map_err(failed)?;
    match what {
        NetworkCommand::Ls => list(&sandboxes, print),
        NetworkCommand::Inspect { names } => inspect(&sandboxes, &names, print),
        NetworkCommand::Create {
            name, subnet, bridge, ..
        } => {
            let created = sandboxes.networks().create(&NewNetwork {
                name,
                subnet,
                bridge,
                ..NewNetwork::default()
            });
            let row = row(created.map_err(failed)?, &[]);
            record_event(global, Action::Create, &row.network);
            print.result(&row, || format!("{} {}", row.network, row.subnets.join(" ")));
            Ok(ExitCode::SUCCESS)
        }
        NetworkCommand::Rm { names } => {
            for name in names {
                sandboxes.remove_network(&name).map_err(failed)?;
                record_event(global, Action::Destroy, &name);
                print.result(&serde_json::json!({ "network": name, "removed": true }), || {
                    name.clone()
                });
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Records that something has happened to a network.
fn record_event(global: &Global, action: Action, name: &str) {
    let log = event_log(&home(global).fifo_dir(), &global.namespace);
    // The log itself reports an event that is lost.
    let _ = log.record(Event::new(EventKind::Network, action, name));
}

fn failed(error: Error) -> Failure {
    Failure::network(&error)
}

fn row(known: ConfiguredNetwork, attached: &[Listed]) -> Row {
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
    let head = ["NETWORK", "PLUGINS", "SUBNETS", "ATTACHED", "FILE"];
    line(&fitted(&head, &rows, &["FILE", "PLUGINS", "ATTACHED"], columns()));
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
    use crate::ContainerId;

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
