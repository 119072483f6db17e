//! The arguments of `bench`.

use clap::Subcommand;

use crate::ByteSize;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum Bench {
    /// Compare delivery of a container's output to one reader and to many, in alternating rounds
    Attach {
        /// Readers in the rounds with many readers
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10000), value_name = "N")]
        readers: u32,
        /// How much the container writes
        #[arg(long, default_value = "50m", value_name = "BYTES")]
        bytes: ByteSize,
        /// Containers per number of readers
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// The image; needs head
        #[arg(long, default_value = "busybox")]
        image: String,
    },
    /// Freeze and thaw: through the driver, by the bare kernel write, and by containerd's Pause; interleaved
    Freeze {
        /// Processes in the container
        #[arg(long, default_value_t = 1)]
        procs: u32,
        /// Freezes and thaws per method
        #[arg(long, default_value_t = 500)]
        rounds: u32,
        /// The image; needs sh and sleep
        #[arg(long, default_value = "busybox")]
        image: String,
    },
    /// What each idle container costs this process, with and without statistics, and how long another container's life
    /// cycle takes meanwhile
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
    /// How long a sandbox on a network takes, with the share of each plugin; and how long it takes to get a prepared
    /// one
    Network {
        /// The network
        #[arg(default_value = "fnctr")]
        network: String,
        /// Sandboxes made and removed
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Tasks that take from a pool at once, a thousand times each
        #[arg(long, default_value_t = 16)]
        takers: usize,
    },
    /// How long a server takes to restore all containers, what it costs while it is idle, and how fast it lists and
    /// finds containers
    Server {
        /// Containers that have ended
        #[arg(long, default_value_t = 1000, value_name = "N")]
        stopped: u32,
        /// Containers that run; a runc shim takes some 15 MB for each
        #[arg(long, default_value_t = 200, value_name = "N")]
        running: u32,
        /// For how long processor time is counted
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "S")]
        seconds: u32,
        /// The image; needs sleep and /bin/true
        #[arg(long, default_value = "busybox")]
        image: String,
    },
    /// create → run → wait → close of /bin/true, and the share of the containerd calls in it
    Lifecycle {
        /// Life cycles to measure; with --network, as many again on the network
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Containers to run at once in a final round; 0 skips that round
        #[arg(long, default_value_t = 0)]
        parallel: u32,
        /// Alternate with life cycles on this network
        #[arg(long, value_name = "NETWORK")]
        network: Option<String>,
        /// Prepare this many network namespaces for the life cycles on the network
        #[arg(long, default_value_t = 0, requires = "network", value_name = "N")]
        pool: u64,
        /// Keep a container of the image running in each prepared network namespace
        #[arg(long, requires = "pool")]
        holder: bool,
        /// The image; needs /bin/true
        #[arg(long, default_value = "busybox")]
        image: String,
    },
}
