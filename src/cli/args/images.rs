//! The arguments of the commands about images.

use clap::{Args, Subcommand};

use super::values;

/// The options of `images`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ImagesArgs {
    /// Print ids alone
    #[arg(long, short, conflicts_with = "format")]
    pub(in crate::cli) quiet: bool,
    /// Only those with this reference (a name, in which * is anything but a slash) or label, or without a name
    /// (dangling=true)
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(in crate::cli) filter: Vec<String>,
    /// A template such as '{{.Repository}}:{{.Tag}} {{.Size}}', with `table ` before it for columns, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub(in crate::cli) format: Option<String>,
    /// Ids in full
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,
}

/// The programs that can read a saved archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum SaveFormat {
    /// docker load, and programs that read OCI layouts
    Docker,
    /// Programs that read OCI layouts
    Oci,
}

/// Images to remove.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RmiArgs {
    /// Also images that a container uses (it keeps running), and all names of an id
    #[arg(long, short)]
    pub(in crate::cli) force: bool,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    pub(in crate::cli) images: Vec<String>,
}

/// What to do with images.
#[derive(Debug, Clone, Subcommand)]
pub(in crate::cli) enum ImageCommand {
    /// Print all that is known of images, as JSON
    Inspect {
        /// Names or ids of images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// List images, as `fnctr images`
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Remove names of images, and an image with its last name, as `fnctr rmi`
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Remove images that have no name and are used by no container
    Prune {
        /// Also those that have names
        #[arg(long, short)]
        all: bool,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
}

/// An image to pull.
#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// For which machines, as in linux/arm/v7 [default: this one's]
    #[arg(long, value_parser = values::platform, value_name = "PLATFORM")]
    pub(in crate::cli) platform: Option<crate::engine::Platform>,
    /// Print the image's name and digest alone
    #[arg(long, short)]
    pub(in crate::cli) quiet: bool,
    /// User name at the registry
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(in crate::cli) username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(in crate::cli) password_stdin: bool,
    /// The image
    pub(in crate::cli) image: String,
}
