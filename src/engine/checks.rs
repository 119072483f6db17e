//! What the host and the image cannot give is refused by name, before anything is made.
//!
//! The runtime would refuse most of it too, but after a snapshot, a record and a shim, and in words about itself.

use std::path::{Path, PathBuf};

use fnctr_oci::{ContainerConfig, Mount, RlimitKind, Spec};
use rustix::fs::StatVfsMountFlags;

use super::Deps;
use super::disk;
use super::error::{At as _, Error, Kind, Result, Step};
use super::placement::Placement;
use super::plan::Plan;
use crate::Context;
use crate::cgroup::Rlimit as Of;
use crate::image::{Image, Lookup, Program};

/// Why this host or this image cannot serve the plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The daemon that starts the container may not raise its own limit.
    #[error(
        "{limit} of {wanted} is above this host's ceiling of {ceiling}; raise the limit of containerd's service, or ask for less"
    )]
    Rlimit {
        limit: &'static str,
        wanted: u64,
        ceiling: u64,
    },
    /// The kernel offers no controller for the limit.
    #[error("this host cannot enforce a limit on {resource}: its cgroups have no {controller} controller")]
    Controller {
        resource: &'static str,
        controller: &'static str,
    },
    /// Another container's processes are where this one's would go.
    #[error("its cgroup {cgroup} is in use by another container; choose another name or cgroup parent")]
    CgroupInUse { cgroup: String },
    /// A bind mount without a source.
    #[error("mount source {path:?} cannot be used")]
    Source {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// The function could not write where it must.
    #[error("mount source {path:?} is not writable {why}")]
    NotWritable { path: PathBuf, why: String },
    /// There is no such command in the image.
    #[error("command {command:?} was not found in image {image} (searched {searched})")]
    NoCommand {
        command: String,
        image: String,
        searched: String,
    },
    /// There is one, and it cannot be executed.
    #[error("command {command:?} in image {image} is not an executable file")]
    NotExecutable { command: String, image: String },
}

/// Checks everything; the first thing that does not hold is the error.
pub(super) async fn all(deps: &Deps, ctx: &Context, plan: &Plan, image: &Image, spec: &Spec) -> Result<()> {
    let unfit = |kind, error: Unfit| Error::new(Step::Check, &plan.id, kind, error);
    rlimits(deps, &plan.config).map_err(|error| unfit(Kind::Unsupported, error))?;
    controllers(deps, &plan.config).map_err(|error| unfit(Kind::Unsupported, error))?;
    cgroup_is_free(deps, plan).map_err(|error| unfit(Kind::Conflict, error))?;
    mounts(plan, spec).map_err(|error| unfit(Kind::InvalidPlan, error))?;
    disk::check(deps, ctx, plan).await?;
    command(deps, ctx, plan, image, spec).await
}

fn rlimits(deps: &Deps, config: &ContainerConfig) -> Result<(), Unfit> {
    for rlimit in &config.rlimits {
        let (limit, of) = match rlimit.kind {
            RlimitKind::OpenFiles => ("open_files", Of::Nofile),
            RlimitKind::LockedMemory => ("locked_memory", Of::Memlock),
            RlimitKind::PendingSignals => ("pending_signals", Of::Sigpending),
            RlimitKind::MessageQueue => ("message_queue", Of::Msgqueue),
        };
        if let Some(ceiling) = deps.ceilings.ceiling(of)
            && rlimit.hard > ceiling
        {
            return Err(Unfit::Rlimit {
                limit,
                wanted: rlimit.hard,
                ceiling,
            });
        }
    }
    Ok(())
}

fn controllers(deps: &Deps, config: &ContainerConfig) -> Result<(), Unfit> {
    let has = deps.cgroups.controllers();
    let wanted = &config.resources;
    let missing = [
        (
            wanted.memory.is_some() && has.memory.is_none(),
            "memory",
            "memory",
        ),
        (wanted.milli_cpus.is_some() && has.cpu.is_none(), "CPUs", "cpu"),
        (wanted.pids.is_some() && has.pids.is_none(), "processes", "pids"),
    ];
    match missing.into_iter().find(|(missing, ..)| *missing) {
        Some((_, resource, controller)) => Err(Unfit::Controller { resource, controller }),
        None => Ok(()),
    }
}

/// Two containers in one cgroup would share limits, and be frozen and killed together. A name is unique in its containerd
/// namespace only, and a host may run several containerds.
fn cgroup_is_free(deps: &Deps, plan: &Plan) -> Result<(), Unfit> {
    let Some(Placement { path: cgroup, .. }) = deps.placement(&plan.id) else {
        return Ok(());
    };
    let Ok(paths) = deps.cgroups.of_path(&cgroup) else {
        return Ok(());
    };
    let used = |dir: &Path| std::fs::read(dir.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
    if paths.dirs().any(used) {
        Err(Unfit::CgroupInUse { cgroup })
    } else {
        Ok(())
    }
}

/// Sources must exist; one that is mounted writable must not lie on a read-only file system; and where the function
/// must write (its socket's directory), its user must be able to.
fn mounts(plan: &Plan, spec: &Spec) -> Result<(), Unfit> {
    for mount in &plan.config.mounts {
        let Mount::Bind { source, readonly, .. } = mount else {
            continue;
        };
        std::fs::metadata(source).map_err(|cause| Unfit::Source {
            path: source.clone(),
            cause,
        })?;
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

/// The plain permission bits, as the kernel applies them to a process without capabilities.
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
    // Root without CAP_DAC_OVERRIDE is judged by the bits like anybody else, but it may own the directory's files.
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

/// An init hides a missing command behind its own exit code 127, so it is looked for here.
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
    if may_come_from_a_mount(command, path, process.cwd(), &plan.config.mounts) {
        return Ok(());
    }
    let lookup = Lookup {
        program: command.clone(),
        path: Some(path.to_owned()),
        cwd: process.cwd().display().to_string(),
    };
    let found = deps
        .images
        .executable(ctx, image, &lookup)
        .await
        .at(Step::Image, &plan.id)?;
    let image = plan.image.to_string();
    let command = command.clone();
    let error = match found {
        Program::Found(_) => return Ok(()),
        Program::NotExecutable(_) => Unfit::NotExecutable { command, image },
        Program::NotFound => {
            let searched = if command.contains('/') {
                "that path".to_owned()
            } else {
                format!("PATH {path}")
            };
            Unfit::NoCommand {
                command,
                image,
                searched,
            }
        }
    };
    Err(Error::new(Step::Check, &plan.id, Kind::InvalidPlan, error))
}

/// Whether a mount of the plan covers a place where the command is looked for: then the image does not decide.
fn may_come_from_a_mount(command: &str, path: &str, cwd: &Path, mounts: &[Mount]) -> bool {
    let mut places: Vec<PathBuf> = Vec::new();
    if command.contains('/') {
        places.push(cwd.join(command));
    } else {
        places.extend(
            path.split(':')
                .filter(|dir| !dir.is_empty())
                .map(|dir| cwd.join(dir).join(command)),
        );
    }
    mounts.iter().any(|mount| {
        let (Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. }) = mount;
        places.iter().any(|place| place.starts_with(destination))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(destination: &str) -> Mount {
        Mount::Bind {
            source: "/".into(),
            destination: destination.into(),
            readonly: true,
        }
    }

    #[test]
    fn a_command_under_a_mount_is_not_the_image_s_to_decide() {
        let cwd = Path::new("/work");
        let mounts = [bind("/opt/tools")];
        assert!(may_come_from_a_mount("/opt/tools/run", "", cwd, &mounts));
        assert!(may_come_from_a_mount("run", "/bin:/opt/tools", cwd, &mounts));
        assert!(may_come_from_a_mount(
            "./run",
            "",
            Path::new("/opt/tools"),
            &mounts
        ));
        assert!(!may_come_from_a_mount("run", "/bin:/usr/bin", cwd, &mounts));
        assert!(!may_come_from_a_mount("/opt/toolsrun", "", cwd, &mounts));
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
