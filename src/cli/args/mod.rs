//! The command line as data. The help texts are also the manual, so they explain what an option does.

pub(super) mod bench;
pub(super) mod containers;
pub(super) mod files;
pub(super) mod global;
pub(super) mod images;
pub(super) mod limits;
pub(super) mod network;
pub(super) mod run;
pub(super) mod serve;
pub(super) mod shell;
mod values;
pub(super) mod volumes;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::bench::Bench;
use self::containers::{
    AttachArgs, ContainerCommand, EventsArgs, ExecArgs, FreezeArgs, IdsArgs, KillArgs, LogsArgs, PortArgs,
    PsArgs, RenameArgs, RmArgs, StartArgs, StopArgs, TopArgs, WaitArgs,
};
use self::files::CpArgs;
use self::global::Global;
use self::images::{ImageCommand, ImagesArgs, PullArgs, RmiArgs, SaveFormat};
use self::limits::UpdateArgs;
use self::network::NetworkCommand;
use self::run::{CreateArgs, RunArgs};
use self::serve::ServeArgs;
use self::shell::Shell;
use self::volumes::VolumeCommand;
use crate::cli::container_ref::ContainerRef;

/// The version, with the commit that a release was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("FNCTR_COMMIT"));

/// Runs function containers on containerd: limits, freezing in microseconds, clean endings.
#[derive(Debug, Parser)]
#[command(
    name = "fnctr",
    version = VERSION,
    propagate_version = true,
    after_help = "Options that every command has may also stand in /etc/fnctr/config.toml, by the same names without the dashes, \
        or in the environment.\n\nExit codes: 0, or 1 for a failure, or 2 for a command line that cannot be read; 128 + N when \
        signal N ended fnctr. `fnctr run` gives the function's own: see `fnctr run --help`.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
    /// The name of the command, as in `image ls`.
    #[arg(skip)]
    pub(super) name: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a function's container to its end, or start it with --detach
    ///
    /// By default it runs as uid 1000, without capabilities, without a network, under an init, and its output is
    /// streamed. SIGTERM, Ctrl-C and the other signals that a program can take are passed on to the function, which is
    /// killed if it has not ended after --stop-timeout, or at the next one.
    #[command(
        after_help = "Exit codes:\n  the function's own, where it has ended by itself or by a signal that was passed on\n  \
        124  --timeout had passed\n  125  fnctr itself failed\n  126  the command cannot be executed\n  \
        127  the command is not in the image\n  137  memory ran out, or it was killed\n  \
        128 + N  signal N ended fnctr (141: nobody read the output any more)\n\nExamples:\n  fnctr run busybox echo hello\n  \
        fnctr run --memory 64m --cpus 0.5 --pids 20 --read-only busybox sh -c 'free -m'\n  \
        echo data | fnctr run -i busybox wc -c"
    )]
    Run(Box<RunArgs>),
    /// Create a container without starting it; `fnctr start` does, and the container is kept after its end
    #[command(
        after_help = "Examples:\n  fnctr create --name job --memory 64m busybox sh -c 'date >>/tmp/log; sleep 5'\n  \
        fnctr start job && fnctr wait job && fnctr start job"
    )]
    Create(Box<CreateArgs>),
    /// List containers: those that run, with --all those that have ended too
    #[command(
        after_help = "Examples:\n  fnctr ps --filter label=team=red --filter status=frozen\n  \
        fnctr ps --all --format 'table {{.ID}}\\t{{.Status}}\\t{{.Ports}}'\n  fnctr rm --force $(fnctr ps --all --quiet)"
    )]
    Ps(PsArgs),
    /// Show everything about containers, as JSON
    Inspect {
        /// The containers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<ContainerRef>,
    },
    /// Show what containers use, live: CPU, memory, processes, network, disks, throttling, pressure, time frozen
    ///
    /// Reads twice a half second apart, shows the difference, and goes on once a second until q or Ctrl-C, or until the
    /// last container that was named has ended. In a terminal the table is redrawn in place, and columns that do not
    /// fit are left out; anywhere else each round is printed below the one before. A dash stands for a value that this
    /// host does not report.
    ///
    ///   CPU        of one core: 200% is two cores busy
    ///   THROTTLED  of the periods of its CPU quota, those in which the quota ran out
    ///   PRESSURE   of the time, how much some process waited for CPU / memory / disks
    ///   FROZEN     time frozen since its start; OOM counts the processes killed for want of memory
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:\n  fnctr stats\n  fnctr stats --once fn-1 fn-2\n  \
        fnctr stats --json | jq 'select(.metrics.cpu_total > 90) | .id'"
    )]
    Stats {
        /// The containers [default: all that run, frozen ones too]
        ids: Vec<ContainerRef>,
        /// Print one round and end; it takes the half second between two readings, for a rate needs both
        #[arg(long, visible_alias = "no-stream")]
        once: bool,
    },
    /// Stop every process of containers until they are thawed; costs microseconds
    #[command(visible_alias = "pause")]
    Freeze(FreezeArgs),
    /// Let frozen containers go on
    #[command(visible_alias = "unpause")]
    Thaw(IdsArgs),
    /// Send a signal to containers; SIGKILL reaches every process, frozen or not
    Kill(KillArgs),
    /// Start containers that were created or have ended, with the writable layer that they had
    #[command(
        after_help = "Without --attach, the container runs on by itself and reads no input. Its output is discarded, unless \
        `fnctr serve` runs: then it is held for those who attach."
    )]
    Start(StartArgs),
    /// Show the output of a running container from now on, pass input and signals on to it, and exit with its code
    Attach(AttachArgs),
    /// Show the output of a container that was kept, also after its end
    #[command(
        after_help = "The output of a container is kept by whoever has its streams: `fnctr serve`, or the command that shows it. \
        Without either, that of `run --detach` is discarded.\n\nExample: fnctr logs --follow --tail 20 web"
    )]
    Logs(LogsArgs),
    /// Show the processes of a running container, as the host's ps does
    Top(TopArgs),
    /// Show which ports of this host lead to a container
    Port(PortArgs),
    /// Give a container another name; its id stays
    Rename(RenameArgs),
    /// Copy files from a container, or to one, whether it runs or not
    #[command(
        after_help = "Examples:\n  fnctr cp web:/var/log/app.log .\n  fnctr cp ./conf/. web:/etc/app\n  \
        fnctr cp web:/data - | tar -t"
    )]
    Cp(CpArgs),
    /// Change the limits of containers, whether they run or not
    #[command(
        after_help = "What is not named stays as it is.\n\nExample: fnctr update --memory 128m --cpus unlimited web"
    )]
    Update(UpdateArgs),
    /// Run another process in a running container, show its output, and exit with its code
    #[command(after_help = "Example: fnctr exec -i -u root web sh -c 'cat >/etc/motd' <motd")]
    Exec(ExecArgs),
    /// Show what happens to containers, images, networks and volumes, until a signal ends it
    #[command(
        after_help = "Example: fnctr events --since 10m --filter event=die --format '{{.Time}} {{.ID}} {{.ExitCode}}'"
    )]
    Events(EventsArgs),
    /// Remove what killed processes have left, and report what it is and why nothing needs it
    #[command(
        after_help = "Every command does most of this silently when it starts; a driver does it every minute."
    )]
    Reconcile {
        /// Only report what there is
        #[arg(long)]
        dry_run: bool,
    },
    /// Look after all containers until a signal ends it: write down how each ends, hold the output of those that were
    /// started without a reader, end those whose deadline has passed, and remove what killed processes have left
    ///
    /// The containers outlive it, however it ends: the next one finds them, takes their streams over, and loses no exit code.
    /// There is one for each containerd namespace. While there is none, a container whose output it held waits once it has
    /// written some 64 KB to 1 MB, until the next server or an attach reads on.
    Serve(ServeArgs),
    /// Send containers SIGTERM, and SIGKILL to those that have not ended in time; they stay until `fnctr rm`
    Stop(StopArgs),
    /// Stop containers and start them again
    Restart(StopArgs),
    /// Wait until containers have ended, and print their exit codes
    #[command(after_help = "Example: fnctr wait --condition removed job")]
    Wait(WaitArgs),
    /// Remove containers and all that belongs to them
    Rm(RmArgs),
    /// The same commands under docker's longer names
    Container {
        #[command(subcommand)]
        what: ContainerCommand,
    },
    /// Remove orphaned containers: those whose `fnctr run`, without --detach, was killed before it could remove them
    ///
    /// `fnctr ps` marks them. Containers that were started with --detach stay, and so do those of a platform.
    Prune,
    /// Pull an image from its registry
    ///
    /// Credentials come from FN_DOCKER_AUTH (a docker configuration as JSON), else from the docker configuration file
    /// and its credential helpers. What an interrupted pull has fetched is kept for ten minutes: the next one goes on
    /// with it.
    #[command(
        after_help = "Examples:\n  fnctr pull busybox\n  fnctr pull --platform linux/arm/v7 r.corp:5000/team/fn:2\n  \
        fnctr pull --username bob --password-stdin r.corp/team/fn <password-file"
    )]
    Pull(PullArgs),
    /// Load the images of an archive: docker-archive (docker save) or OCI layout, also compressed with gzip or zstd
    Load {
        /// The archive; - is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// The same, under docker's name
        #[arg(long, short, value_name = "FILE", conflicts_with = "file")]
        input: Option<PathBuf>,
    },
    /// Save images as an archive, which `docker load`, containerd, skopeo and `fnctr load` read
    Save {
        /// The archive; - is standard output
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        output: PathBuf,
        /// The programs that are to read it; docker is an OCI layout too
        #[arg(long, value_enum, default_value = "docker")]
        format: SaveFormat,
        /// Names or ids of images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Give an image another name
    Tag {
        /// Its name or id
        source: String,
        /// The name to give
        name: String,
    },
    /// Remove names of images, and an image with its last name
    Rmi(RmiArgs),
    /// List images
    Images(ImagesArgs),
    /// Show details of images, or remove those that no container uses
    Image {
        #[command(subcommand)]
        what: ImageCommand,
    },
    /// List, show, configure and remove networks
    Network {
        #[command(subcommand)]
        what: NetworkCommand,
    },
    /// List, show, make and remove volumes: directories that outlive the containers that use them
    Volume {
        #[command(subcommand)]
        what: VolumeCommand,
    },
    /// Check this host: each line is ok, or states what is wrong and the command that mends it
    Doctor,
    /// Print the script that makes a shell complete fnctr's commands and options
    #[command(
        after_help = "Examples:\n  fnctr completion bash >/etc/bash_completion.d/fnctr\n  \
        fnctr completion zsh >\"${fpath[1]}/_fnctr\"\n  fnctr completion fish >~/.config/fish/completions/fnctr.fish"
    )]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write it and those of all commands into a directory
    Man {
        /// The directory, as in /usr/local/share/man/man1
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Measure this host
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}
