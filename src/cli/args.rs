//! The command line as data. The help texts are the manual, so they teach.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use super::network::{Dirs, NetworkCommand};
use super::run_args::RunArgs;
use crate::{CgroupDriver, ContainerId, Namespace};

/// Runs function containers on containerd: limits, freezing in microseconds, clean endings.
#[derive(Debug, Parser)]
#[command(
    name = "fnctr",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Which containerd, and how to print.
#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// containerd's socket. Without it: CONTAINERD_ADDRESS, then the system's socket, else a private containerd
    #[arg(
        long,
        global = true,
        env = "CONTAINERD_ADDRESS",
        value_name = "SOCKET",
        hide_env_values = true
    )]
    pub(super) address: Option<String>,
    /// Use a private containerd, started when needed and stopped by its last user, even if the system has one
    #[arg(long, global = true)]
    pub(super) embedded: bool,
    /// Where the private containerd keeps everything [default: /var/lib/fnctr and /run/fnctr]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// containerd namespace that holds fnctr's containers and images
    #[arg(long, global = true, default_value = "fnctr", value_name = "NAME")]
    pub(super) namespace: Namespace,
    /// OCI runtime, a name on containerd's PATH or a path [default: runc]
    #[arg(long, global = true, value_name = "BINARY")]
    pub(super) runtime: Option<String>,
    /// The init that becomes PID 1 of containers [default: tini-static or docker-init, wherever they are]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) init: Option<PathBuf>,
    /// Parent of the containers' cgroups: a path, or a slice of systemd such as functions.slice [default: /fnctr, or one of its
    /// own for the private containerd of a --root]
    #[arg(long, global = true, value_name = "CGROUP")]
    pub(super) cgroup_parent: Option<String>,
    /// Who makes the containers' cgroups; probe is systemd where it is there to be asked. `fnctr doctor` tells
    #[arg(
        long,
        global = true,
        env = "FNCTR_CGROUP_DRIVER",
        default_value = "cgroupfs",
        value_name = "DRIVER",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(CgroupDriver::NAMES).try_map(|name| name.parse::<CgroupDriver>())
    )]
    pub(super) cgroup_driver: CgroupDriver,
    /// Directory that describes registries: mirrors, certificates, headers, as containerd's certs.d
    #[arg(
        long,
        global = true,
        default_value = "/etc/containerd/certs.d",
        value_name = "DIR"
    )]
    pub(super) hosts_dir: PathBuf,
    /// Ask this registry without TLS; those on this machine are anyway
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub(super) plain_http: Vec<String>,
    #[command(flatten)]
    pub(super) networks: Dirs,
    /// Print JSON, one value per line
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a function's container to its end, or start it with --detach
    ///
    /// By default it runs as uid 1000, without capabilities, without a network, under an init, and its output is
    /// streamed. Exits with the function's own code, 124 after --timeout, 137 when memory ran out, 125 when fnctr
    /// itself failed, 128 + N when signal N ended it (141: nobody read the output any more).
    #[command(after_help = "Examples:\n  fnctr run busybox echo hello\n  \
        fnctr run --memory 64m --cpus 0.5 --pids 20 --read-only busybox sh -c 'free -m'\n  \
        echo data | fnctr run -i busybox wc -c")]
    Run(Box<RunArgs>),
    /// List containers
    Ps,
    /// Show everything about one container, as JSON
    Inspect {
        /// The container
        id: ContainerId,
    },
    /// Show what containers use, live: CPU, memory, processes, network, disks, throttling, pressure, time frozen
    ///
    /// Reads twice a half second apart, shows the difference, and goes on once a second until Ctrl-C, or until the last
    /// container that was named has ended. In a terminal the table is redrawn in place, and columns that do not fit are
    /// left out; anywhere else each round is printed below the one before. A dash is what this host cannot tell.
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
        ids: Vec<ContainerId>,
        /// Print one round and end; it takes the half second between two readings, for a rate needs both
        #[arg(long)]
        once: bool,
    },
    /// Stop every process of a container until it is thawed; costs microseconds
    Freeze {
        /// The container
        id: ContainerId,
        /// Then take back the memory that it can do without; it is fetched again when it is needed
        #[arg(long)]
        reclaim: bool,
    },
    /// Let a frozen container go on
    Thaw {
        /// The container
        id: ContainerId,
    },
    /// Send a signal to a container; SIGKILL reaches every process, frozen or not
    Kill {
        /// The container
        id: ContainerId,
        /// The signal, by name or number
        #[arg(long, short, default_value = "KILL", value_parser = super::containers::parse_signal)]
        signal: u32,
    },
    /// Remove containers and all that belongs to them
    Rm {
        /// The containers
        #[arg(required = true)]
        ids: Vec<ContainerId>,
        /// Kill those that still run
        #[arg(long, short)]
        force: bool,
    },
    /// Remove orphaned containers: those whose `fnctr run`, without --detach, was killed before it could remove them
    ///
    /// `fnctr ps` marks them. Containers that were started with --detach stay, and so do those of a platform.
    Prune,
    /// Pull an image from its registry
    ///
    /// Credentials come from FN_DOCKER_AUTH (a docker configuration as JSON), else from the docker configuration file and
    /// its credential helpers. What an interrupted pull has fetched is kept for ten minutes: the next one goes on with it.
    #[command(
        after_help = "Examples:\n  fnctr pull busybox\n  fnctr pull --platform linux/arm/v7 r.corp:5000/team/fn:2\n  \
        fnctr pull --username bob --password-stdin r.corp/team/fn <password-file"
    )]
    Pull(PullArgs),
    /// Load the images of an archive: docker-archive (docker save) or OCI layout, also gzip-compressed
    Load {
        /// The archive; - is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Save images as an archive, which `docker load`, containerd, skopeo and `fnctr load` read
    Save {
        /// The archive; - is standard output
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        output: PathBuf,
        /// What reads it; docker is an OCI layout too
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
    Rmi {
        /// Also what a container uses, which goes on, and all names of an id
        #[arg(long, short)]
        force: bool,
        /// Names or ids of images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// List images
    Images {
        /// Print ids alone
        #[arg(long, short)]
        quiet: bool,
    },
    /// Look closer at images, or remove those that no container uses
    Image {
        #[command(subcommand)]
        what: ImageCommand,
    },
    /// List, show, configure and remove networks
    Network {
        #[command(subcommand)]
        what: NetworkCommand,
    },
    /// Check this host: each line is ok, or says what is wrong and the command that mends it
    Doctor,
    /// Measure this host
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

/// What reads a saved archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SaveFormat {
    /// docker load, and what reads OCI layouts
    Docker,
    /// What reads OCI layouts
    Oci,
}

/// What to do with images.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ImageCommand {
    /// Print all that is known of images, as JSON
    Inspect {
        /// Names or ids of images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Remove every image that no container uses
    Prune,
}

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Bench {
    /// Freeze and thaw: through the driver, by the bare kernel write, and by containerd's Pause; interleaved
    Freeze {
        /// Processes in the container
        #[arg(long, default_value_t = 1)]
        procs: u32,
        /// Freezes and thaws of each kind
        #[arg(long, default_value_t = 500)]
        rounds: u32,
        /// The image; needs sh and sleep
        #[arg(long, default_value = "busybox")]
        image: String,
    },
    /// What idle containers cost this process, each, with statistics and without; and a life's time beside them
    Idle {
        /// Containers at once; a runc shim takes some 15 MB for each
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
        containers: u32,
        /// For how long processor time is counted
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "S")]
        seconds: u32,
        /// The image; needs sleep and /bin/true
        #[arg(long, default_value = "busybox")]
        image: String,
    },
    /// What a sandbox on a network costs, and the share of each plugin; and what it costs to take one that is prepared
    Network {
        /// The network
        #[arg(default_value = "fnctr")]
        network: String,
        /// Sandboxes made and removed
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Takers at once of a pool of as many, a thousand times each
        #[arg(long, default_value_t = 16)]
        takers: usize,
    },
    /// create → run → wait → close of /bin/true, beside the containerd calls it needs, sent bare; interleaved
    Lifecycle {
        /// Lives of each kind
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Containers at once, in a last round that is not timed; 0 leaves it out
        #[arg(long, default_value_t = 0)]
        parallel: u32,
        /// Interleave lives on this network with those on none
        #[arg(long, value_name = "NETWORK")]
        network: Option<String>,
        /// For those, prepare so many network namespaces
        #[arg(long, default_value_t = 0, requires = "network", value_name = "N")]
        pool: u64,
        /// Hold each of them with a container of the image, not with a pin
        #[arg(long, requires = "pool")]
        holder: bool,
        /// The image; needs /bin/true
        #[arg(long, default_value = "busybox")]
        image: String,
    },
}

/// An image to pull.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// For which machines, as in linux/arm/v7 [default: this one's]
    #[arg(long, value_parser = super::pull::parse_platform, value_name = "PLATFORM")]
    pub(super) platform: Option<crate::engine::Platform>,
    /// Print the image's name and digest alone
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// User name at the registry
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(super) username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(super) password_stdin: bool,
    /// The image
    pub(super) image: String,
}
