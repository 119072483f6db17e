//! The options of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::values;

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
    /// The logging driver of containers of the Docker API whose makers name none: json-file keeps their output in files for
    /// `logs`, syslog sends it to a server, none does neither
    #[arg(
        long,
        value_name = "DRIVER",
        requires = "docker_socket",
        default_value = "json-file"
    )]
    pub(in crate::cli) log_driver: String,
    /// An option of that driver, such as max-size=10m or max-file=3; more may be given
    #[arg(long, value_name = "NAME=VALUE", requires = "docker_socket", value_parser = values::named)]
    pub(in crate::cli) log_opt: Vec<(String, String)>,
    /// Keep this many network namespaces of the default bridge ready, at most 500: a container of the Docker API that is on
    /// it, without published ports, then waits for none to be made. Each serves one container
    #[arg(long, value_name = "COUNT", requires = "docker_socket", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(in crate::cli) network_pool: Option<u16>,
    /// Let each namespace that is ready serve one container after another, with the same address; this saves making a new one
    #[arg(long, requires = "network_pool")]
    pub(in crate::cli) network_pool_reuse: bool,
    /// Serve the numbers of this process for Prometheus at http://ADDRESS/metrics, to whoever can reach the address, such as
    /// 127.0.0.1:9323
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::cli) metrics_addr: Option<SocketAddr>,
}
