//! What `run` is told: the container as a person describes it.

use std::path::PathBuf;

use clap::Args;

use super::network::NetworkArgs;
use crate::{ByteSize, ContainerId, MilliCpus};

/// When to pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PullPolicy {
    /// If the image is not here
    Missing,
    /// Before every run: the tag may have moved
    Always,
    /// Not at all
    Never,
}

/// A container to run.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Name of the container [default: made up]
    #[arg(long)]
    pub(super) name: Option<ContainerId>,
    /// Print the container's name and leave it running, without output; `fnctr rm` removes it
    #[arg(long, short)]
    pub(super) detach: bool,
    /// Give it this process's standard input
    #[arg(long, short, conflicts_with = "detach")]
    pub(super) interactive: bool,
    /// End it after this time (10s, 1500ms, 2m)
    #[arg(long, value_parser = super::run::parse_duration, value_name = "TIME", conflicts_with = "detach")]
    pub(super) timeout: Option<std::time::Duration>,
    /// Most memory, swap excluded (64m, 1g)
    #[arg(long, short, value_name = "SIZE")]
    pub(super) memory: Option<ByteSize>,
    /// When memory runs out, kill every process of the container and not just one; needs cgroup v2
    #[arg(long)]
    pub(super) oom_group: bool,
    /// Most CPUs (2, 0.5)
    #[arg(long, value_name = "CPUS")]
    pub(super) cpus: Option<MilliCpus>,
    /// Most processes and threads
    #[arg(long, value_name = "N")]
    pub(super) pids: Option<u64>,
    /// Most open files per process
    #[arg(long, value_name = "N")]
    pub(super) open_files: Option<u64>,
    /// Most memory that a process may lock
    #[arg(long, value_name = "SIZE")]
    pub(super) locked_memory: Option<ByteSize>,
    /// Most queued signals
    #[arg(long, value_name = "N")]
    pub(super) pending_signals: Option<u64>,
    /// Most bytes in POSIX message queues
    #[arg(long, value_name = "SIZE")]
    pub(super) message_queue: Option<ByteSize>,
    /// Make /tmp a tmpfs of this size, rounded up to megabytes
    #[arg(long, value_name = "SIZE")]
    pub(super) tmpfs_size: Option<ByteSize>,
    /// Most files and directories in that tmpfs
    #[arg(long, value_name = "N")]
    pub(super) tmpfs_inodes: Option<u64>,
    /// Most bytes in the writable layer, rounded up to megabytes
    #[arg(long, value_name = "SIZE")]
    pub(super) fs_size: Option<ByteSize>,
    /// Make the root file system read-only; /tmp becomes a tmpfs
    #[arg(long, visible_alias = "readonly")]
    pub(super) read_only: bool,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// Environment variable; NAME alone takes this process's value
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// File of such lines; `#` begins a comment
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Mount a directory or file of the host, read-write unless it ends in `:ro`
    #[arg(long, short, value_name = "SOURCE:DEST[:ro]")]
    pub(super) volume: Vec<String>,
    /// Mount the directory that holds the function's Unix socket
    #[arg(long, value_name = "DIR:DEST")]
    pub(super) uds: Option<String>,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    /// Run as the image's user, with Docker's 14 default capabilities, instead of 1000:1000 with none
    #[arg(long)]
    pub(super) image_user: bool,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t = PullPolicy::Missing, value_name = "WHEN")]
    pub(super) pull: PullPolicy,
    /// Accept an image that declares volumes
    #[arg(long)]
    pub(super) allow_volumes: bool,
    /// Report usage once a second
    #[arg(long, conflicts_with = "detach")]
    pub(super) stats: bool,
    /// The image, then the command and its arguments [default: the image's]
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["IMAGE", "COMMAND"])]
    pub(super) image_and_command: Vec<String>,
}

impl RunArgs {
    /// The image; the command line has at least that.
    pub(super) fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// What follows it; empty leaves the image's own command.
    pub(super) fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}
