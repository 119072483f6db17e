//! The body of a create, as far as it is served. Reading it checks types; what the values mean is [`super::plan`]'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::unsupported::{self, is_nothing};
use crate::docker_api::json::Object;
use crate::docker_api::refused::Refused;
use crate::docker_api::terminal;

/// What a client asks for. The names are Docker's, also where it is stored and shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Body {
    pub(super) config: Config,
    pub(super) host_config: HostConfig,
    /// The only network of `NetworkingConfig`, if it names one.
    pub(super) endpoint: Option<String>,
    /// The container's names there beside its own.
    pub(super) aliases: Vec<String>,
}

/// The part of a container that does not depend on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) hostname: String,
    pub(super) user: String,
    pub(super) attach_stdin: bool,
    pub(super) attach_stdout: bool,
    pub(super) attach_stderr: bool,
    pub(super) open_stdin: bool,
    pub(super) stdin_once: bool,
    pub(super) tty: bool,
    pub(super) env: Vec<String>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) image: String,
    pub(super) working_dir: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) exposed_ports: Vec<String>,
    pub(super) volumes: Vec<String>,
    pub(super) stop_signal: String,
    pub(super) stop_timeout: Option<i64>,
    pub(super) healthcheck: Option<HealthBody>,
    pub(super) network_disabled: bool,
}

/// How the health of the container is checked. Times are in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HealthBody {
    pub(super) test: Vec<String>,
    pub(super) interval: i64,
    pub(super) timeout: i64,
    pub(super) start_period: i64,
    pub(super) start_interval: i64,
    pub(super) retries: i64,
}

/// The part that depends on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) binds: Vec<String>,
    pub(super) mounts: Vec<MountBody>,
    pub(super) volumes_from: Vec<String>,
    pub(super) tmpfs: BTreeMap<String, String>,
    pub(super) log_config: LogConfig,
    pub(super) network_mode: String,
    pub(super) port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub(super) publish_all_ports: bool,
    pub(super) auto_remove: bool,
    pub(super) restart_policy: RestartBody,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) security_opt: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) group_add: Vec<String>,
    pub(super) oom_score_adj: i64,
    pub(super) readonly_rootfs: bool,
    pub(super) memory: i64,
    pub(super) memory_swap: i64,
    pub(super) memory_swappiness: Option<i64>,
    pub(super) memory_reservation: i64,
    pub(super) nano_cpus: i64,
    pub(super) cpu_period: i64,
    pub(super) cpu_quota: i64,
    pub(super) cpu_shares: i64,
    pub(super) cpuset_cpus: String,
    pub(super) cpuset_mems: String,
    pub(super) pids_limit: Option<i64>,
    pub(super) ulimits: Vec<Ulimit>,
    pub(super) init: Option<bool>,
    pub(super) storage_opt: BTreeMap<String, String>,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// Height and width.
    pub(super) console_size: Option<(u16, u16)>,
}

/// Where the output goes beside those who attach.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct LogConfig {
    #[serde(rename = "Type")]
    pub(super) driver: String,
    #[serde(rename = "Config")]
    pub(super) options: BTreeMap<String, String>,
}

/// When a container is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RestartBody {
    pub(super) name: String,
    pub(super) maximum_retry_count: i64,
}

/// A port of the host that leads to one of the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PortBinding {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Ulimit {
    pub(super) name: String,
    pub(super) soft: i64,
    pub(super) hard: i64,
}

/// A mount in the long form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct MountBody {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    /// Whether the source is made if it is missing.
    pub(super) is_made: bool,
    pub(super) tmpfs_size: i64,
    pub(super) tmpfs_mode: Option<i64>,
    /// Whether a volume without files stays so.
    pub(super) is_not_filled: bool,
    /// What a volume has that is made for the mount.
    pub(super) volume_labels: BTreeMap<String, String>,
    pub(super) volume_driver: String,
    pub(super) volume_options: BTreeMap<String, String>,
}

impl Body {
    /// Reads a body.
    ///
    /// # Errors
    /// Status 400 for a value of a wrong type, and for an option that is not served.
    pub(super) fn read(given: &Object) -> Result<Self, Refused> {
        if given.is_empty() {
            return Err(Refused::bad(
                "config cannot be empty in order to create a container",
            ));
        }
        let host = given.object("HostConfig")?.unwrap_or_default();
        unsupported::check(given, &host)?;
        let (endpoint, aliases) = endpoint(given)?.unzip();
        let aliases = aliases.unwrap_or_default();
        Ok(Self {
            config: config(given)?,
            host_config: host_config(&host)?,
            endpoint,
            aliases,
        })
    }
}

fn config(given: &Object) -> Result<Config, Refused> {
    Ok(Config {
        hostname: given.text("Hostname")?,
        user: given.text("User")?,
        attach_stdin: given.flag("AttachStdin")?,
        attach_stdout: given.flag("AttachStdout")?,
        attach_stderr: given.flag("AttachStderr")?,
        open_stdin: given.flag("OpenStdin")?,
        stdin_once: given.flag("StdinOnce")?,
        tty: given.flag("Tty")?,
        env: given.texts("Env")?.unwrap_or_default(),
        cmd: given.words("Cmd")?,
        entrypoint: given.words("Entrypoint")?,
        image: given.text("Image")?,
        working_dir: given.text("WorkingDir")?,
        labels: given.map("Labels")?,
        exposed_ports: keys(given, "ExposedPorts")?,
        volumes: keys(given, "Volumes")?,
        stop_signal: given.text("StopSignal")?,
        stop_timeout: given.integer_if_given("StopTimeout")?,
        healthcheck: given.object("Healthcheck")?.as_ref().map(health).transpose()?,
        network_disabled: given.flag("NetworkDisabled")?,
    })
}

fn host_config(host: &Object) -> Result<HostConfig, Refused> {
    let log = host.object("LogConfig")?.unwrap_or_default();
    Ok(HostConfig {
        binds: host.texts("Binds")?.unwrap_or_default(),
        volumes_from: host.texts("VolumesFrom")?.unwrap_or_default(),
        mounts: host
            .objects("Mounts")?
            .iter()
            .map(mount)
            .collect::<Result<_, _>>()?,
        tmpfs: host.map("Tmpfs")?,
        log_config: LogConfig {
            driver: log.text("Type")?,
            options: log.map("Config")?,
        },
        network_mode: host.text("NetworkMode")?,
        port_bindings: port_bindings(host)?,
        publish_all_ports: host.flag("PublishAllPorts")?,
        auto_remove: host.flag("AutoRemove")?,
        restart_policy: restart_policy(host)?,
        cap_add: host.words("CapAdd")?.unwrap_or_default(),
        cap_drop: host.words("CapDrop")?.unwrap_or_default(),
        security_opt: host.texts("SecurityOpt")?.unwrap_or_default(),
        extra_hosts: host.texts("ExtraHosts")?.unwrap_or_default(),
        group_add: host.texts("GroupAdd")?.unwrap_or_default(),
        oom_score_adj: host.integer("OomScoreAdj")?,
        readonly_rootfs: host.flag("ReadonlyRootfs")?,
        memory: host.integer("Memory")?,
        memory_swap: host.integer("MemorySwap")?,
        memory_swappiness: host.integer_if_given("MemorySwappiness")?,
        memory_reservation: host.integer("MemoryReservation")?,
        nano_cpus: host.integer("NanoCpus")?,
        cpu_period: host.integer("CpuPeriod")?,
        cpu_quota: host.integer("CpuQuota")?,
        cpu_shares: host.integer("CpuShares")?,
        cpuset_cpus: host.text("CpusetCpus")?,
        cpuset_mems: host.text("CpusetMems")?,
        pids_limit: host.integer_if_given("PidsLimit")?,
        ulimits: host
            .objects("Ulimits")?
            .iter()
            .map(ulimit)
            .collect::<Result<_, _>>()?,
        init: host.flag_if_given("Init")?,
        storage_opt: host.map("StorageOpt")?,
        sysctls: host.map("Sysctls")?,
        annotations: host.map("Annotations")?,
        console_size: terminal::console_size(host)?,
    })
}

/// The field `RestartPolicy` of a create or an update.
pub(super) fn restart_policy(given: &Object) -> Result<RestartBody, Refused> {
    let policy = given.object("RestartPolicy")?.unwrap_or_default();
    Ok(RestartBody {
        name: policy.text("Name")?,
        maximum_retry_count: policy.integer("MaximumRetryCount")?,
    })
}

fn health(given: &Object) -> Result<HealthBody, Refused> {
    Ok(HealthBody {
        test: given.texts("Test")?.unwrap_or_default(),
        interval: given.integer("Interval")?,
        timeout: given.integer("Timeout")?,
        start_period: given.integer("StartPeriod")?,
        start_interval: given.integer("StartInterval")?,
        retries: given.integer("Retries")?,
    })
}

fn ulimit(given: &Object) -> Result<Ulimit, Refused> {
    Ok(Ulimit {
        name: given.text("Name")?,
        soft: given.integer("Soft")?,
        hard: given.integer("Hard")?,
    })
}

fn mount(given: &Object) -> Result<MountBody, Refused> {
    let kind = given.text("Type")?;
    for (option, of) in [
        ("BindOptions", "bind"),
        ("VolumeOptions", "volume"),
        ("TmpfsOptions", "tmpfs"),
    ] {
        if kind != of && given.object(option)?.is_some() {
            return Err(Refused::bad(format!(
                "{option} must not be specified on mount type \"{kind}\""
            )));
        }
    }
    let bind = given.object("BindOptions")?.unwrap_or_default();
    let tmpfs = given.object("TmpfsOptions")?.unwrap_or_default();
    let volume = given.object("VolumeOptions")?.unwrap_or_default();
    let driver = volume.object("DriverConfig")?.unwrap_or_default();
    for (name, value) in bind.entries().chain(tmpfs.entries()).chain(volume.entries()) {
        let is_default = name.eq_ignore_ascii_case("Propagation") && *value == "rprivate";
        let is_served = [
            "CreateMountpoint",
            "SizeBytes",
            "Mode",
            "NoCopy",
            "Labels",
            "DriverConfig",
        ]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
        if !is_served && !is_default && !is_nothing(value) {
            return Err(Refused::bad(format!(
                "HostConfig.Mounts: the option {name} of a {kind} mount is not served by fnctr; leave it out"
            )));
        }
    }
    Ok(MountBody {
        source: given.text("Source")?,
        target: given.text("Target")?,
        read_only: given.flag("ReadOnly")?,
        is_made: bind.flag("CreateMountpoint")?,
        tmpfs_size: tmpfs.integer("SizeBytes")?,
        tmpfs_mode: tmpfs.integer_if_given("Mode")?,
        is_not_filled: volume.flag("NoCopy")?,
        volume_labels: volume.map("Labels")?,
        volume_driver: driver.text("Name")?,
        volume_options: driver.map("Options")?,
        kind,
    })
}

fn port_bindings(host: &Object) -> Result<BTreeMap<String, Vec<PortBinding>>, Refused> {
    let given = host.object("PortBindings")?.unwrap_or_default();
    let names: Vec<String> = given.entries().map(|(name, _)| name.clone()).collect();
    let mut all = BTreeMap::new();
    for port in names {
        let bindings = given.objects(&port)?;
        let bindings = bindings.iter().map(|binding| {
            Ok(PortBinding {
                host_ip: binding.text("HostIp")?,
                host_port: binding.text("HostPort")?,
            })
        });
        all.insert(port, bindings.collect::<Result<_, Refused>>()?);
    }
    Ok(all)
}

/// The names of an object that is a set.
fn keys(given: &Object, name: &str) -> Result<Vec<String>, Refused> {
    let set = given.object(name)?.unwrap_or_default();
    Ok(set.entries().map(|(key, _)| key.clone()).collect())
}

/// The network of `NetworkingConfig`, and the names of the container there. The command line always names one, with settings that are all empty.
fn endpoint(given: &Object) -> Result<Option<(String, Vec<String>)>, Refused> {
    let networking = given.object("NetworkingConfig")?.unwrap_or_default();
    let endpoints = networking.object("EndpointsConfig")?.unwrap_or_default();
    let mut named = None;
    for (network, settings) in endpoints.entries() {
        if named.is_some() {
            return Err(Refused::bad(
                "EndpointsConfig: fnctr attaches a container to one network; leave the others out",
            ));
        }
        let settings = endpoints.entry(network, settings)?;
        for (name, value) in settings.entries() {
            // The ids and addresses of an earlier endpoint, which some clients send back.
            let is_told = !["DriverOpts", "IPAMConfig", "Links", "MacAddress"].contains(&name.as_str());
            if !is_told && !is_nothing(value) {
                return Err(Refused::bad(format!(
                    "EndpointsConfig[{network}].{name} is not served by fnctr; leave it out"
                )));
            }
        }
        let aliases = settings.texts("Aliases")?.unwrap_or_default();
        named = Some((network.clone(), aliases));
    }
    Ok(named)
}
