//! The arguments of the commands about containers.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};

use super::files::CpArgs;
use super::limits::UpdateArgs;
use super::values;
use crate::ContainerName;
use crate::cli::container_ref::ContainerRef;
use crate::detach_keys::DetachKeys;

/// The options of `ps`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct PsArgs {
    /// Also those that have ended
    #[arg(long, short)]
    pub(in crate::cli) all: bool,
    /// Print names alone
    #[arg(long, short, conflicts_with = "format")]
    pub(in crate::cli) quiet: bool,
    /// Only those with this id (or its beginning), name (or a part of it), label, status, ancestor (image) or network
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(in crate::cli) filter: Vec<String>,
    /// A template such as '{{.ID}} {{.Status}}', with `table ` before it for columns, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub(in crate::cli) format: Option<String>,
    /// Commands in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,
}

/// Containers to remove.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RmArgs {
    /// The containers
    #[arg(required_unless_present = "all", value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
    /// All containers
    #[arg(long, short, conflicts_with = "ids")]
    pub(in crate::cli) all: bool,
    /// Kill those that still run
    #[arg(long, short)]
    pub(in crate::cli) force: bool,
    /// Remove the volumes without a name that they alone use
    #[arg(long, short = 'v')]
    pub(in crate::cli) volumes: bool,
}

/// Containers, by name.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct IdsArgs {
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
}

/// Containers, and what to wait for.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct WaitArgs {
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
    /// What to wait for; the last two also survive the removal of the container
    #[arg(long, value_enum, default_value = "not-running")]
    pub(in crate::cli) condition: WaitCondition,
}

/// What `wait` waits for. The names are those of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum WaitCondition {
    /// It does not run
    NotRunning,
    /// A run of it ends, from now on
    NextExit,
    /// It is removed
    Removed,
}

/// Containers to start.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct StartArgs {
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
    /// Show its output, pass signals on, and exit with its code
    #[arg(long, short)]
    pub(in crate::cli) attach: bool,
    /// Pass standard input on; needs --attach
    #[arg(long, short, requires = "attach")]
    pub(in crate::cli) interactive: bool,
}

/// A container to attach to.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct AttachArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(in crate::cli) container: ContainerRef,
    /// Do not pass standard input on
    #[arg(long)]
    pub(in crate::cli) no_stdin: bool,
    /// Keys that end this command alone, if the container has a terminal: characters, or ctrl- and one
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", value_parser = values::detach_keys)]
    pub(in crate::cli) detach_keys: DetachKeys,
    /// Pass signals on to the container; with `false`, they end this command alone
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(in crate::cli) sig_proxy: bool,
}

/// The container whose processes are shown.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct TopArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(in crate::cli) container: ContainerRef,
    /// Arguments for the host's ps [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS ARGS")]
    pub(in crate::cli) ps_args: Vec<String>,
}

/// The container whose published ports are shown.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct PortArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(in crate::cli) container: ContainerRef,
    /// One of its ports (80, 53/udp) [default: all that are published]
    #[arg(value_name = "PORT")]
    pub(in crate::cli) port: Option<String>,
}

/// A container, and its new name.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RenameArgs {
    /// The container; it must be kept after its end, as those of `run --detach` and `create` are
    #[arg(value_name = "ID")]
    pub(in crate::cli) container: ContainerRef,
    /// Its new name
    #[arg(value_name = "NAME", value_parser = values::container_name)]
    pub(in crate::cli) name: ContainerName,
}

/// Which output to show.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct LogsArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(in crate::cli) container: ContainerRef,
    /// Go on with each new line, until the container ends
    #[arg(long, short)]
    pub(in crate::cli) follow: bool,
    /// Only the last lines, this many
    #[arg(long, short = 'n', value_name = "LINES", default_value = "all")]
    pub(in crate::cli) tail: String,
    /// Only what was written since this time: a duration before now (10m), seconds since 1970, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(in crate::cli) since: Option<SystemTime>,
    /// Only what was written until this time, given like --since
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(in crate::cli) until: Option<SystemTime>,
    /// Begin each line with its time
    #[arg(long, short)]
    pub(in crate::cli) timestamps: bool,
    /// Begin each line with the attributes that --log-opt gave it
    #[arg(long)]
    pub(in crate::cli) details: bool,
}

/// A process to run in a container.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ExecArgs {
    /// Pass standard input on
    #[arg(long, short)]
    pub(in crate::cli) interactive: bool,
    /// Give it a terminal: its standard streams are one, with one output
    #[arg(long, short)]
    pub(in crate::cli) tty: bool,
    /// Do not wait for its end; its output is discarded
    #[arg(long, short, conflicts_with = "interactive")]
    pub(in crate::cli) detach: bool,
    /// Run as this user and group of the container, by name or number [default: those of its first process]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub(in crate::cli) user: Option<String>,
    /// Working directory [default: that of its first process]
    #[arg(long, short, value_name = "DIR")]
    pub(in crate::cli) workdir: Option<String>,
    /// Environment variable beside those of its first process; NAME alone takes this process's value
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(in crate::cli) env: Vec<String>,
    /// The container
    #[arg(value_name = "ID")]
    pub(in crate::cli) container: ContainerRef,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(in crate::cli) command: Vec<String>,
}

/// Which events to show.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct EventsArgs {
    /// Also those since this time: a duration before now (10m), seconds since 1970, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(in crate::cli) since: Option<SystemTime>,
    /// Only those until this time, written like --since; the command ends then
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(in crate::cli) until: Option<SystemTime>,
    /// Only those with this type (container, image, network, volume), event (such as die), container, image, network, volume
    /// or label
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(in crate::cli) filter: Vec<String>,
    /// A template such as '{{.Time}} {{.Action}} {{.ID}}', or json
    #[arg(long, value_name = "TEMPLATE")]
    pub(in crate::cli) format: Option<String>,
}

/// Containers to freeze.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct FreezeArgs {
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
    /// Then take back the memory that they can do without; it is fetched again when it is needed
    #[arg(long)]
    pub(in crate::cli) reclaim: bool,
}

/// A signal, and the containers that receive it.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct KillArgs {
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
    /// The signal, by name or number
    #[arg(long, short, default_value = "KILL", value_parser = values::signal)]
    pub(in crate::cli) signal: u32,
}

/// Containers to stop.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct StopArgs {
    /// The containers
    #[arg(required = true, value_name = "ID")]
    pub(in crate::cli) ids: Vec<ContainerRef>,
    /// How long they may take to end
    #[arg(long, short, visible_alias = "time", value_parser = values::duration, value_name = "TIME", default_value = "10s")]
    pub(in crate::cli) timeout: Duration,
    /// The signal that asks them to end, by name or number
    #[arg(long, short, default_value = "TERM", value_parser = values::signal)]
    pub(in crate::cli) signal: u32,
}

/// What to do with containers.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ContainerCommand {
    /// List containers, as `fnctr ps`
    #[command(visible_aliases = ["list", "ps"])]
    Ls(PsArgs),
    /// Show everything about containers, as JSON
    Inspect {
        /// The containers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<ContainerRef>,
    },
    /// Stop every process of containers until they are thawed
    #[command(visible_alias = "pause")]
    Freeze(FreezeArgs),
    /// Let frozen containers go on
    #[command(visible_alias = "unpause")]
    Thaw(IdsArgs),
    /// Send a signal to containers
    Kill(KillArgs),
    /// Start containers that were created or have ended
    Start(StartArgs),
    /// Show the output of a running container from now on, and pass input and signals on to it
    Attach(AttachArgs),
    /// Show the output of a container that was kept, also after its end
    Logs(LogsArgs),
    /// Show the processes of a running container
    Top(TopArgs),
    /// Show which ports of this host lead to a container
    Port(PortArgs),
    /// Give a container another name
    Rename(RenameArgs),
    /// Copy files from a container, or to one
    Cp(CpArgs),
    /// Change the limits of containers
    Update(UpdateArgs),
    /// Run another process in a running container, and exit with its code
    Exec(ExecArgs),
    /// Send containers SIGTERM, and SIGKILL to those that have not ended in time
    Stop(StopArgs),
    /// Stop containers and start them again
    Restart(StopArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(WaitArgs),
    /// Remove containers and all that belongs to them
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove the containers that have ended, except those that a process waits for
    Prune {
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
}
