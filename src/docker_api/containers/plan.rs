//! Translates the body of a create into the engine's plan. Pure: what must be asked of the host is passed in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fnctr_oci::{Capabilities, ContainerConfig, Rlimit, Seccomp, SecurityContext};

use super::body::{Body, Config, HostConfig, Ulimit};
use super::{mounts, ports, resources, restart_policy, running};
use crate::docker_api::refused::Refused;
use crate::docker_syntax;
use crate::engine::{Network, Plan, Reference, label};
use crate::{ContainerId, ContainerName};

/// How many digits of an id are the hostname of its container.
const HOSTNAME: usize = 12;

/// What a plan depends on beside the body.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) id: ContainerId,
    pub(super) name: ContainerName,
    /// How many CPUs the host has.
    pub(super) cpus: usize,
    /// The container that `container:NAME` refers to, if it does and there is one.
    pub(super) joined: Option<ContainerId>,
    /// The containers that lend it what they mount.
    pub(super) lent: Vec<mounts::Lent>,
}

/// Decides everything about a container.
pub(super) fn plan(body: &Body, image: Reference, around: Around) -> Result<Plan, Refused> {
    let Body {
        config: asked,
        host_config: host,
        ..
    } = body;
    if !asked.stop_signal.is_empty() {
        running::signal(&asked.stop_signal)?;
    }
    let network = network(body, &around)?;
    let hostname = hostname(asked, host, &around.id, &network)?;
    let storage = mounts::of(host, &around.lent)?;
    let aliases = aliases(body, &network)?;
    let environment = Environment::of(&asked.env)?;
    let config = ContainerConfig {
        entrypoint: asked.entrypoint.as_deref().map(entrypoint),
        command: asked.cmd.clone().filter(|words| !words.is_empty()),
        env: environment.set,
        env_removed: environment.removed,
        cwd: working_dir(&asked.working_dir)?,
        user: Some(asked.user.clone()).filter(|user| !user.is_empty()),
        additional_groups: host.group_add.clone(),
        hostname,
        terminal: asked.tty,
        console_size: host.console_size,
        readonly_rootfs: host.readonly_rootfs,
        mounts: storage.mounts,
        resources: resources::of(host, around.cpus)?,
        rlimits: host.ulimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        security: security(host)?,
        oom_score_adj: oom_score_adj(host.oom_score_adj)?,
        sysctls: host.sysctls.clone(),
        annotations: host.annotations.clone(),
        ..ContainerConfig::default()
    };
    Ok(Plan {
        id: around.id,
        name: Some(around.name),
        image,
        config,
        network,
        init: host.init.unwrap_or_default(),
        aliases,
        labels: labels(&asked.labels)?,
        fs_size: fs_size(&host.storage_opt)?,
        volumes: storage.volumes,
        writable: Vec::new(),
        hosts: hosts(&host.extra_hosts)?,
        custody: None,
        is_kept: true,
        // As in Docker.
        is_checked_at_start: true,
        log: None,
        health: None,
        restart: restart_policy::of(&host.restart_policy, host.auto_remove)?,
        front: None,
    })
}

/// One empty word takes the image's entrypoint away.
fn entrypoint(words: &[String]) -> Vec<String> {
    match words {
        [only] if only.is_empty() => Vec::new(),
        words => words.to_vec(),
    }
}

/// What a client asks of the environment.
#[derive(Debug, Default)]
struct Environment {
    set: Vec<(String, String)>,
    removed: Vec<String>,
}

impl Environment {
    /// A name with a value sets a variable, and the last one counts. A name alone takes a variable away that the body does
    /// not set: the image's, or one that every container has.
    fn of(lines: &[String]) -> Result<Self, Refused> {
        let mut this = Self::default();
        for line in lines {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() {
                return Err(Refused::bad(format!("invalid environment variable: {line}")));
            }
            match line.split_once('=') {
                Some((name, value)) => this.set.push((name.to_owned(), value.to_owned())),
                None => this.removed.push(name.to_owned()),
            }
        }
        Ok(this)
    }
}

fn working_dir(dir: &str) -> Result<Option<String>, Refused> {
    match dir {
        "" => Ok(None),
        dir if dir.starts_with('/') => Ok(Some(dir.to_owned())),
        dir => Err(Refused::bad(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        ))),
    }
}

fn hostname(
    asked: &Config,
    host: &HostConfig,
    id: &ContainerId,
    network: &Network,
) -> Result<Option<String>, Refused> {
    let joins = host.network_mode.starts_with("container:");
    if joins && !asked.hostname.is_empty() {
        return Err(Refused::bad("conflicting options: hostname and the network mode"));
    }
    Ok(match (asked.hostname.as_str(), network) {
        ("", Network::Host | Network::Of(_)) => None,
        ("", _) => Some(id.as_str().chars().take(HOSTNAME).collect()),
        (given, _) => Some(given.to_owned()),
    })
}

fn network(body: &Body, around: &Around) -> Result<Network, Refused> {
    let host = &body.host_config;
    let ports = ports::of(&host.port_bindings)?;
    if body.config.network_disabled {
        return Ok(Network::None);
    }
    let of_endpoint = body.endpoint.as_deref().unwrap_or_default();
    let mode = match host.network_mode.as_str() {
        "" => of_endpoint,
        mode => mode,
    };
    if let Some(given) = mode.strip_prefix("container:") {
        if host.publish_all_ports || !ports.is_empty() {
            return Err(Refused::bad(
                "conflicting options: port publishing and the container type network mode",
            ));
        }
        let joined = around.joined.clone();
        return joined
            .map(Network::Of)
            .ok_or_else(|| Refused::no_container(given));
    }
    Ok(match mode {
        "none" => Network::None,
        "host" => Network::Host,
        "" | "default" | "bridge" => Network::Attached {
            networks: Vec::new(),
            ports,
            pooled: true,
        },
        named => Network::Attached {
            networks: vec![named.to_owned()],
            ports,
            pooled: false,
        },
    })
}

/// The names of a container on a network that a client has made. Those on the default one have none, as in Docker.
fn aliases(body: &Body, network: &Network) -> Result<Option<Vec<String>>, Refused> {
    match network {
        Network::Attached { networks, .. } if !networks.is_empty() => Ok(Some(body.aliases.clone())),
        _ if body.aliases.is_empty() => Ok(None),
        _ => Err(Refused::bad(
            "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped alias is supported only for \
             containers in user defined networks",
        )),
    }
}

fn rlimit(limit: &Ulimit) -> Result<Rlimit, Refused> {
    let Ulimit { name, soft, hard } = limit;
    docker_syntax::ulimit(&format!("{name}={soft}:{hard}"))
        .map_err(|why| Refused::bad(format!("HostConfig.Ulimits: {why}")))
}

fn security(host: &HostConfig) -> Result<SecurityContext, Refused> {
    let capabilities = Capabilities::docker_with(&host.cap_add, &host.cap_drop).map_err(|_| {
        let is_known = |name: &&String| Capabilities::docker_with(std::slice::from_ref(*name), &[]).is_ok();
        let named = |list: &[String]| list.iter().find(|name| !is_known(name)).cloned();
        let (field, name) = match named(&host.cap_add) {
            Some(name) => ("CapAdd", name),
            None => ("CapDrop", named(&host.cap_drop).unwrap_or_default()),
        };
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Refused::bad(format!("invalid {field}: unknown capability: \"CAP_{bare}\""))
    })?;
    let mut security = SecurityContext {
        capabilities,
        no_new_privileges: false,
        ..SecurityContext::default()
    };
    for option in &host.security_opt {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
            ("seccomp" | "apparmor" | "label" | "systempaths" | "writable-cgroups", _) => {
                return Err(Refused::bad(format!(
                    "HostConfig.SecurityOpt {option:?} is not served by fnctr; there are no-new-privileges and seccomp=unconfined"
                )));
            }
            _ => {
                return Err(Refused::failed(format!("invalid --security-opt 1: \"{option}\"")));
            }
        }
    }
    Ok(security)
}

fn oom_score_adj(value: i64) -> Result<Option<i32>, Refused> {
    match value {
        0 => Ok(None),
        -1000..=1000 => Ok(i32::try_from(value).ok()),
        _ => Err(Refused::bad(format!(
            "Invalid value {value}, range for oom score adj is [-1000, 1000]"
        ))),
    }
}

fn labels(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refused> {
    match given.keys().find(|name| name.starts_with(label::OWN)) {
        Some(name) => Err(Refused::bad(format!(
            "Labels: {name:?} begins with {:?}, and such labels are fnctr's own",
            label::OWN
        ))),
        None => Ok(given.clone()),
    }
}

fn fs_size(options: &BTreeMap<String, String>) -> Result<Option<u64>, Refused> {
    let Some((name, value)) = options.iter().next() else {
        return Ok(None);
    };
    let size = value
        .parse::<crate::ByteSize>()
        .map_err(|error| Refused::bad(format!("HostConfig.StorageOpt: invalid size {value:?}: {error}")));
    match name.as_str() {
        "size" if options.len() == 1 => size.map(|size| Some(size.0)),
        _ => Err(Refused::bad(format!(
            "HostConfig.StorageOpt: unknown option {name}; there is size"
        ))),
    }
}

/// `NAME:ADDRESS`, or with `=`.
fn hosts(given: &[String]) -> Result<Vec<(String, IpAddr)>, Refused> {
    let each = given.iter().map(|line| {
        let bad = || Refused::bad(format!("bad format for add-host: \"{line}\""));
        let (name, address) = line.split_once([':', '=']).ok_or_else(bad)?;
        if name.is_empty() {
            return Err(bad());
        }
        if address == "host-gateway" {
            return Err(Refused::bad(
                "HostConfig.ExtraHosts: host-gateway is not served by fnctr; give an address",
            ));
        }
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let address = bare
            .parse()
            .map_err(|_| Refused::bad(format!("invalid IP address in add-host: \"{address}\"")))?;
        Ok((name.to_owned(), address))
    });
    each.collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
