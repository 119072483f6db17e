//! Checks, before anything is made, that the host and the image can serve a plan. What they cannot serve is refused by
//! name.
//!
//! The runtime would refuse most of it too, but after a snapshot, a record and a shim were made, and with messages
//! about its own internals.

use std::path::{Path, PathBuf};

use fnctr_oci::{ContainerConfig, Mount, NetworkMode, Spec};
use rustix::fs::StatVfsMountFlags;

use super::Deps;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::facts::MAX_LABEL;
use super::placement::Placement;
use super::plan::{Network, Plan};
use super::{disk, limits, mount_points, record, rlimits};
use crate::Context;
use crate::image::{Image, Lookup, NotExecutable, Program};

/// Why this host or this image cannot serve the plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The engine fills in the network, so the given one would be lost.
    #[error(
        "config.network is {network:?}, but the engine fills that in; leave it None and set the network of the options"
    )]
    Network { network: NetworkMode },
    /// containerd accepts no label of this length.
    #[error(
        "label {name:?} takes {length} bytes with its value; containerd takes at most {}",
        MAX_LABEL
    )]
    Label { name: String, length: usize },
    /// The runtime would not find the parameter.
    #[error("this host's kernel has no sysctl {name:?}; leave it out, or load the module that it belongs to")]
    NoSysctl { name: String },
    /// Without CAP_SYS_RESOURCE, a process cannot set a score below its own.
    #[error(
        "oom_score_adj of {wanted} is below containerd's own {least}, for which containerd lacks CAP_SYS_RESOURCE; ask for \
         {least} or more"
    )]
    OomScore { wanted: i32, least: i32 },
    /// The runtime starts the process with /dev/null, which the mount hides.
    #[error(
        "mount source {path:?} cannot be the container's /dev: it has no device \"null\"; mount below /dev instead"
    )]
    NoDevices { path: PathBuf },
    /// The cgroup of this container has processes of another one.
    #[error("its cgroup {cgroup} is in use by another container; choose another name or cgroup parent")]
    CgroupInUse { cgroup: String },
    /// A bind mount without a source.
    #[error("mount source {path:?} cannot be used")]
    Source {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// The function could not write to a directory that it needs.
    #[error("mount source {path:?} is not writable {why}")]
    NotWritable { path: PathBuf, why: String },
    /// The container gets a copy of the `/etc/hosts` of another one.
    #[error(
        "names cannot be added to the /etc/hosts of a container in the network of another one: it gets that container's names"
    )]
    SharedHosts,
    /// A name that would break its line in `/etc/hosts`.
    #[error("{name:?} cannot be a name in /etc/hosts")]
    HostsName { name: String },
    /// There is no such command in the image.
    #[error("command {command:?} was not found in image {image} (searched {searched})")]
    NoCommand {
        command: String,
        image: String,
        searched: String,
    },
    /// The image has the command, but it cannot be executed.
    #[error("command {command:?} in image {image} cannot be executed: {why}")]
    NotExecutable {
        command: String,
        image: String,
        why: NotExecutable,
    },
}

/// Checks everything, and returns the first failure.
pub(super) async fn all(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image, spec: &Spec) -> Result<()> {
    let unfit = |kind, error: Unfit| Error::new(Step::Check, &plan.id, kind, error);
    settings(plan, Path::new("/proc/sys")).map_err(|error| unfit(Kind::InvalidPlan, error))?;
    oom_score(deps, &plan.config).map_err(|error| unfit(Kind::Unsupported, error))?;
    rlimits::check(&deps.host.ceilings, &plan.config.rlimits)
        .map_err(|error| Error::new(Step::Check, &plan.id, Kind::Unsupported, error))?;
    limits::check(deps, &plan.config.resources)
        .map_err(|error| Error::new(Step::Check, &plan.id, Kind::Unsupported, error))?;
    if let Err(taken) = cgroup_is_free(deps, deps.placement(&plan.id).as_ref()) {
        // A container of this name has a cgroup of this name: report the name instead.
        record::check_name(deps, ctx, &plan.id).await?;
        return Err(unfit(Kind::Conflict, taken));
    }
    mounts(plan, spec).map_err(|error| unfit(Kind::InvalidPlan, error))?;
    disk::check(deps, ctx, plan).await?;
    let cwd = spec
        .process()
        .as_ref()
        .map_or_else(|| Path::new("/"), |process| process.cwd());
    mount_points::check(deps, ctx, plan, image, cwd).await?;
    match plan.is_checked_at_start {
        // The runtime looks for it.
        true => Ok(()),
        false => command(deps, ctx, plan, image, spec).await,
    }
}

/// Checks what may have changed since a kept container was made.
pub(super) fn again(deps: &Deps, plan: &Plan, placement: Option<&Placement>, spec: &Spec) -> Result<()> {
    let unfit = |kind, error: Unfit| Error::new(Step::Check, &plan.id, kind, error);
    limits::check(deps, &plan.config.resources)
        .map_err(|error| Error::new(Step::Check, &plan.id, Kind::Unsupported, error))?;
    cgroup_is_free(deps, placement).map_err(|error| unfit(Kind::Conflict, error))?;
    mounts(plan, spec).map_err(|error| unfit(Kind::InvalidPlan, error))
}

/// Refuses settings that no host can serve, and kernel parameters that do not exist below `sysctls`.
fn settings(plan: &Plan, sysctls: &Path) -> Result<(), Unfit> {
    if plan.config.network != NetworkMode::None {
        let network = plan.config.network.clone();
        return Err(Unfit::Network { network });
    }
    if matches!(plan.network, Network::Of(_)) && !plan.hosts.is_empty() {
        return Err(Unfit::SharedHosts);
    }
    let breaks = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    let broken = |name: &&String| name.is_empty() || name.contains(breaks);
    if let Some(name) = plan.hosts.iter().map(|(name, _)| name).find(broken) {
        return Err(Unfit::HostsName { name: name.clone() });
    }
    let labels = plan
        .labels
        .iter()
        .map(|(name, value)| (name, name.len() + value.len()));
    if let Some((name, length)) = labels.clone().find(|(_, length)| *length > MAX_LABEL) {
        // Of a long name, only the beginning is shown.
        let name = name.chars().take(80).collect();
        return Err(Unfit::Label { name, length });
    }
    let unknown = |name: &&String| !sysctls.join(parameter(name)).exists();
    match plan.config.sysctls.keys().find(unknown) {
        Some(name) => Err(Unfit::NoSysctl { name: name.clone() }),
        None => Ok(()),
    }
}

/// The file of a parameter. A parameter of a single interface is checked for `default`, which every network namespace
/// has.
fn parameter(name: &str) -> PathBuf {
    let mut parts: Vec<&str> = name.split('.').collect();
    if let ["net", _, "conf" | "neigh", interface, _] = parts.as_mut_slice() {
        *interface = "default";
    }
    parts.iter().collect()
}

fn oom_score(deps: &Deps, config: &ContainerConfig) -> Result<(), Unfit> {
    let least = deps.host.oom_score_adj;
    match config.oom_score_adj {
        Some(wanted) if wanted < least && !deps.host.ceilings.may_raise => {
            Err(Unfit::OomScore { wanted, least })
        }
        _ => Ok(()),
    }
}

/// Two containers in one cgroup would share limits, and be frozen and killed together. A name is unique in its
/// containerd namespace only, and a host may run several containerds.
fn cgroup_is_free(deps: &Deps, placement: Option<&Placement>) -> Result<(), Unfit> {
    let Some(Placement { path: cgroup, .. }) = placement else {
        return Ok(());
    };
    let Ok(paths) = deps.host.cgroups.of_path(cgroup) else {
        return Ok(());
    };
    let used = |dir: &Path| std::fs::read(dir.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
    if paths.dirs().any(used) {
        let cgroup = cgroup.clone();
        Err(Unfit::CgroupInUse { cgroup })
    } else {
        Ok(())
    }
}

/// Sources must exist; a source that is mounted writable must not lie on a read-only file system; and the container's
/// user must be able to write to the directories that the function writes to (that of its socket).
fn mounts(plan: &Plan, spec: &Spec) -> Result<(), Unfit> {
    for mount in &plan.config.mounts {
        let Mount::Bind {
            source,
            destination,
            readonly,
        } = mount
        else {
            continue;
        };
        std::fs::metadata(source).map_err(|cause| Unfit::Source {
            path: source.clone(),
            cause,
        })?;
        if destination.components().eq(Path::new("/dev").components()) && !has_null(source) {
            return Err(Unfit::NoDevices { path: source.clone() });
        }
        if !readonly {
            let fs = rustix::fs::statvfs(source).map_err(|cause| Unfit::Source {
                path: source.clone(),
                cause: cause.into(),
            })?;
            if fs.f_flag.contains(StatVfsMountFlags::RDONLY) {
                let why = "because its file system is mounted read-only".to_owned();
                return Err(Unfit::NotWritable {
                    path: source.clone(),
                    why,
                });
            }
        }
    }
    let user = spec.process().as_ref().map(fnctr_oci::Process::user);
    for path in &plan.writable {
        let Some(user) = user else { continue };
        let groups = user.additional_gids().as_deref().unwrap_or_default();
        may_write(path, user.uid(), user.gid(), groups)?;
    }
    Ok(())
}

fn has_null(dev: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;

    std::fs::metadata(dev.join("null")).is_ok_and(|found| found.file_type().is_char_device())
}

/// Checks the plain permission bits, as the kernel applies them to a process without capabilities.
fn may_write(path: &Path, uid: u32, gid: u32, groups: &[u32]) -> Result<(), Unfit> {
    use std::os::unix::fs::MetadataExt as _;

    let meta = std::fs::metadata(path).map_err(|cause| Unfit::Source {
        path: path.to_owned(),
        cause,
    })?;
    if !meta.is_dir() {
        let why = "by a function that makes its socket in it: it is not a directory".to_owned();
        return Err(Unfit::NotWritable {
            path: path.to_owned(),
            why,
        });
    }
    let bits = if uid == meta.uid() {
        meta.mode() >> 6
    } else if gid == meta.gid() || groups.contains(&meta.gid()) {
        meta.mode() >> 3
    } else {
        meta.mode()
    };
    // Root is accepted: without CAP_DAC_OVERRIDE the bits apply to it too, but it may own the directory's files.
    if uid == 0 || bits & 0o3 == 0o3 {
        return Ok(());
    }
    let why = format!(
        "by the container's user {uid}:{gid}: it belongs to {}:{} with mode {:o}",
        meta.uid(),
        meta.gid(),
        meta.mode() & 0o7777
    );
    Err(Unfit::NotWritable {
        path: path.to_owned(),
        why,
    })
}

/// An init reports a missing command only by exit code 127, and passes a command that the kernel does not execute to a
/// shell. So the command is looked up here, unless a mount or a file system of the container hides its place.
async fn command(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image, spec: &Spec) -> Result<()> {
    let Some(process) = spec.process().as_ref() else {
        return Ok(());
    };
    let args = process.args().as_deref().unwrap_or_default();
    let args = match args {
        [init, dashes, rest @ ..] if init == fnctr_oci::INIT_PATH && dashes == "--" => rest,
        all => all,
    };
    let Some(command) = args.first() else {
        return Ok(());
    };
    let path = process
        .env()
        .as_deref()
        .unwrap_or_default()
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("PATH="));
    let path = path.unwrap_or_default();
    let lookup = Lookup {
        program: command.clone(),
        path: Some(path.to_owned()),
        cwd: process.cwd().display().to_string(),
        hidden: hidden(plan),
    };
    let found = deps
        .images
        .store
        .executable(ctx, image, &lookup)
        .await
        .at(Step::Image, &plan.id)?;
    let image = plan.image.to_string();
    let command = command.clone();
    let (kind, error) = match found {
        Program::Found(_) | Program::Hidden => return Ok(()),
        Program::NotExecutable(_, why) => {
            // For a script without its interpreter, execve(2) fails with ENOENT, so shells and inits exit as for a
            // missing command.
            let kind = if why.is_missing() {
                Kind::CommandNotFound
            } else {
                Kind::CommandNotExecutable
            };
            (kind, Unfit::NotExecutable { command, image, why })
        }
        Program::NotFound => {
            let searched = if command.contains('/') {
                "that path".to_owned()
            } else {
                format!("PATH {path}")
            };
            let error = Unfit::NoCommand {
                command,
                image,
                searched,
            };
            (Kind::CommandNotFound, error)
        }
    };
    Err(Error::new(Step::Check, &plan.id, kind, error))
}

/// The paths at which a container of this plan has files and file systems of its own, which hide those of the image.
fn hidden(plan: &Plan) -> Vec<String> {
    let mounts = plan.config.mounts.iter().map(|mount| {
        let (Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. }) = mount;
        destination.display().to_string()
    });
    let own = mount_points::OWN
        .into_iter()
        .chain(plan.init.then_some(fnctr_oci::INIT_PATH));
    mounts.chain(own.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RestartPolicy;

    fn bind(destination: &str) -> Mount {
        Mount::Bind {
            source: "/".into(),
            destination: destination.into(),
            readonly: true,
        }
    }

    fn plan() -> Plan {
        Plan {
            id: crate::ContainerId::new("c1").unwrap(),
            image: crate::image::Reference::parse("i").unwrap(),
            config: ContainerConfig::default(),
            network: Network::None,
            init: true,
            labels: Default::default(),
            fs_size: None,
            volumes: Vec::new(),
            writable: Vec::new(),
            hosts: Vec::new(),
            custody: None,
            name: None,
            is_kept: false,
            is_checked_at_start: false,
            restart: RestartPolicy::No,
            aliases: None,
            health: None,
            log: None,
            front: None,
        }
    }

    #[test]
    fn a_namespace_a_long_label_and_an_unknown_sysctl_are_refused_by_name() {
        let sysctls = tempfile::tempdir().unwrap();
        let known = sysctls.path().join("net/ipv4/conf/default");
        std::fs::create_dir_all(&known).unwrap();
        std::fs::write(known.join("forwarding"), "0").unwrap();
        let check = |change: &dyn Fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            settings(&plan, sysctls.path()).map_err(|error| error.to_string())
        };
        check(&|_| {}).unwrap();
        let error = check(&|plan| plan.config.network = NetworkMode::Host).unwrap_err();
        assert!(
            error.contains("config.network is Host") && error.contains("the options"),
            "{error}"
        );
        let named = |name: &str, of: bool| {
            check(&|plan| {
                plan.hosts.push((name.to_owned(), [10, 0, 0, 1].into()));
                if of {
                    plan.network = Network::Of(plan.id.clone());
                }
            })
        };
        named("db.local", false).unwrap();
        for broken in ["", "a b", "a\n127.0.0.1 b", "#"] {
            let error = named(broken, false).unwrap_err();
            assert!(error.contains("/etc/hosts"), "{error}");
        }
        let error = named("db.local", true).unwrap_err();
        assert!(error.contains("gets that container's names"), "{error}");
        let label =
            |length: usize| check(&|plan| drop(plan.labels.insert("name".into(), "v".repeat(length - 4))));
        label(4096).unwrap();
        let error = label(4097).unwrap_err();
        assert!(error.contains("\"name\" takes 4097 bytes"), "{error}");
        let sysctl = |name: &str| check(&|plan| drop(plan.config.sysctls.insert(name.into(), "1".into())));
        for interface in ["default", "eth0"] {
            sysctl(&format!("net.ipv4.conf.{interface}.forwarding")).unwrap();
        }
        let error = sysctl("net.ipv4.nonsense").unwrap_err();
        assert!(error.contains("no sysctl \"net.ipv4.nonsense\""), "{error}");
    }

    #[test]
    fn only_a_directory_with_the_null_device_can_be_dev() {
        let dev = |source: &Path| {
            let mut plan = plan();
            plan.config.mounts.push(Mount::Bind {
                source: source.to_owned(),
                destination: "/dev/".into(),
                readonly: true,
            });
            mounts(&plan, &fnctr_oci::Spec::default()).map_err(|error| error.to_string())
        };
        dev(Path::new("/dev")).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let error = dev(empty.path()).unwrap_err();
        assert!(
            error.contains(empty.path().to_str().unwrap()) && error.contains("null"),
            "{error}"
        );
    }

    #[test]
    fn mounts_and_own_file_systems_hide_paths_of_the_image() {
        let mut plan = plan();
        plan.config.mounts = vec![bind("/opt/tools")];
        assert_eq!(
            hidden(&plan),
            ["/opt/tools", "/dev", "/proc", "/sys", "/sbin/docker-init"]
        );
        plan.init = false;
        assert_eq!(hidden(&plan).last().unwrap(), "/sys");
    }

    #[test]
    fn a_directory_that_the_function_s_user_cannot_write_is_named_with_its_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let stranger = rustix::process::geteuid().as_raw() + 4711;
        let error = may_write(dir.path(), stranger, stranger, &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("is not writable by the container's user") && error.contains("mode 755"),
            "{error}"
        );
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        may_write(dir.path(), stranger, stranger, &[]).unwrap();
        may_write(Path::new("/nonexistent/x"), 1, 1, &[]).unwrap_err();
    }
}
