//! The arguments of `run` and `create`: the container as the user describes it.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};
use fnctr_oci::{Mount, Rlimit};

use super::limits::ShareArgs;
use super::network::NetworkArgs;
use super::values;
use super::volumes::{self, VolumeArg};
use crate::cli::container_ref::ContainerRef;
use crate::engine::RestartPolicy;
use crate::{ByteSize, MilliCpus};

/// How output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum LogDriver {
    /// In files, as Docker's driver of that name does
    JsonFile,
    /// Not at all
    None,
}

/// When to pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum PullPolicy {
    /// If the image is not here
    Missing,
    /// Before every run: the tag may have moved
    Always,
    /// Not at all
    Never,
}

/// A container to run.
#[derive(Debug, Args)]
#[command(
    override_usage = "fnctr run [OPTIONS] IMAGE [COMMAND] [ARG]...",
    disable_help_subcommand = true
)]
pub(in crate::cli) struct RunArgs {
    /// Print the container's name and leave it running, without output. It is kept after its end until `fnctr rm`
    #[arg(long, short)]
    pub(in crate::cli) detach: bool,
    /// Give it this process's standard input
    #[arg(long, short, conflicts_with = "detach")]
    pub(in crate::cli) interactive: bool,
    /// Whether to remove the container when it has ended; false keeps it, to be started again [default: true, and false
    /// with --detach]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(in crate::cli) rm: Option<bool>,
    /// Send it SIGTERM after this time (10s, 1500ms, 2m), and SIGKILL after --stop-timeout more
    #[arg(long, value_parser = values::duration, value_name = "TIME", conflicts_with = "detach")]
    pub(in crate::cli) timeout: Option<Duration>,
    /// How long it may take to end after a signal, before it is killed
    #[arg(long, value_parser = values::duration, value_name = "TIME", default_value = "10s")]
    pub(in crate::cli) stop_timeout: Duration,
    /// Report usage once a second
    #[arg(long, conflicts_with = "detach")]
    pub(in crate::cli) stats: bool,
    #[command(flatten)]
    pub(in crate::cli) container: ContainerArgs,
}

/// A container to create.
#[derive(Debug, Args)]
#[command(
    override_usage = "fnctr create [OPTIONS] IMAGE [COMMAND] [ARG]...",
    disable_help_subcommand = true
)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    pub(in crate::cli) container: ContainerArgs,
}

/// A container, and the image and command that it is made from.
#[derive(Debug, Args)]
pub(in crate::cli) struct ContainerArgs {
    /// Give it a terminal: its standard streams are one, with one output
    #[arg(long, short)]
    pub(in crate::cli) tty: bool,
    /// Name of the container, which is its id too if it can be one [default: made up]
    #[arg(long)]
    pub(in crate::cli) name: Option<ContainerRef>,
    /// How its output is kept for `fnctr logs`, if the container itself is: json-file, in files, or none, not at all
    #[arg(long, value_name = "DRIVER", default_value = "json-file")]
    pub(in crate::cli) log_driver: LogDriver,
    /// An option of json-file: max-size=10m, max-file=3, compress=true, labels=NAMES, env=NAMES, mode=non-blocking
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::named)]
    pub(in crate::cli) log_opt: Vec<(String, String)>,
    /// Most memory, swap excluded (64m, 1g)
    #[arg(long, short, value_name = "SIZE", value_parser = values::memory)]
    pub(in crate::cli) memory: Option<ByteSize>,
    /// When memory runs out, kill every process of the container and not just one; needs cgroup v2
    #[arg(long)]
    pub(in crate::cli) oom_group: bool,
    /// Most CPUs (2, 0.5)
    #[arg(long, value_name = "CPUS")]
    pub(in crate::cli) cpus: Option<MilliCpus>,
    /// Most processes and threads
    #[arg(long, value_name = "N", visible_alias = "pids-limit")]
    pub(in crate::cli) pids: Option<u64>,
    #[command(flatten)]
    pub(in crate::cli) shares: ShareArgs,
    /// When `fnctr serve` starts it again, if it is kept: no, always, unless-stopped, on-failure or on-failure:N
    #[arg(long, value_name = "POLICY", value_parser = values::restart, default_value = "no")]
    pub(in crate::cli) restart: RestartPolicy,
    /// Limit of setrlimit(2), as docker names it: nofile, nproc, core, stack, memlock ...; -1 is unlimited
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit, allow_hyphen_values = true)]
    pub(in crate::cli) ulimit: Vec<Rlimit>,
    /// Most open files per process
    #[arg(long, value_name = "N")]
    pub(in crate::cli) open_files: Option<u64>,
    /// Most memory that a process may lock
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) locked_memory: Option<ByteSize>,
    /// Most queued signals
    #[arg(long, value_name = "N")]
    pub(in crate::cli) pending_signals: Option<u64>,
    /// Most bytes in POSIX message queues
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) message_queue: Option<ByteSize>,
    /// Mount a tmpfs; options are size, nr_inodes, mode, uid, gid, ro and exec
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = values::tmpfs)]
    pub(in crate::cli) tmpfs: Vec<Mount>,
    /// Make /tmp a tmpfs of this size, rounded up to megabytes
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) tmpfs_size: Option<ByteSize>,
    /// Most files and directories in that tmpfs
    #[arg(long, value_name = "N")]
    pub(in crate::cli) tmpfs_inodes: Option<u64>,
    /// Most bytes in the writable layer, rounded up to megabytes
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) fs_size: Option<ByteSize>,
    /// Make the root file system read-only; /tmp becomes a tmpfs
    #[arg(long, visible_alias = "readonly")]
    pub(in crate::cli) read_only: bool,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    pub(in crate::cli) workdir: Option<String>,
    /// Environment variable; NAME alone takes this process's value
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(in crate::cli) env: Vec<String>,
    /// File with a variable on each line; `#` begins a comment
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) env_file: Vec<PathBuf>,
    /// Mount a directory or file of the host, or a volume by its name, read-write unless it ends in `:ro`; DEST alone gets a
    /// volume without a name. The function is uid 1000 there too, unless --user says otherwise
    #[arg(long, short, value_name = "[SOURCE:]DEST[:ro]", value_parser = volumes::volume)]
    pub(in crate::cli) volume: Vec<VolumeArg>,
    /// Mount the directory that holds the function's Unix socket
    #[arg(long, value_name = "DIR:DEST", value_parser = values::pair)]
    pub(in crate::cli) uds: Option<(PathBuf, String)>,
    #[command(flatten)]
    pub(in crate::cli) network: NetworkArgs,
    /// Hostname inside [default: the container's name]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) hostname: Option<String>,
    /// Add a name to /etc/hosts
    #[arg(long, value_name = "NAME:IP", value_parser = values::added_host)]
    pub(in crate::cli) add_host: Vec<(String, IpAddr)>,
    /// Run as this user and group, by name or number; root has no capabilities either [default: 1000:1000, or the
    /// image's with --image-user]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub(in crate::cli) user: Option<String>,
    /// Run as the image's user, with Docker's 14 default capabilities, instead of 1000:1000 with none
    #[arg(long)]
    pub(in crate::cli) image_user: bool,
    /// Replace the image's entrypoint by this program; an empty one clears it
    #[arg(long, value_name = "PROGRAM")]
    pub(in crate::cli) entrypoint: Option<String>,
    /// Whether an init is PID 1, which reaps and passes signals on
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    pub(in crate::cli) init: bool,
    /// Label of the container
    #[arg(long, short, value_name = "NAME[=VALUE]", value_parser = values::label)]
    pub(in crate::cli) label: Vec<(String, String)>,
    /// Write the container's name to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) cidfile: Option<PathBuf>,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t = PullPolicy::Missing, value_name = "WHEN")]
    pub(in crate::cli) pull: PullPolicy,
    /// Accept an image that declares volumes
    #[arg(long)]
    pub(in crate::cli) allow_volumes: bool,
    /// The image, by name or id, then the command and its arguments [default: the image's]
    #[command(subcommand)]
    pub(in crate::cli) function: Option<Function>,
}

/// What follows the options. To the parser it is a command of another program, which stops it from looking for options
/// of `run` there, and from taking an unknown option for the image.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum Function {
    #[command(external_subcommand)]
    Words(Vec<OsString>),
}
