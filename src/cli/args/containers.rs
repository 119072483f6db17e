//! What the commands about containers are told.

use clap::{Args, Subcommand};

use crate::ContainerId;

/// What `ps` is told.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct PsArgs {
    /// Those that have ended too
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
    pub(in crate::cli) ids: Vec<ContainerId>,
    /// All that there are
    #[arg(long, short, conflicts_with = "ids")]
    pub(in crate::cli) all: bool,
    /// Kill those that still run
    #[arg(long, short)]
    pub(in crate::cli) force: bool,
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
        ids: Vec<ContainerId>,
    },
    /// Remove containers and all that belongs to them
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove the containers that have ended, but for those that somebody waits for
    Prune {
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
}
