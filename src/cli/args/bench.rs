//! The arguments of `bench`.

use clap::Subcommand;

use crate::ByteSize;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum Bench {
    /// How long a container's output takes to reach one reader and many; interleaved
    Attach {
        /// The number of readers beside the one
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10000), value_name = "N")]
        readers: u32,
        /// How much the container writes
        #[arg(long, default_value = "50m", value_name = "BYTES")]
        bytes: ByteSize,
        /// Containers of each kind
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
        /// Freezes and thaws of each kind
        #[arg(long, default_value_t = 500)]
        rounds: u32,
        /// The image; needs sh and sleep
        #[arg(long, default_value = "busybox")]
        image: String,
    },
    /// What each idle container costs this process, with and without statistics; and how long a life takes meanwhile
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
    /// How long a server takes to restore every container, what it costs, and how fast it lists and finds them
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
        /// Lives, and as many more with --network
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Containers at once, in a last round; 0 leaves it out
        #[arg(long, default_value_t = 0)]
        parallel: u32,
        /// Interleave them with lives on this network
        #[arg(long, value_name = "NETWORK")]
        network: Option<String>,
        /// Prepare this many network namespaces for those
        #[arg(long, default_value_t = 0, requires = "network", value_name = "N")]
        pool: u64,
        /// Hold each prepared namespace with a container of the image, not with a pin
        #[arg(long, requires = "pool")]
        holder: bool,
        /// The image; needs /bin/true
        #[arg(long, default_value = "busybox")]
        image: String,
    },
}
