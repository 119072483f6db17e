//! The paths that are allowed in a spec.
//!
//! A spec is executed by root, so every reader must interpret its paths in the same way: a path is absolute, in one
//! canonical spelling and free of `..`. The runtime handles symbolic links.

use std::path::{Component, Path};

/// The longest name in a path (NAME_MAX).
const NAME_MAX: usize = 255;

/// The longest path that the kernel accepts (PATH_MAX), without the final NUL.
const PATH_MAX: usize = 4095;

/// The longest path in a container. The runtime reaches it through the root file system's path on the host, which has a
/// few hundred bytes with the longest possible names.
pub(crate) const INSIDE_MAX: usize = 3072;

/// Why the kernel would refuse a path for its length; the limit is lower for a path in a container than on the host.
pub(crate) fn too_long(path: &str, max: usize) -> Option<&'static str> {
    if path.split('/').any(|name| name.len() > NAME_MAX) {
        return Some("a name in it is longer than 255 bytes");
    }
    (path.len() > max).then_some(if max == INSIDE_MAX {
        "it is longer than 3072 bytes"
    } else {
        "it is longer than 4095 bytes"
    })
}

/// The path in its canonical spelling, without `.`, doubled or trailing slashes; or the reason why it is not usable.
pub(crate) fn absolute(path: &Path) -> Result<String, &'static str> {
    let text = path.to_str().ok_or("it is not UTF-8")?;
    if text.contains('\0') {
        return Err("it contains a NUL byte");
    }
    if !path.is_absolute() {
        return Err("it is not absolute");
    }
    let mut clean = String::with_capacity(text.len());
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                clean.push('/');
                clean.push_str(name.to_str().ok_or("it is not UTF-8")?);
            }
            Component::ParentDir => return Err("it contains '..'"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean.is_empty() {
        clean.push('/');
    }
    match too_long(&clean, PATH_MAX) {
        Some(why) => Err(why),
        None => Ok(clean),
    }
}

/// Whether `path` lies below `directory`, both in the spelling of [`absolute`].
pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (written, clean) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("//a/./b//", "/a/b"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(absolute(Path::new(written)), Ok(clean.to_owned()), "{written:?}");
        }
    }

    #[test]
    fn a_path_that_could_mean_something_else_is_refused() {
        for bad in ["", ".", "a/b", "../a", "/a/../b", "/..", "/a\0b"] {
            assert!(absolute(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_that_the_kernel_would_not_take_is_refused() {
        let of = |length: usize| "/abc".repeat(length / 4);
        assert!(absolute(Path::new(&of(4092))).is_ok());
        assert_eq!(
            absolute(Path::new(&of(4096))),
            Err("it is longer than 4095 bytes")
        );
        assert!(absolute(Path::new(&format!("/{}", "n".repeat(255)))).is_ok());
        let name = format!("/a/{}/b", "n".repeat(256));
        assert_eq!(
            absolute(Path::new(&name)),
            Err("a name in it is longer than 255 bytes")
        );
        assert_eq!(too_long(&of(3072), INSIDE_MAX), None);
        assert_eq!(
            too_long(&of(3076), INSIDE_MAX),
            Some("it is longer than 3072 bytes")
        );
    }

    #[test]
    fn a_sibling_with_a_longer_name_is_not_below() {
        assert!(is_below("/dev/shm", "/dev"));
        assert!(!is_below("/device", "/dev"));
        assert!(!is_below("/dev", "/dev"));
    }
}
