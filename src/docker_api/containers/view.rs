//! What a client sees of a container. Pure: everything is passed in.

use std::sync::Arc;

use fnctr_oci::{MASKED_PATHS, Mount, READONLY_PATHS};
use serde_json::{Map, Value, json};

use super::body::HostConfig;
use super::create::network_mode;
use super::front::Front;
use super::state::Shown;
use super::{health, labels, mounts, resources, restart_policy};
use crate::PortMapping;
use crate::docker_api::time::{stamp, unix_seconds};
use crate::docker_api::version::ApiVersion;
use crate::engine::{Health, ListedContainer, Plan, label};

/// How many digits of an id are a name, too.
const SHORT: usize = 12;

/// A container, and what its maker has kept.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) container: ListedContainer,
    /// `None` if it was not made to be kept.
    pub(super) plan: Option<Arc<Plan>>,
    /// `None` if it was not made through this API.
    pub(super) front: Option<Arc<Front>>,
    /// `None` if it does not run, or has no network of its own.
    pub(super) address: Option<Address>,
    /// `None` if it is not checked, or has never run.
    pub(super) health: Option<Health>,
}

/// The address of a container on its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ip: String,
    pub(super) bits: u8,
    pub(super) gateway: String,
    /// The ids of its network and of its place there.
    pub(super) network_id: String,
    pub(super) endpoint_id: String,
    /// The ports of the host that lead to it.
    pub(super) ports: Vec<PortMapping>,
}

impl Seen {
    /// The container's name as Docker shows it.
    pub(super) fn name(&self) -> String {
        let id = self.container.id.as_str();
        format!("/{}", self.container.name.as_deref().unwrap_or(id))
    }

    fn mode(&self) -> String {
        self.plan
            .as_deref()
            .map_or_else(|| "none".to_owned(), network_mode)
    }

    fn image(&self) -> String {
        match &self.front {
            Some(front) => front.body.config.image.clone(),
            None => self.container.image.clone(),
        }
    }

    /// One entry of `/containers/json`.
    pub(super) fn entry(&self, version: ApiVersion) -> Value {
        let container = &self.container;
        let shown = Shown::of(container);
        let mut entry = json!({
            "Id": container.id.as_str(),
            "Names": [self.name()],
            "Image": self.image(),
            "ImageID": self.front.as_ref().map(|front| front.image_id.as_str()).unwrap_or_default(),
            "Command": container.command,
            "Created": container.created_at.map(unix_seconds).unwrap_or_default(),
            "Ports": self.listed_ports(),
            "Labels": labels::shown(&container.labels),
            "State": shown.status,
            "Status": shown.sentence(self.health.as_ref()),
            "HostConfig": { "NetworkMode": self.mode() },
            "NetworkSettings": { "Networks": self.networks() },
            "Mounts": self.mounts(),
        });
        if version >= ApiVersion::new(1, 46)
            && let Some(host) = entry.get_mut("HostConfig").and_then(Value::as_object_mut)
            && let Some(front) = &self.front
            && !front.body.host_config.annotations.is_empty()
        {
            host.insert(
                "Annotations".to_owned(),
                json!(front.body.host_config.annotations),
            );
        }
        entry
    }

    /// The ports of the host that lead to it now.
    fn ports(&self) -> &[PortMapping] {
        self.address.as_ref().map_or(&[], |address| &address.ports)
    }

    /// The ports that it declares, as in `80/tcp`.
    fn exposed(&self) -> impl Iterator<Item = &String> {
        let front = self.front.iter();
        front.flat_map(|front| &front.body.config.exposed_ports)
    }

    fn listed_ports(&self) -> Value {
        let published = self.ports().iter().map(|port| {
            json!({
                "IP": port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
                "PrivatePort": port.container_port,
                "PublicPort": port.host_port,
                "Type": port.protocol.name(),
            })
        });
        let is_published = |number: u16, protocol: &str| {
            let mut ports = self.ports().iter();
            ports.any(|port| port.container_port == number && port.protocol.name() == protocol)
        };
        let others = self
            .exposed()
            .filter(|_| self.address.is_some())
            .filter_map(|port| {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                let number = number.parse().ok()?;
                let is_other = !is_published(number, protocol);
                is_other.then(|| json!({ "PrivatePort": number, "Type": protocol }))
            });
        published.chain(others).collect()
    }

    fn mounts(&self) -> Value {
        let volumes = self.plan.as_ref().map(|plan| plan.volumes.as_slice());
        let volumes = volumes.unwrap_or_default();
        let mounts = self.plan.iter().flat_map(|plan| &plan.config.mounts);
        let binds = mounts.filter_map(|mount| match mount {
            Mount::Bind {
                source,
                destination,
                readonly,
            } => {
                let mode = if *readonly { "ro" } else { "" };
                let mut volumes = volumes.iter();
                let used = volumes.find(|used| used.destination == *destination);
                Some(match used {
                    Some(used) => json!({
                        "Type": "volume", "Name": used.name.as_str(), "Source": source, "Destination": destination,
                        "Driver": "local", "Mode": if mode.is_empty() && !used.is_anonymous() { "z" } else { mode },
                        "RW": !readonly, "Propagation": "",
                    }),
                    None => json!({
                        "Type": "bind", "Source": source, "Destination": destination, "Mode": mode, "RW": !readonly,
                        "Propagation": "rprivate",
                    }),
                })
            }
            Mount::Tmpfs { .. } => None,
        });
        binds.collect()
    }

    fn networks(&self) -> Value {
        let mode = self.mode();
        if mode.starts_with("container:") {
            return json!({});
        }
        let address = self.address.clone().unwrap_or_default();
        let aliases = self.plan.as_ref().and_then(|plan| plan.aliases.as_ref());
        json!({ mode: {
            "IPAMConfig": null, "Links": null, "Aliases": aliases.filter(|aliases| !aliases.is_empty()), "MacAddress": "", "DriverOpts": null, "GwPriority": 0,
            "NetworkID": address.network_id, "EndpointID": address.endpoint_id, "Gateway": address.gateway, "IPAddress": address.ip,
            "IPPrefixLen": address.bits, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "DNSNames": aliases.map(|aliases| self.dns_names(aliases)),
        } })
    }

    /// The names by which others on its network find it.
    fn dns_names(&self, aliases: &[String]) -> Vec<String> {
        let container = &self.container;
        let short = container.id.as_str().chars().take(SHORT).collect();
        let hostname = self.plan.as_ref().and_then(|plan| plan.config.hostname.clone());
        let own = container.name.clone();
        let all = own.into_iter().chain(aliases.iter().cloned()).chain([short]);
        let mut names: Vec<String> = Vec::new();
        for name in all.chain(hostname) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The answer of an inspection.
    pub(super) fn inspection(&self) -> Value {
        let container = &self.container;
        let shown = Shown::of(container);
        let front = self.front.clone().unwrap_or_default();
        let words: Vec<String> = match front
            .entrypoint
            .iter()
            .chain(&front.cmd)
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
        {
            words if words.is_empty() => container.command.split_whitespace().map(str::to_owned).collect(),
            words => words,
        };
        let (path, args) = words
            .split_first()
            .map_or((String::new(), Vec::new()), |(path, args)| {
                (path.clone(), args.to_vec())
            });
        json!({
            "Id": container.id.as_str(),
            "Created": stamp(container.created_at),
            "Path": path,
            "Args": args,
            "State": shown.inspection(container.pid, self.health.as_ref()),
            "Image": front.image_id,
            "ResolvConfPath": "", "HostnamePath": "", "HostsPath": "",
            "LogPath": container.labels.get(label::LOG).map(String::as_str).unwrap_or_default(),
            "Name": self.name(),
            "RestartCount": container.restarts.count, "Driver": "overlayfs", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
            "AppArmorProfile": "", "ExecIDs": null,
            "HostConfig": host_config(&self.limited(&front.body.host_config), &self.mode()),
            "GraphDriver": { "Data": null, "Name": "overlayfs" },
            "Mounts": self.mounts(),
            "Config": self.config(&front),
            "NetworkSettings": self.network_settings(),
        })
    }

    fn config(&self, front: &Front) -> Value {
        let config = &front.body.config;
        let hostname = self.plan.as_ref().and_then(|plan| plan.config.hostname.clone());
        let mut value = json!({
            "Hostname": hostname.unwrap_or_default(), "Domainname": "", "User": front.user,
            "AttachStdin": config.attach_stdin, "AttachStdout": config.attach_stdout, "AttachStderr": config.attach_stderr,
            "Tty": config.tty, "OpenStdin": config.open_stdin, "StdinOnce": config.stdin_once,
            "Env": front.env, "Cmd": front.cmd, "Image": self.image(), "Volumes": null,
            "WorkingDir": front.working_dir, "Entrypoint": front.entrypoint, "OnBuild": null,
            "Labels": labels::shown(&self.container.labels),
        });
        let set = |names: &[String]| -> Value {
            names
                .iter()
                .map(|name| (name.clone(), json!({})))
                .collect::<Map<_, _>>()
                .into()
        };
        if let Some(value) = value.as_object_mut() {
            if !config.exposed_ports.is_empty() {
                value.insert("ExposedPorts".to_owned(), set(&config.exposed_ports));
            }
            if !config.volumes.is_empty() {
                value.insert("Volumes".to_owned(), set(&config.volumes));
            }
            if !config.stop_signal.is_empty() {
                value.insert("StopSignal".to_owned(), json!(config.stop_signal));
            }
            if let Some(check) = &config.healthcheck {
                value.insert("Healthcheck".to_owned(), health::config(check));
            }
            if let Some(timeout) = config.stop_timeout {
                value.insert("StopTimeout".to_owned(), json!(timeout));
            }
        }
        value
    }

    /// What its maker asked for, with the limits that it has now.
    fn limited(&self, host: &HostConfig) -> HostConfig {
        match &self.plan {
            Some(plan) => HostConfig {
                restart_policy: restart_policy::shown(plan.restart),
                ..resources::shown(host, &plan.config.resources)
            },
            None => host.clone(),
        }
    }

    fn network_settings(&self) -> Value {
        let mut ports = Map::new();
        for port in self.exposed() {
            ports.insert(port.clone(), Value::Null);
        }
        for port in self.ports() {
            let name = format!("{}/{}", port.container_port, port.protocol.name());
            let ip = port
                .host_ip
                .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
            let binding = json!({ "HostIp": ip, "HostPort": port.host_port.to_string() });
            match ports.entry(name).or_insert(Value::Null) {
                Value::Array(all) => all.push(binding),
                other => *other = json!([binding]),
            }
        }
        let address = self.address.as_ref();
        let text = |of: fn(&Address) -> &str| address.map(of).unwrap_or_default().to_owned();
        json!({
            "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": ports, "HairpinMode": false,
            "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null, "EndpointID": "", "Gateway": text(|address| &address.gateway),
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": text(|address| &address.ip),
            "IPPrefixLen": address.map(|address| address.bits).unwrap_or_default(), "IPv6Gateway": "", "MacAddress": "",
            "Networks": self.networks(),
        })
    }
}

/// The host's part of a container, with Docker's defaults for everything that is not served.
fn host_config(host: &HostConfig, mode: &str) -> Value {
    let list = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let mut shown = json!({
        "Binds": list(&host.binds), "ContainerIDFile": "",
        "LogConfig": { "Type": log_type(&host.log_config.driver), "Config": host.log_config.options },
        "NetworkMode": mode,
        "PortBindings": if host.port_bindings.is_empty() { Value::Null } else { json!(host.port_bindings) },
        "RestartPolicy": host.restart_policy, "AutoRemove": host.auto_remove, "VolumeDriver": "",
        "VolumesFrom": list(&host.volumes_from), "ConsoleSize": host.console_size.unwrap_or_default(), "CapAdd": list(&host.cap_add), "CapDrop": list(&host.cap_drop),
        "CgroupnsMode": "private", "Dns": null, "DnsOptions": null, "DnsSearch": null,
        "ExtraHosts": list(&host.extra_hosts), "GroupAdd": list(&host.group_add), "IpcMode": "private", "Cgroup": "",
        "Links": null, "OomScoreAdj": host.oom_score_adj, "PidMode": "", "Privileged": false, "PublishAllPorts": host.publish_all_ports,
        "ReadonlyRootfs": host.readonly_rootfs, "SecurityOpt": list(&host.security_opt), "UTSMode": "",
        "UsernsMode": "", "ShmSize": 67_108_864, "Runtime": "runc", "Isolation": "", "CpuShares": host.cpu_shares,
    });
    // Two parts: the macro has a limit.
    let limits = json!({
        "Memory": host.memory, "NanoCpus": host.nano_cpus, "CgroupParent": "", "BlkioWeight": 0,
        "BlkioWeightDevice": null, "BlkioDeviceReadBps": null, "BlkioDeviceWriteBps": null,
        "BlkioDeviceReadIOps": null, "BlkioDeviceWriteIOps": null, "CpuPeriod": host.cpu_period,
        "CpuQuota": host.cpu_quota, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": host.cpuset_cpus,
        "CpusetMems": host.cpuset_mems, "Devices": null, "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": host.memory_reservation,
        "MemorySwap": host.memory_swap, "MemorySwappiness": host.memory_swappiness.filter(|value| *value >= 0),
        "OomKillDisable": false, "PidsLimit": host.pids_limit.filter(|limit| *limit > 0),
        "Ulimits": if host.ulimits.is_empty() { Value::Null } else { json!(host.ulimits) },
        "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
        "MaskedPaths": MASKED_PATHS, "ReadonlyPaths": READONLY_PATHS,
    });
    if let (Some(shown), Value::Object(limits)) = (shown.as_object_mut(), limits) {
        shown.extend(limits);
        let maps = [
            ("Tmpfs", &host.tmpfs),
            ("StorageOpt", &host.storage_opt),
            ("Sysctls", &host.sysctls),
            ("Annotations", &host.annotations),
        ];
        for (name, map) in maps.into_iter().filter(|(_, map)| !map.is_empty()) {
            shown.insert(name.to_owned(), json!(map));
        }
        if !host.mounts.is_empty() {
            shown.insert("Mounts".to_owned(), mounts::shown(&host.mounts));
        }
        if let Some(init) = host.init {
            shown.insert("Init".to_owned(), json!(init));
        }
    }
    shown
}

fn log_type(driver: &str) -> &str {
    if driver.is_empty() { "none" } else { driver }
}
