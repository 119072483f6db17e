//! The arguments of the commands about networks, and the network options of `run`.

use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::sandbox::DEFAULT;
use crate::{ContainerId, PortMapping};

/// The value of `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Choice {
    None,
    Host,
    Of(ContainerId),
    /// The least used of these networks.
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
pub(in crate::cli) struct NetworkArgs {
    /// Network: none (loopback only), host, default, container:ID, or a name; of several names, the one used least
    /// [default: none, or default with --publish]
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(in crate::cli) network: Option<Choice>,
    /// Publish a port of the container on the host
    #[arg(long, short = 'p', value_name = "[IP:]PORT:PORT[/udp]")]
    pub(in crate::cli) publish: Vec<PortMapping>,
}

impl NetworkArgs {
    pub(in crate::cli) fn choice(&self) -> Choice {
        match &self.network {
            Some(choice) => choice.clone(),
            None if self.publish.is_empty() => Choice::None,
            None => Choice::Named(vec![DEFAULT.to_owned()]),
        }
    }

    /// Whether the container has only its own loopback interface.
    pub(in crate::cli) fn is_none(&self) -> bool {
        self.choice() == Choice::None
    }
}

/// What to do about networks.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NetworkCommand {
    /// List networks, with the number of namespaces attached to each
    Ls,
    /// Show a network's configuration and what is attached to it, as JSON
    Inspect {
        /// Its name
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Configure a bridge network
    Create {
        /// Its name
        name: String,
        /// Its addresses, as in 10.20.0.0/16 [default: a part of 10.143.0.0 to 10.174.255.255 that this host does not
        /// use]
        #[arg(long, value_name = "SUBNET")]
        subnet: Option<String>,
        /// The kind of network; there is only one
        #[arg(long, short, value_name = "KIND", default_value = "bridge", value_parser = ["bridge"])]
        driver: String,
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
