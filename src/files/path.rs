//! A path in a container, as a client names it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// An absolute path without `.` and `..`, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerPath {
    absolute: PathBuf,
    end: End,
}

/// The end of a path, which means what is behind a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A name, of a link itself if it is one.
    Name,
    /// `/`: a directory.
    Slash,
    /// `/.`: what is in a directory.
    Dot,
}

impl ContainerPath {
    /// Reads a path; one that does not begin with `/` begins at the root. `..` is taken by its text, as Docker does.
    pub(crate) fn new(text: &str) -> Self {
        let mut absolute = PathBuf::from("/");
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(absolute.pop()),
                name => absolute.push(name),
            }
        }
        let end = match text.rsplit('/').next() {
            Some(".") => End::Dot,
            Some("") if !text.is_empty() => End::Slash,
            _ => End::Name,
        };
        Self { absolute, end }
    }

    /// The path, without what its end means.
    pub(crate) fn as_path(&self) -> &Path {
        &self.absolute
    }

    /// Whether a link at its end is followed: behind it is what the path means.
    pub(super) fn is_followed(&self) -> bool {
        self.end != End::Name || self.is_root()
    }

    /// Whether a directory is meant.
    pub(super) fn must_be_directory(&self) -> bool {
        self.is_followed()
    }

    pub(super) fn is_root(&self) -> bool {
        self.absolute == Path::new("/")
    }

    /// The last name: `/` of the root, and `.` of a path that ends in it.
    pub(crate) fn base(&self) -> &OsStr {
        match (self.end, self.absolute.file_name()) {
            (End::Dot, Some(_)) => OsStr::new("."),
            (_, Some(name)) => name,
            (_, None) => OsStr::new("/"),
        }
    }

    /// What its names in an archive begin with, unless the caller wants others: those in the root begin with `/` alone, which
    /// clients replace by what they like.
    pub(crate) fn archived(&self) -> &OsStr {
        match self.is_root() {
            true => OsStr::new(""),
            false => self.base(),
        }
    }

    /// The path as text, for messages.
    pub(super) fn bytes(&self) -> &[u8] {
        self.absolute.as_os_str().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_keeps_what_its_end_means() {
        for (text, absolute, base, is_followed) in [
            ("/etc/passwd", "/etc/passwd", "passwd", false),
            ("etc/passwd", "/etc/passwd", "passwd", false),
            ("/etc/", "/etc", "etc", true),
            ("/etc/.", "/etc", ".", true),
            ("/a/../../b", "/b", "b", false),
            ("/", "/", "/", true),
            ("", "/", "/", true),
            (".", "/", "/", true),
            ("//a//b", "/a/b", "b", false),
        ] {
            let path = ContainerPath::new(text);
            assert_eq!(
                (path.as_path(), path.base(), path.is_followed()),
                (Path::new(absolute), OsStr::new(base), is_followed),
                "{text:?}"
            );
        }
    }
}
