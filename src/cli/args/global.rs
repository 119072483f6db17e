//! The options that every command has: which containerd to use, where files are, and how to print. Each can also be set
//! in the environment, and under its own name in the configuration file (see `cli::config`).

use std::path::PathBuf;

use clap::Args;
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser as _};

use crate::{CgroupDriver, Namespace};

/// The configuration file, unless `--config` or FNCTR_CONFIG names another. The file may be missing.
pub(in crate::cli) const FILE: &str = "/etc/fnctr/config.toml";

/// The heading of these options in a command's help, below the command's own options.
pub(in crate::cli) const HEADING: &str = "Global options";

/// Which containerd, and how to print.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = HEADING)]
pub(in crate::cli) struct Global {
    /// File of these options, such as `embedded = true`; what is given here or in the environment wins
    #[arg(long, global = true, env = "FNCTR_CONFIG", default_value = FILE, value_name = "FILE", hide_env_values = true)]
    pub(in crate::cli) config: PathBuf,
    /// containerd's socket. Without it: CONTAINERD_ADDRESS, then the system's socket, else a private containerd
    #[arg(
        long,
        global = true,
        env = "CONTAINERD_ADDRESS",
        value_name = "SOCKET",
        hide_env_values = true
    )]
    pub(in crate::cli) address: Option<String>,
    /// Use a private containerd, started when needed and stopped by its last user, even if the system has one
    #[arg(long, global = true, env = "FNCTR_EMBEDDED", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(in crate::cli) embedded: bool,
    /// Where the private containerd keeps everything [default: /var/lib/fnctr and /run/fnctr]
    #[arg(
        long,
        global = true,
        env = "FNCTR_ROOT",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(in crate::cli) root: Option<PathBuf>,
    /// containerd namespace that holds fnctr's containers and images
    #[arg(
        long,
        global = true,
        env = "FNCTR_NAMESPACE",
        default_value = "fnctr",
        value_name = "NAME",
        hide_env_values = true
    )]
    pub(in crate::cli) namespace: Namespace,
    /// OCI runtime, a name on containerd's PATH or a path [default: runc]
    #[arg(
        long,
        global = true,
        env = "FNCTR_RUNTIME",
        value_name = "BINARY",
        hide_env_values = true
    )]
    pub(in crate::cli) runtime: Option<String>,
    /// The init that becomes PID 1 of containers [default: tini-static or docker-init, wherever they are]
    #[arg(
        long,
        global = true,
        env = "FNCTR_INIT_PATH",
        value_name = "PATH",
        hide_env_values = true
    )]
    pub(in crate::cli) init_path: Option<PathBuf>,
    /// Parent of the containers' cgroups: a path, or a slice of systemd such as functions.slice [default: /fnctr, or
    /// one of its own for the private containerd of a --root]
    #[arg(
        long,
        global = true,
        env = "FNCTR_CGROUP_PARENT",
        value_name = "CGROUP",
        hide_env_values = true
    )]
    pub(in crate::cli) cgroup_parent: Option<String>,
    /// Who makes the containers' cgroups; probe is systemd where it can be used. `fnctr doctor` shows which
    #[arg(
        long,
        global = true,
        env = "FNCTR_CGROUP_DRIVER",
        default_value = "cgroupfs",
        value_name = "DRIVER",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(CgroupDriver::NAMES).try_map(|name| name.parse::<CgroupDriver>())
    )]
    pub(in crate::cli) cgroup_driver: CgroupDriver,
    /// Directory that describes registries: mirrors, certificates, headers, as containerd's certs.d
    #[arg(
        long,
        global = true,
        env = "FNCTR_HOSTS_DIR",
        default_value = "/etc/containerd/certs.d",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(in crate::cli) hosts_dir: PathBuf,
    /// Contact this registry without TLS, as is always done for registries on this machine
    #[arg(
        long,
        global = true,
        env = "FNCTR_PLAIN_HTTP",
        value_delimiter = ',',
        value_name = "HOST[:PORT]",
        hide_env_values = true
    )]
    pub(in crate::cli) plain_http: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) networks: Dirs,
    /// Print JSON, one value per line
    #[arg(long, global = true, env = "FNCTR_JSON", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(in crate::cli) json: bool,
}

/// Where networks are configured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = HEADING)]
pub(in crate::cli) struct Dirs {
    /// Directory of CNI network configurations; fnctr writes its own to the first [default: /etc/fnctr/net.d,
    /// /etc/cni/net.d]
    #[arg(
        long,
        global = true,
        env = "FNCTR_CNI_CONFIG_DIR",
        value_delimiter = ',',
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(in crate::cli) cni_config_dir: Vec<PathBuf>,
    /// Directory of CNI plugins [default: /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni]
    #[arg(
        long,
        global = true,
        env = "FNCTR_CNI_PLUGIN_DIR",
        value_delimiter = ',',
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(in crate::cli) cni_plugin_dir: Vec<PathBuf>,
}
