//! Notations in the contract's fields that every driver reads alike: lists of archives and networks, the destination of
//! a volume, the tag of a log.

use std::path::Path;

use super::{Error, ErrorKind, LoggerTag};

/// A volume of a task that cannot be mounted as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidVolume {
    #[error("volume {destination:?} of the task must be an absolute path in the container")]
    Relative { destination: String },
    #[error(
        "volume {destination:?} of the task has the mode {mode:?}, and only \"ro\" and \"rw\" are \
         supported: a path in the container cannot contain ':'"
    )]
    Mode { destination: String, mode: String },
}

/// Splits the destination of a volume into the path and whether it is read-only. It may end in a mode, as Docker and Fn
/// write it.
pub(crate) fn volume(destination: String) -> Result<(String, bool), InvalidVolume> {
    let (path, readonly) = match destination.split_once(':') {
        None => (destination.as_str(), false),
        Some((path, "ro")) => (path, true),
        Some((path, "rw")) => (path, false),
        Some((_, mode)) => {
            let mode = mode.to_owned();
            return Err(InvalidVolume::Mode { destination, mode });
        }
    };
    if !path.starts_with('/') {
        return Err(InvalidVolume::Relative { destination });
    }
    Ok((path.to_owned(), readonly))
}

/// The archives of `docker_load_file`: as in Fn, either one path that may contain spaces, or several paths separated by
/// white space.
pub(crate) fn archives(list: &str) -> Vec<&Path> {
    let whole = Path::new(list.trim());
    if whole.is_file() {
        return vec![whole];
    }
    list.split_whitespace().map(Path::new).collect()
}

/// The networks of `docker_networks`, separated by white space.
///
/// # Errors
/// Of kind [`ErrorKind::InvalidConfig`] if `host` or `none` is one of several: these are no networks to choose from.
pub(crate) fn networks(list: &str) -> Result<Vec<String>, Error> {
    let networks: Vec<_> = list.split_whitespace().map(str::to_owned).collect();
    let lone = networks
        .iter()
        .find(|name| ["host", "none"].contains(&name.as_str()));
    if let Some(lone) = lone
        && networks.len() > 1
    {
        let text = format!(
            "docker_networks: {lone} is not a network to choose from by use; list it alone, or only networks"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    Ok(networks)
}

/// The tag of a log, `name=value,…`; `None` without tags.
pub(crate) fn log_tag(tags: &[LoggerTag]) -> Option<String> {
    let pairs: Vec<_> = tags
        .iter()
        .map(|LoggerTag { name, value }| format!("{name}={value}"))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_may_have_spaces_in_its_path_and_several_are_separated_by_them() {
        let dir = tempfile::tempdir().unwrap();
        let spaced = dir.path().join("two words.tar");
        std::fs::write(&spaced, b"").unwrap();
        assert_eq!(archives(spaced.to_str().unwrap()), [spaced.as_path()]);
        assert_eq!(
            archives(" /a.tar\n/b.tar "),
            [Path::new("/a.tar"), Path::new("/b.tar")]
        );
        assert!(archives("").is_empty());
    }
}
