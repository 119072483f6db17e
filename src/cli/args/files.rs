//! The arguments of `cp`.

use std::str::FromStr;

use clap::Args;

use crate::cli::container_ref::ContainerRef;

/// What to copy, and where to.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct CpArgs {
    /// A path here, CONTAINER:PATH, or - for an archive on standard input. A directory that ends in /. is its content
    #[arg(value_name = "SOURCE")]
    pub(in crate::cli) source: Place,
    /// A path here, CONTAINER:PATH, or - for an archive on standard output
    #[arg(value_name = "DESTINATION")]
    pub(in crate::cli) destination: Place,
    /// From a container: keep the user and group of each file. To a container: give it the user and group of the container's
    /// process, and not those that it has here
    #[arg(long, short)]
    pub(in crate::cli) archive: bool,
    /// Copy what a link leads to, and not the link
    #[arg(long, short = 'L')]
    pub(in crate::cli) follow_link: bool,
    /// Print nothing, which is always so
    #[arg(long, short, hide = true)]
    pub(in crate::cli) quiet: bool,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Place {
    /// A path of this host.
    Here(String),
    /// A path of a container.
    In(ContainerRef, String),
    /// An archive that is read or written as it is.
    Stream,
}

impl FromStr for Place {
    type Err = String;

    /// As docker reads it: what begins with `/` or `.` is here, whatever follows.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.split_once(':')) {
            ("", _) => Err("a path is empty".to_owned()),
            ("-", _) => Ok(Self::Stream),
            (_, Some((container, path))) if !text.starts_with(['/', '.']) => {
                if path.is_empty() {
                    return Err(format!("{text:?} needs a path behind the colon"));
                }
                let container = container.parse().map_err(|error| format!("{error}"))?;
                Ok(Self::In(container, path.to_owned()))
            }
            _ => Ok(Self::Here(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_docker_reads_it() {
        for here in ["/a:b", "./a:b", "../x", "a", "/"] {
            assert_eq!(here.parse(), Ok(Place::Here(here.to_owned())));
        }
        let web: ContainerRef = "web".parse().unwrap();
        assert_eq!("web:/etc".parse(), Ok(Place::In(web.clone(), "/etc".to_owned())));
        assert_eq!("web:a:b".parse(), Ok(Place::In(web, "a:b".to_owned())));
        assert_eq!("-".parse(), Ok(Place::Stream));
        for bad in ["", "web:", ":/x"] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }
}
