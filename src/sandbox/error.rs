//! Errors of networks and network namespaces, worded for the person who configured them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Interrupted;

/// Why an operation on networks failed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as sandbox::Error")]
pub(crate) enum Error {
    /// No network of that name is configured.
    #[error("there is no network {name:?}; {}", known_names(.known))]
    NoSuchNetwork { name: String, known: Vec<String> },
    /// The name of a network is not allowed.
    #[error(
        "network name {name:?} is not usable: it must be letters, digits, '-', '_' and '.', and begin with a letter or digit"
    )]
    Name { name: String },
    /// A configuration file is not usable.
    #[error("network configuration {} is broken: {why}", file.display())]
    Config { file: PathBuf, why: String },
    /// The program of a plugin is not installed.
    #[error(
        "network {network} needs the CNI plugin {plugin:?}, which is not in {}; install it (Debian: containernetworking-plugins)",
        places(.dirs)
    )]
    NoPlugin {
        network: String,
        plugin: String,
        dirs: Vec<PathBuf>,
    },
    /// The program of a plugin cannot be run.
    #[error("CNI plugin {plugin:?} of network {network} cannot be run")]
    Spawn {
        network: String,
        plugin: String,
        #[source]
        source: std::io::Error,
    },
    /// A plugin failed; `what` is its own message.
    #[error("CNI plugin {plugin:?} of network {network} failed to {command}: {what}")]
    Plugin {
        network: String,
        plugin: String,
        command: &'static str,
        code: u64,
        what: String,
    },
    /// A plugin did not end in time.
    #[error("CNI plugin {plugin:?} of network {network} did not {command} in {}, and was ended", in_seconds(*.after))]
    Hangs {
        network: String,
        plugin: String,
        command: &'static str,
        after: Duration,
    },
    /// A plugin's answer is not valid.
    #[error("CNI plugin {plugin:?} of network {network} gave no valid answer: {why}")]
    Answer {
        network: String,
        plugin: String,
        why: String,
    },
    /// The kernel refused an operation on a network namespace.
    #[error("network namespace {} cannot be {what}", path.display())]
    Netns {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The journal of attachments cannot be read or written.
    #[error("{} cannot be {what}", path.display())]
    Journal {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// A network of that name exists.
    #[error("network {name} exists already, in {}", file.display())]
    Exists { name: String, file: PathBuf },
    /// A network that fnctr did not configure, and therefore does not remove.
    #[error("network {name} is configured in {}, which fnctr does not change; remove that file yourself", file.display())]
    NotOurs { name: String, file: PathBuf },
    /// A network with containers or other interfaces attached.
    #[error("network {name} is in use by {by}")]
    InUse { name: String, by: String },
    /// A name of a bridge that no interface can have.
    #[error(
        "bridge name {name:?} is not usable: it must be at most 15 letters, digits, '-', '_' and '.', and begin with a letter or \
         digit"
    )]
    Bridge { name: String },
    /// No subnet is free for another network.
    #[error(
        "no subnet is free for a new network: each of {tried} is in use on this host; name one with --subnet"
    )]
    NoSubnet { tried: String },
    /// A subnet that is not usable.
    #[error("subnet {subnet:?} is not usable: {why}")]
    Subnet { subnet: String, why: &'static str },
    /// A new network would have addresses that are in use.
    #[error("subnet {subnet} is not usable: this host uses it, or a part of it, already")]
    Overlap { subnet: String },
    /// The host's address in a new network is not one of the network.
    #[error("gateway {gateway} is not an address of a host in {subnet}")]
    Gateway { gateway: Ipv4Addr, subnet: String },
    /// Another network has the bridge, or the host has an interface of that name.
    #[error("bridge {name} is there already; choose another name for it, or none")]
    BridgeTaken { name: String },
    /// No plugin of the network can publish ports.
    #[error("network {network} cannot publish ports: none of its plugins has the capability portMappings")]
    CannotPublish { network: String },
    /// The port is in use already.
    #[error("port {port} cannot be published: {by} has it")]
    PortTaken { port: String, by: String },
    /// No connection to the port would arrive in the container.
    #[error("port {port} cannot be published on network {network}: {why}")]
    Unpublishable {
        port: String,
        network: String,
        why: String,
    },
    /// The rules for forwarded packets cannot be changed.
    #[error("cannot change the firewall's rules for what is forwarded to network {network}")]
    Forward {
        network: String,
        #[source]
        source: std::io::Error,
    },
    /// Rules of a removed sandbox cannot be removed from the firewall.
    #[error("cannot remove the firewall rules of network namespace {sandbox}")]
    Rules {
        sandbox: String,
        #[source]
        source: std::io::Error,
    },
    /// A plugin outlived the process that ran it, and cannot be ended.
    #[error("cannot end a CNI plugin of network namespace {sandbox} that outlived the process that ran it")]
    Straggler {
        sandbox: String,
        #[source]
        source: std::io::Error,
    },
    /// The caller gave up. `Sandboxes::remove` undoes what was begun.
    #[error("interrupted while waiting for the network")]
    Interrupted(#[from] Interrupted),
}

impl Error {
    /// Returns the interruption, if the caller caused the failure by giving up.
    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        match self {
            Self::Interrupted(why) => Some(*why),
            _ => None,
        }
    }

    /// Whether a retry may succeed once another container has left: all addresses are taken, or a plugin reports "try
    /// again later" (CNI code 11).
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Plugin { code: 11, .. } => true,
            // host-local has no code of its own for a full range.
            Self::Plugin { what, .. } => what.contains("no IP addresses available"),
            _ => false,
        }
    }

    /// Whether the request itself is wrong: it names something that does not exist or is not possible.
    pub(crate) fn is_callers(&self) -> bool {
        matches!(
            self,
            Self::NoSuchNetwork { .. }
                | Self::Name { .. }
                | Self::Bridge { .. }
                | Self::Gateway { .. }
                | Self::BridgeTaken { .. }
                | Self::CannotPublish { .. }
                | Self::Unpublishable { .. }
        )
    }

    /// Whether the resource that the caller asks for belongs to another user.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::PortTaken { .. } | Self::Exists { .. } | Self::InUse { .. } | Self::NotOurs { .. }
        )
    }

    /// Whether the host's configuration is the reason.
    pub(crate) fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Config { .. }
                | Self::NoPlugin { .. }
                | Self::NoSubnet { .. }
                | Self::Subnet { .. }
                | Self::Overlap { .. }
        )
    }
}

fn known_names(names: &[String]) -> String {
    if names.is_empty() {
        "no network is configured".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    }
}

fn places(dirs: &[PathBuf]) -> String {
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    if dirs.is_empty() {
        "any directory, because none is configured".to_owned()
    } else {
        dirs.join(" or ")
    }
}

fn in_seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_a_sentence_that_names_what_and_what_to_do() {
        let missing = Error::NoPlugin {
            network: "a".into(),
            plugin: "bridge".into(),
            dirs: vec!["/x".into(), "/y".into()],
        };
        assert_eq!(
            missing.to_string(),
            "network a needs the CNI plugin \"bridge\", which is not in /x or /y; install it (Debian: containernetworking-plugins)"
        );
        let none = Error::NoSuchNetwork {
            name: "b".into(),
            known: vec![],
        };
        assert_eq!(
            none.to_string(),
            "there is no network \"b\"; no network is configured"
        );
        let hangs = Error::Hangs {
            network: "a".into(),
            plugin: "p".into(),
            command: "ADD",
            after: Duration::from_millis(1500),
        };
        assert!(hangs.to_string().contains("did not ADD in 1.5 s"), "{hangs}");
    }

    #[test]
    fn a_full_range_is_busy_and_another_failure_is_not() {
        let failed = |code, what: &str| Error::Plugin {
            network: "a".into(),
            plugin: "bridge".into(),
            command: "ADD",
            code,
            what: what.into(),
        };
        assert!(
            failed(
                999,
                "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.2"
            )
            .is_busy()
        );
        assert!(failed(11, "later").is_busy());
        assert!(!failed(7, "invalid configuration").is_busy());
    }
}
