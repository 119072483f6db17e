//! Translates one task and the driver's configuration into an engine plan, which contains every decision about the
//! container.
//!
//! Pure, except for warnings about values that the contract requires to be ignored. Go's "0 means unlimited" and "empty
//! means unset" end here; the engine never sees the task.

use std::collections::BTreeMap;

use fnctr_oci::{
    Capabilities, ContainerConfig, Mount, Resources, Rlimit, RlimitKind, Seccomp, SecurityContext,
    TmpfsAccess,
};

use crate::ContainerId;
use crate::driver::{Config, ContainerTask, Error, ErrorKind, label, notation};
use crate::engine::{Network, Plan, RestartPolicy};
use crate::image::Reference;

/// The user of functions that do not get the image's user.
const UNPRIVILEGED: &str = "1000:1000";

/// The directory of the function's socket cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("the directory of the function's socket is set, but not where to mount it in the container")]
struct NoUdsDestination;

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidTask, error)
}

/// Decides everything about the container of `task`.
pub(super) fn plan(task: &dyn ContainerTask, config: &Config) -> Result<Plan, Error> {
    let id = ContainerId::new(task.id())?;
    let image = Reference::parse(task.image()).map_err(invalid)?;
    let command: Vec<String> = task.command().split_whitespace().map(str::to_owned).collect();
    let network = network(task, config);
    let uds = task.uds_docker_path();
    let container = ContainerConfig {
        command: (!command.is_empty()).then_some(command),
        env: task.env_vars().into_iter().collect(),
        cwd: task.work_dir().filter(|dir| !dir.is_empty()).map(str::to_owned),
        user: (!config.disable_unprivileged_containers).then(|| UNPRIVILEGED.to_owned()),
        hostname: (network != Network::Host).then(|| hostname(&id)),
        readonly_rootfs: config.enable_readonly_rootfs,
        mounts: mounts(task, config)?,
        resources: Resources {
            memory: limited(task.memory()),
            milli_cpus: limited(task.cpus()),
            pids: limited(task.pids()),
            // The contract has no fields for the others; a host sets them through the container's options.
            ..Resources::default()
        },
        rlimits: rlimits(task),
        security: security(config),
        ..ContainerConfig::default()
    };
    Ok(Plan {
        id,
        image,
        config: container,
        network,
        init: true,
        labels: labels(config),
        fs_size: limited(task.fs_size()).map(|mb| mb.saturating_mul(1 << 20)),
        volumes: Vec::new(),
        writable: uds.into_iter().collect(),
        hosts: Vec::new(),
        custody: None,
        name: None,
        is_kept: false,
        is_checked_at_start: false,
        log: None,
        restart: RestartPolicy::No,
        aliases: None,
        health: None,
        front: None,
    })
}

/// A container with its own network has its own name as hostname, not the host's; Docker uses the short form of the id.
fn hostname(id: &ContainerId) -> String {
    let name: String = id
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    name.trim_end_matches('-').to_owned()
}

fn limited(n: u64) -> Option<u64> {
    (n != 0).then_some(n)
}

fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if !config.container_label_tag.is_empty() {
        labels.insert(label::CLASSIFIER.to_owned(), config.container_label_tag.clone());
    }
    if !config.instance_id.is_empty() {
        labels.insert(label::INSTANCE.to_owned(), config.instance_id.clone());
    }
    labels
}

fn security(config: &Config) -> SecurityContext {
    let trusted = config.disable_unprivileged_containers;
    SecurityContext {
        capabilities: if trusted {
            Capabilities::Docker
        } else {
            Capabilities::None
        },
        no_new_privileges: !trusted,
        seccomp: Seccomp::Default,
        ..SecurityContext::default()
    }
}

fn rlimits(task: &dyn ContainerTask) -> Vec<Rlimit> {
    let asked = [
        ("open_files", RlimitKind::OpenFiles, task.open_files()),
        ("locked_memory", RlimitKind::LockedMemory, task.locked_memory()),
        (
            "pending_signals",
            RlimitKind::PendingSignals,
            task.pending_signals(),
        ),
        ("message_queue", RlimitKind::MessageQueue, task.message_queue()),
    ];
    let mut rlimits = Vec::new();
    for (name, kind, value) in asked {
        let Some(value) = value else { continue };
        if i64::try_from(value).is_err() {
            tracing::warn!(
                id = task.id(),
                name,
                value,
                "a limit beyond the range of a signed number is ignored"
            );
            continue;
        }
        rlimits.push(Rlimit {
            kind,
            soft: value,
            hard: value,
        });
    }
    rlimits
}

fn mounts(task: &dyn ContainerTask, config: &Config) -> Result<Vec<Mount>, Error> {
    let mut mounts = Vec::new();
    let size = limited(task.tmpfs_size()).map(|mb| mb.saturating_mul(1 << 20));
    if size.is_some() || config.enable_readonly_rootfs {
        let inodes = limited(config.max_tmpfs_inodes);
        mounts.push(Mount::Tmpfs {
            destination: "/tmp".into(),
            size,
            inodes,
            access: TmpfsAccess::default(),
        });
    }
    for (source, destination) in task.volumes() {
        let (destination, readonly) = notation::volume(destination).map_err(invalid)?;
        mounts.push(Mount::Bind {
            source,
            destination: destination.into(),
            readonly,
        });
    }
    if let Some(source) = task.uds_docker_path() {
        let destination = task
            .uds_docker_dest()
            .filter(|dest| !dest.is_empty())
            .ok_or_else(|| invalid(NoUdsDestination))?;
        mounts.push(Mount::Bind {
            source,
            destination: destination.into(),
            readonly: false,
        });
    }
    Ok(mounts)
}

/// No network or the host's if the task or the configuration requires it, else one of the configured networks or the
/// default, from the pool if there is one.
fn network(task: &dyn ContainerTask, config: &Config) -> Network {
    if task.disable_net() {
        return Network::None;
    }
    let networks: Vec<String> = config
        .docker_networks
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    // `none` and `host` cost nothing and never fill up, so there is nothing to choose.
    match networks.first().map(String::as_str) {
        Some("none") => Network::None,
        Some("host") => Network::Host,
        _ => Network::Attached {
            networks,
            ports: Vec::new(),
            pooled: config.pre_fork_pool_size != 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Task;

    fn task() -> Task {
        Task {
            id: "c1".into(),
            image: "busybox".into(),
            disable_net: true,
            ..Task::default()
        }
    }

    fn planned(task: Task, config: &Config) -> Plan {
        plan(&task, config).unwrap()
    }

    #[test]
    fn nothing_set_is_nothing_asked_for_and_the_least_privilege() {
        let plan = planned(task(), &Config::default());
        assert_eq!(plan.config.resources, Resources::default());
        assert_eq!(plan.config.user.as_deref(), Some("1000:1000"));
        assert_eq!(plan.config.security, SecurityContext::default());
        assert_eq!(plan.network, Network::None);
        assert!(plan.init && plan.labels.is_empty() && plan.config.mounts.is_empty());
        assert!(plan.fs_size.is_none() && plan.config.command.is_none());
        assert_eq!(plan.config.hostname.as_deref(), Some("c1"));
    }

    #[test]
    fn every_limit_of_the_task_arrives() {
        let full = Task {
            command: " sh  /run.sh ".into(),
            memory: 64 << 20,
            cpus: 1500,
            pids: 10,
            fs_size: 5,
            open_files: Some(100),
            locked_memory: Some(u64::MAX),
            pending_signals: Some(7),
            message_queue: Some(0),
            work_dir: Some("/work".into()),
            ..task()
        };
        let plan = planned(full, &Config::default());
        assert_eq!(
            plan.config.command,
            Some(vec!["sh".to_owned(), "/run.sh".to_owned()])
        );
        let resources = Resources {
            memory: Some(64 << 20),
            milli_cpus: Some(1500),
            pids: Some(10),
            ..Resources::default()
        };
        assert_eq!(plan.config.resources, resources);
        assert_eq!(plan.fs_size, Some(5 << 20));
        assert_eq!(plan.config.cwd.as_deref(), Some("/work"));
        let kinds: Vec<_> = plan
            .config
            .rlimits
            .iter()
            .map(|limit| (limit.kind, limit.soft))
            .collect();
        // A value above i64::MAX is ignored; 0 is a limit.
        let expected = [
            (RlimitKind::OpenFiles, 100),
            (RlimitKind::PendingSignals, 7),
            (RlimitKind::MessageQueue, 0),
        ];
        assert_eq!(kinds, expected);
        assert!(plan.config.rlimits.iter().all(|limit| limit.soft == limit.hard));
    }

    #[test]
    fn tmp_is_a_tmpfs_when_it_has_a_size_or_the_root_is_read_only() {
        let tmp = |size_mb: Option<u64>, inodes| Mount::Tmpfs {
            destination: "/tmp".into(),
            size: size_mb.map(|mb| mb << 20),
            inodes,
            access: TmpfsAccess::default(),
        };
        let sized = Task {
            tmpfs_size: 16,
            ..task()
        };
        assert_eq!(
            planned(sized, &Config::default()).config.mounts,
            [tmp(Some(16), None)]
        );
        let config = Config {
            enable_readonly_rootfs: true,
            max_tmpfs_inodes: 9,
            ..Config::default()
        };
        let plan = planned(task(), &config);
        assert_eq!(plan.config.mounts, [tmp(None, Some(9))]);
        assert!(plan.config.readonly_rootfs);
        let config = Config {
            max_tmpfs_inodes: 9,
            ..Config::default()
        };
        assert!(planned(task(), &config).config.mounts.is_empty());
    }

    #[test]
    fn the_socket_s_directory_is_mounted_and_must_be_writable() {
        let uds = Task {
            uds_docker_path: Some("/run/fn/1".into()),
            uds_docker_dest: Some("/tmp/iofs".into()),
            volumes: vec![("/data".into(), "/mnt".into())],
            ..task()
        };
        let plan = planned(uds, &Config::default());
        let bind = |source: &str, dest: &str| Mount::Bind {
            source: source.into(),
            destination: dest.into(),
            readonly: false,
        };
        assert_eq!(
            plan.config.mounts,
            [bind("/data", "/mnt"), bind("/run/fn/1", "/tmp/iofs")]
        );
        assert_eq!(plan.writable, [std::path::PathBuf::from("/run/fn/1")]);
        let half = Task {
            uds_docker_path: Some("/run/fn/1".into()),
            ..task()
        };
        assert_eq!(
            super::plan(&half, &Config::default()).unwrap_err().kind(),
            ErrorKind::InvalidTask
        );
    }

    #[test]
    fn a_volume_may_say_that_it_is_read_only_and_nothing_else() {
        let mounted = |destination: &str| {
            let task = Task {
                volumes: vec![("/host".into(), destination.into())],
                ..task()
            };
            let mounts = plan(&task, &Config::default())?.config.mounts;
            Ok::<_, Error>(mounts)
        };
        let bind = |destination: &str, readonly| Mount::Bind {
            source: "/host".into(),
            destination: destination.into(),
            readonly,
        };
        assert_eq!(mounted("/v").unwrap(), [bind("/v", false)]);
        assert_eq!(mounted("/v:rw").unwrap(), [bind("/v", false)]);
        assert_eq!(mounted("/v:ro").unwrap(), [bind("/v", true)]);
        for (bad, mode) in [
            ("/v:z", "z"),
            ("/v:ro,Z", "ro,Z"),
            ("/v:", ""),
            ("/v:ro:rw", "ro:rw"),
            ("/a:/b", "/b"),
        ] {
            let error = mounted(bad).unwrap_err();
            let text = error.report();
            assert_eq!(error.kind(), ErrorKind::InvalidTask, "{text}");
            assert!(
                text.contains(bad) && text.contains(&format!("{mode:?}")),
                "{text}"
            );
        }
        for bad in ["", "v", "v:ro", ":ro"] {
            let error = mounted(bad).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidTask,
                "{bad:?}: {}",
                error.report()
            );
        }
    }

    #[test]
    fn labels_of_the_contract_are_on_every_container_of_a_tagged_host() {
        let config = Config {
            container_label_tag: "tag".into(),
            instance_id: "i-1".into(),
            ..Config::default()
        };
        let labels = planned(task(), &config).labels;
        assert_eq!(labels["fn-agent-classifier"], "tag");
        assert_eq!(labels["fn-agent-instance"], "i-1");
    }

    #[test]
    fn trusted_containers_keep_the_image_s_user_and_docker_s_capabilities() {
        let config = Config {
            disable_unprivileged_containers: true,
            ..Config::default()
        };
        let plan = planned(task(), &config);
        assert_eq!(plan.config.user, None);
        assert_eq!(plan.config.security.capabilities, Capabilities::Docker);
        assert!(!plan.config.security.no_new_privileges);
    }

    #[test]
    fn a_task_that_wants_a_network_gets_the_pool_s_a_listed_one_or_the_default() {
        let wants = || Task {
            disable_net: false,
            ..task()
        };
        let config = |list: &str, pool| Config {
            docker_networks: list.into(),
            pre_fork_pool_size: pool,
            ..Config::default()
        };
        let planned = |task, config: Config| planned(task, &config).network;
        let attached = |networks: &[&str], pooled| {
            let networks = networks.iter().map(ToString::to_string).collect();
            let ports = Vec::new();
            Network::Attached {
                networks,
                ports,
                pooled,
            }
        };
        assert_eq!(planned(wants(), config("", 0)), attached(&[], false));
        assert_eq!(planned(wants(), config(" a  b", 0)), attached(&["a", "b"], false));
        assert_eq!(planned(wants(), config("a", 3)), attached(&["a"], true));
        assert_eq!(planned(wants(), config(" host none", 3)), Network::Host);
        assert_eq!(planned(wants(), config("none", 0)), Network::None);
        assert_eq!(planned(task(), config("a", 3)), Network::None);
    }

    #[test]
    fn bad_names_are_refused_by_name() {
        let bad_id = Task {
            id: "a/b".into(),
            ..task()
        };
        assert!(
            plan(&bad_id, &Config::default())
                .unwrap_err()
                .report()
                .contains("a/b")
        );
        let bad_image = Task {
            image: "UPPER".into(),
            ..task()
        };
        assert!(
            plan(&bad_image, &Config::default())
                .unwrap_err()
                .report()
                .contains("UPPER")
        );
    }
}
