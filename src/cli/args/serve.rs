//! The options of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// What `serve` offers beside looking after containers.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ServeArgs {
    /// Serve Docker's Engine API on this socket, for clients such as docker with DOCKER_HOST=unix://SOCKET; fd:// is the
    /// socket that systemd passes
    #[arg(long, value_name = "SOCKET")]
    pub(in crate::cli) docker_socket: Option<PathBuf>,
    /// The group, by name or number, whose members may use the socket, and so the whole host [default: root alone]
    #[arg(long, value_name = "GROUP", requires = "docker_socket")]
    pub(in crate::cli) docker_group: Option<String>,
    /// Serve the numbers of this process for Prometheus at http://ADDRESS/metrics, to whoever can reach the address, such as
    /// 127.0.0.1:9323
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::cli) metrics_addr: Option<SocketAddr>,
}
