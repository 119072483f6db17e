//! Translates one task and the driver's configuration into the body of a create, which contains every decision about
//! the container except its network and its streams.
//!
//! Pure, except for warnings about values that the contract requires to be ignored. Go's "0 means unlimited" and "empty
//! means unset" end here; the engine never sees a zero.

use std::collections::HashMap;

use super::docker_models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
};
use super::image_name::ImageName;
use super::options::DockerOptions;
use crate::ContainerName;
use crate::driver::{Config, ContainerTask, Error, ErrorKind, label, notation};

/// The user of functions that do not get the image's user.
const UNPRIVILEGED: &str = "1000:1000";
/// The period of a CPU quota in microseconds, and the part of it that is a thousandth of a CPU.
const CPU_PERIOD: i64 = 100_000;
const MILLI_CPU: u64 = 100;

/// Everything that is decided about a container before it exists.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: ContainerName,
    pub(super) image: ImageName,
    pub(super) options: DockerOptions,
    pub(super) network: Wish,
    /// The syslog endpoint, for the error of a start that does not reach it.
    pub(super) syslog: Option<String>,
}

impl Plan {
    /// The container's own memory limit in bytes, also if the host has set it through the options.
    pub(super) fn memory_limit(&self) -> Option<u64> {
        let host = self.options.body.host_config.as_ref()?;
        u64::try_from(host.memory?).ok().filter(|bytes| *bytes != 0)
    }
}

/// The network that a container is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// One that the body names: none at all, or the host's.
    Named,
    /// A prepared one if there is a pool, else the least used of these, else the default.
    Any(Vec<String>),
}

/// The directory of the function's socket cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("the directory of the function's socket is set, but not where to mount it in the container")]
struct NoUdsDestination;

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidTask, error)
}

/// Decides everything about the container of `task`.
pub(super) fn plan(task: &dyn ContainerTask, config: &Config) -> Result<Plan, Error> {
    let name = ContainerName::new(task.id())?;
    let image = ImageName::parse(task.image()).map_err(invalid)?;
    let command: Vec<String> = task.command().split_whitespace().map(str::to_owned).collect();
    let env: Vec<String> = task
        .env_vars()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let log = task.logger_config();
    let syslog = Some(log.url.trim().to_owned()).filter(|url| !url.is_empty());
    let network = network(task, config)?;
    let mut host = host_config(task, config)?;
    host.log_config = Some(log_config(
        syslog.as_deref(),
        notation::log_tag(&log.tags),
        task.id(),
    ));
    host.network_mode = match &network {
        Asked::Mode(mode) => Some((*mode).to_owned()),
        Asked::Any(_) => None,
    };
    let body = ContainerCreateBody {
        image: Some(image.as_given().to_owned()),
        cmd: some(command),
        env: some(env),
        working_dir: task.work_dir().filter(|dir| !dir.is_empty()).map(str::to_owned),
        user: (!config.disable_unprivileged_containers).then(|| UNPRIVILEGED.to_owned()),
        labels: Some(labels(config)).filter(|labels| !labels.is_empty()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    Ok(Plan {
        name,
        image,
        options: DockerOptions { body },
        network: match network {
            Asked::Mode(_) => Wish::Named,
            Asked::Any(networks) => Wish::Any(networks),
        },
        syslog,
    })
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn limited(n: u64) -> Option<i64> {
    (n != 0).then(|| i64::try_from(n).unwrap_or(i64::MAX))
}

fn labels(config: &Config) -> HashMap<String, String> {
    let labels = [
        (label::CLASSIFIER, &config.container_label_tag),
        (label::INSTANCE, &config.instance_id),
    ];
    labels
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

fn host_config(task: &dyn ContainerTask, config: &Config) -> Result<HostConfig, Error> {
    let memory = limited(task.memory());
    let quota = limited(task.cpus().saturating_mul(MILLI_CPU));
    let trusted = config.disable_unprivileged_containers;
    Ok(HostConfig {
        memory,
        // The same limit for both means that nothing is swapped; where the kernel counts no swap, swappiness does.
        memory_swap: memory,
        memory_swappiness: memory.map(|_| 0),
        cpu_quota: quota,
        cpu_period: quota.map(|_| CPU_PERIOD),
        pids_limit: limited(task.pids()),
        ulimits: some(ulimits(task)),
        tmpfs: tmpfs(task, config),
        mounts: some(mounts(task)?),
        readonly_rootfs: config.enable_readonly_rootfs.then_some(true),
        storage_opt: limited(task.fs_size()).map(|mb| HashMap::from([("size".to_owned(), format!("{mb}M"))])),
        cap_drop: (!trusted).then(|| vec!["ALL".to_owned()]),
        security_opt: (!trusted).then(|| vec!["no-new-privileges".to_owned()]),
        init: Some(true),
        ..HostConfig::default()
    })
}

fn ulimits(task: &dyn ContainerTask) -> Vec<ResourcesUlimits> {
    let asked = [
        ("nofile", task.open_files()),
        ("memlock", task.locked_memory()),
        ("sigpending", task.pending_signals()),
        ("msgqueue", task.message_queue()),
    ];
    let mut ulimits = Vec::new();
    for (name, value) in asked {
        let Some(value) = value else { continue };
        let Ok(limit) = i64::try_from(value) else {
            tracing::warn!(
                id = task.id(),
                name,
                value,
                "a limit beyond the range of a signed number is ignored"
            );
            continue;
        };
        ulimits.push(ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(limit),
            hard: Some(limit),
        });
    }
    ulimits
}

/// `/tmp` in memory if it has a size, or if nothing else could be written.
fn tmpfs(task: &dyn ContainerTask, config: &Config) -> Option<HashMap<String, String>> {
    let size = limited(task.tmpfs_size());
    if size.is_none() && !config.enable_readonly_rootfs {
        return None;
    }
    // Docker adds rw,nosuid,nodev,noexec.
    let mut options = Vec::new();
    options.extend(size.map(|mb| format!("size={mb}m")));
    options.extend(limited(config.max_tmpfs_inodes).map(|inodes| format!("nr_inodes={inodes}")));
    options.push("mode=1777".to_owned());
    Some(HashMap::from([("/tmp".to_owned(), options.join(","))]))
}

/// The long form of mounts: with the short one, Docker creates sources that do not exist.
fn mounts(task: &dyn ContainerTask) -> Result<Vec<Mount>, Error> {
    let bind = |source: &std::path::Path, target: String, read_only: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target),
        read_only: read_only.then_some(true),
        ..Mount::default()
    };
    let mut mounts = Vec::new();
    for (source, destination) in task.volumes() {
        let (target, read_only) = notation::volume(destination).map_err(invalid)?;
        mounts.push(bind(&source, target, read_only));
    }
    if let Some(source) = task.uds_docker_path() {
        let target = task
            .uds_docker_dest()
            .filter(|dest| !dest.is_empty())
            .ok_or_else(|| invalid(NoUdsDestination))?;
        mounts.push(bind(&source, target, false));
    }
    Ok(mounts)
}

/// RFC 5424 syslog, or no log at all: the output is the host's.
fn log_config(url: Option<&str>, tag: Option<String>, id: &str) -> HostConfigLogConfig {
    let Some(url) = url else {
        return HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        };
    };
    let options = [
        ("syslog-address", url.to_owned()),
        ("syslog-facility", "user".to_owned()),
        ("syslog-format", "rfc5424".to_owned()),
        ("tag", tag.unwrap_or_else(|| id.to_owned())),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value));
    HostConfigLogConfig {
        typ: Some("syslog".to_owned()),
        config: Some(HashMap::from(options)),
    }
}

/// The network that the task and the configuration ask for.
enum Asked {
    Mode(&'static str),
    Any(Vec<String>),
}

fn network(task: &dyn ContainerTask, config: &Config) -> Result<Asked, Error> {
    if task.disable_net() {
        return Ok(Asked::Mode("none"));
    }
    let networks = notation::networks(&config.docker_networks)?;
    // Both cost nothing and never fill up, so there is nothing to choose.
    Ok(match networks.first().map(String::as_str) {
        Some("none") => Asked::Mode("none"),
        Some("host") => Asked::Mode("host"),
        _ => Asked::Any(networks),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
