//! The arguments of the commands about volumes, and the value of `--volume` of `run`.

use std::path::PathBuf;

use clap::Subcommand;

use super::values;
use crate::engine::{VolumeName, VolumeUse};

/// What to do about volumes.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum VolumeCommand {
    /// List volumes, with the containers that use each
    Ls {
        /// Print names alone
        #[arg(long, short)]
        quiet: bool,
        /// Only those with this name (or a part of it) or label, or dangling=true: those that no container uses
        #[arg(long, short, value_name = "KEY=VALUE")]
        filter: Vec<String>,
    },
    /// Show volumes, as JSON
    Inspect {
        /// Their names
        #[arg(required = true)]
        names: Vec<VolumeName>,
    },
    /// Make a volume; one that is there stays as it is
    #[command(after_help = "Examples:\n  fnctr volume create data\n  \
        fnctr volume create --opt type=none --opt o=bind --opt device=/srv/data data")]
    Create {
        /// Its name [default: made up]
        name: Option<VolumeName>,
        /// Label of the volume
        #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::label)]
        label: Vec<(String, String)>,
        /// Option, as of docker's driver local: type=none, o=bind and device=DIRECTORY keep the files in a directory of
        /// this host
        #[arg(long, short, value_name = "NAME=VALUE", value_parser = values::named)]
        opt: Vec<(String, String)>,
        /// The kind of volume; there is only one
        #[arg(long, short, value_name = "KIND", default_value = "local", value_parser = ["local"])]
        driver: String,
    },
    /// Remove volumes with their files; not one that a container uses
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<VolumeName>,
        /// One that is not there is no failure
        #[arg(long, short)]
        force: bool,
    },
    /// Remove the volumes without a name that no container uses
    Prune {
        /// Those with a name, too
        #[arg(long, short)]
        all: bool,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
    },
}

/// The value of `--volume`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum VolumeArg {
    /// A directory or file of the host, and its place in the container with the mode, where the driver reads it.
    Host(PathBuf, String),
    /// A volume.
    Volume(VolumeUse),
}

/// Parses `SOURCE:DEST[:MODE]`, and a lone `DEST`. As in Docker, a source that is not a path is the name of a volume, and a lone
/// path gets one without a name.
pub(in crate::cli) fn volume(text: &str) -> Result<VolumeArg, String> {
    let (bare, mode) = match text.rsplit_once(':') {
        Some((bare, mode)) if !mode.starts_with('/') && bare.contains(":/") => (bare, Some(mode)),
        _ => (text, None),
    };
    let options = mode.map(VolumeMode::read).transpose()?;
    let mode = options.unwrap_or_default();
    let used = match bare.rsplit_once(':') {
        None if bare.starts_with('/') => VolumeUse::anonymous(bare),
        Some((name, dest)) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {
            if !dest.starts_with('/') {
                return Err(format!(
                    "{text:?}: {dest:?} is not an absolute path in the container"
                ));
            }
            let name: VolumeName = name.parse().map_err(|why| format!("{name:?}: {why}"))?;
            VolumeUse::new(name, dest)
        }
        _ => {
            let (source, dest) = values::pair(bare)?;
            let dest = match options {
                None => dest,
                Some(VolumeMode { readonly: true, .. }) => format!("{dest}:ro"),
                Some(VolumeMode { readonly: false, .. }) => format!("{dest}:rw"),
            };
            return Ok(VolumeArg::Host(source, dest));
        }
    };
    Ok(VolumeArg::Volume(VolumeUse {
        readonly: mode.readonly,
        is_filled: !mode.is_not_filled,
        ..used
    }))
}

/// Docker's options for a mount.
#[derive(Debug, Clone, Copy, Default)]
struct VolumeMode {
    readonly: bool,
    is_not_filled: bool,
}

impl VolumeMode {
    fn read(options: &str) -> Result<Self, String> {
        let mut this = Self::default();
        for option in options.split(',') {
            match option {
                "ro" => this.readonly = true,
                "nocopy" => this.is_not_filled = true,
                // These have no effect here: the default, or options for SELinux, or for docker's virtual machine.
                "rw" | "z" | "Z" | "cached" | "consistent" | "delegated" => {}
                _ => {
                    return Err(format!(
                        "{option:?} is not an option of a volume; there are ro, rw and nocopy"
                    ));
                }
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_of_the_host_or_the_name_of_a_volume() {
        let host = |source: PathBuf, dest: &str| VolumeArg::Host(source, dest.to_owned());
        assert_eq!(volume("/a:/b:ro").unwrap(), host("/a".into(), "/b:ro"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(volume("./a:/b").unwrap(), host(here.join("a"), "/b"));
        assert_eq!(volume("a/b:/b").unwrap(), host(here.join("a/b"), "/b"));
        let used = |text: &str| match volume(text).unwrap() {
            VolumeArg::Volume(used) => used,
            VolumeArg::Host(source, _) => panic!("{text}: {source:?}"),
        };
        let data = VolumeUse::new("data".parse().unwrap(), "/b");
        assert_eq!(used("data:/b"), data);
        let readonly = VolumeUse {
            readonly: true,
            is_filled: false,
            ..data
        };
        assert_eq!(used("data:/b:ro,nocopy"), readonly);
        assert!(used("/b").is_anonymous());
        for (text, said) in [
            ("data:b", "\"b\" is not an absolute path"),
            ("d a:/b", "includes invalid characters"),
            ("data:/b:shared", "there are ro, rw and nocopy"),
            ("b", "SOURCE:DEST"),
            ("/b:ro", "SOURCE:DEST"),
        ] {
            let why = volume(text).unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}
