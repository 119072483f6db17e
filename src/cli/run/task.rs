//! Translates the arguments of `run` and `create` into a task of the driver contract, and into options of the container where the
//! contract has no field.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fnctr_oci::Mount;

use super::env::environment;
use crate::cli::args::run::{ContainerArgs, Function, LogDriver, RunArgs};
use crate::cli::args::volumes::VolumeArg;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::network;
use crate::cli::output::{Print, note};
use crate::cli::standard::{LineEnd, Standard};
use crate::cli::terminal;
use crate::driver::{Input, Output, Stat, Task};
use crate::engine::{LogOptions, LogPlan, RestartPolicy, SharedStreams, VolumeUse};
use crate::{ByteSize, ContainerId, ContainerName, ContainerOptions};

/// Returns the image, and the command with its arguments. If the command is empty, the image's own is used.
pub(super) fn words(args: &mut ContainerArgs, verb: &str) -> Result<(String, Vec<String>), Failure> {
    let Some(Function::Words(words)) = args.function.take() else {
        return Err(Failure::usage(format!(
            "{verb} needs an image: fnctr {verb} [OPTIONS] IMAGE [COMMAND] [ARG]...",
        )));
    };
    let text = |(at, word): (usize, OsString)| {
        word.into_string().map_err(|word| {
            Failure::usage(format!(
                "argument {at} of the command, {word:?}, is not UTF-8, which is all that a container's configuration can hold"
            ))
        })
    };
    let mut words = words.into_iter().enumerate().map(text);
    let image = words.next().transpose()?.unwrap_or_default();
    Ok((image, words.collect::<Result<_, _>>()?))
}

/// Refuses unsupported and contradictory options of `run` before anything is done.
pub(super) fn check_run(args: &RunArgs) -> Result<(), Failure> {
    terminal::check(args.interactive, args.container.tty)?;
    if args.container.restart != RestartPolicy::No && !args.detach {
        return Err(Failure::usage(
            "--restart goes with --detach alone: this command ends with the container's first run",
        ));
    }
    if args.rm == Some(true) && args.detach {
        return Err(Failure::usage(
            "--rm does not go with --detach, because no process waits for the container's end: `fnctr rm` removes it then, and \
             `fnctr container prune` all that have ended",
        ));
    }
    check(&args.container)
}

/// The same for the options that describe the container.
pub(super) fn check(args: &ContainerArgs) -> Result<(), Failure> {
    if args.tmpfs_inodes.is_some() && args.tmpfs_size.is_none() && !args.read_only {
        return Err(Failure::usage(
            "--tmpfs-inodes needs --tmpfs-size or --read-only, without which there is no tmpfs",
        ));
    }
    if args.tmpfs_size.is_some() && args.tmpfs.iter().any(is_tmp) {
        return Err(Failure::usage(
            "--tmpfs-size and --tmpfs /tmp are two sizes for one tmpfs: leave one of them out",
        ));
    }
    Ok(())
}

/// The streams of `run`: this process's own, unless it does not wait for the container. Returns the output, for other
/// processes to read too.
pub(super) fn attached(
    task: &mut Task,
    args: &RunArgs,
    line_end: &LineEnd,
    interrupt: &Interrupt,
    print: &Print,
) -> Option<SharedStreams> {
    if args.detach {
        return None;
    }
    let shared = SharedStreams::output();
    let print = *print;
    if args.interactive {
        task.input = Input::from_reader(tokio::io::stdin()).into();
    }
    let stdout = Standard::new(tokio::io::stdout(), line_end, interrupt);
    task.stdout = Output::to_writer(shared.stdout_beside(stdout)).into();
    // A terminal has one output.
    if !args.container.tty {
        task.stderr = Output::to_writer(shared.stderr_beside(tokio::io::stderr())).into();
    }
    task.stats = args
        .stats
        .then(|| Arc::new(move |stat: Stat| note(&describe(&stat, print))) as _);
    Some(shared)
}

/// Translates the arguments that the driver contract covers. The task has no streams.
pub(super) fn task(args: &ContainerArgs, image: String) -> Result<Task, Failure> {
    let (uds_docker_path, uds_docker_dest) = args.uds.clone().unzip();
    Ok(Task {
        id: id_of(args),
        image,
        env_vars: environment(args)?,
        input: Input::Null.into(),
        stdout: Output::Null.into(),
        stderr: Output::Null.into(),
        volumes: directories(args),
        memory: args.memory.unwrap_or_default().0,
        cpus: args.cpus.unwrap_or_default().0,
        pids: args.pids.unwrap_or_default(),
        fs_size: megabytes(args.fs_size),
        tmpfs_size: megabytes(args.tmpfs_size),
        open_files: args.open_files,
        locked_memory: args.locked_memory.map(|size| size.0),
        pending_signals: args.pending_signals,
        message_queue: args.message_queue.map(|size| size.0),
        work_dir: args.workdir.clone(),
        uds_docker_path,
        uds_docker_dest,
        disable_net: args.network.is_none(),
        ..Task::default()
    })
}

/// The directories and files of the host that are mounted.
fn directories(args: &ContainerArgs) -> Vec<(PathBuf, String)> {
    let each = args.volume.iter().filter_map(|volume| match volume {
        VolumeArg::Host(source, dest) => Some((source.clone(), dest.clone())),
        VolumeArg::Volume(_) => None,
    });
    each.collect()
}

/// The volumes that are mounted.
pub(super) fn volumes(args: &ContainerArgs) -> Vec<VolumeUse> {
    let each = args.volume.iter().filter_map(|volume| match volume {
        VolumeArg::Host(..) => None,
        VolumeArg::Volume(used) => Some(used.clone()),
    });
    each.collect()
}

/// How the output of a container that is kept itself is kept.
pub(super) fn log(args: &ContainerArgs) -> Result<Option<LogPlan>, Failure> {
    let given = args.log_opt.iter().cloned().collect();
    match args.log_driver {
        LogDriver::None if args.log_opt.is_empty() => Ok(None),
        LogDriver::None => Err(Failure::usage("--log-opt has no meaning with --log-driver none")),
        LogDriver::JsonFile => {
            let labels = args.label.iter().cloned().collect();
            let env = environment(args)?.into_iter().collect();
            let options = LogOptions::parse(&given, &labels, &env);
            let options = options.map_err(|error| Failure::usage(format!("--log-opt: {error}")))?;
            Ok(Some(LogPlan::new(options)))
        }
    }
}

/// Applies the remaining arguments to the options of the container.
pub(super) fn choose(
    options: &mut ContainerOptions,
    args: &ContainerArgs,
    command: Vec<String>,
) -> Result<(), Failure> {
    let (attached, hostname) = network::choose(&args.network)?;
    options.network = attached;
    if !hostname {
        // On the host's network, the container has the host's name.
        options.config.hostname = None;
    }
    let config = &mut options.config;
    if args.hostname.is_some() {
        config.hostname.clone_from(&args.hostname);
    }
    config.resources.oom_group = args.oom_group;
    args.shares.apply(&mut config.resources);
    config.terminal = args.tty;
    config.console_size = terminal::size().filter(|_| args.tty);
    if !command.is_empty() {
        // Pass the words as typed, because the command of the contract is one text that is split at white space.
        config.command = Some(command);
    }
    if let Some(program) = &args.entrypoint {
        config.entrypoint = Some(vec![program.clone()]);
    }
    if args.user.is_some() {
        config.user.clone_from(&args.user);
    }
    if args.tmpfs.iter().any(is_tmp) {
        // This tmpfs replaces the one that a read-only root adds.
        config.mounts.retain(|mount| !is_tmp(mount));
    }
    config.mounts.extend(args.tmpfs.iter().cloned());
    config.rlimits.extend(args.ulimit.iter().cloned());
    options.hosts.clone_from(&args.add_host);
    options.labels.extend(args.label.iter().cloned());
    options.init = args.init;
    Ok(())
}

fn is_tmp(mount: &Mount) -> bool {
    matches!(mount, Mount::Tmpfs { destination, .. } if destination.components().eq(Path::new("/tmp").components()))
}

fn megabytes(size: Option<ByteSize>) -> u64 {
    size.unwrap_or_default().0.div_ceil(1 << 20)
}

/// The container's id: its name, if that can be an id.
fn id_of(args: &ContainerArgs) -> String {
    match &args.name {
        Some(name) => name.as_id().unwrap_or_else(ContainerId::random).into(),
        None => format!("fn-{:012x}", crate::driver::dice() & 0xffff_ffff_ffff),
    }
}

/// The container's name, if it cannot be its id.
pub(super) fn name_beside_id(args: &ContainerArgs) -> Option<ContainerName> {
    let name = args.name.as_ref()?;
    match name.as_id() {
        Some(_) => None,
        None => ContainerName::new(name.to_string()).ok(),
    }
}

fn describe(stat: &Stat, print: Print) -> String {
    if print.is_json() {
        return serde_json::json!({ "stats": stat }).to_string();
    }
    let metrics: Vec<_> = stat
        .metrics
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("stats: {}", metrics.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_megabytes() {
        assert_eq!(megabytes(Some(ByteSize(1))), 1);
        assert_eq!(megabytes(Some(ByteSize(16 << 20))), 16);
        assert_eq!(megabytes(None), 0);
    }
}
