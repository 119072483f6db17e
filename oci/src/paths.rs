//! Which paths may go into a spec.
//!
//! A spec is executed by root: a path in it must mean the same to everybody who reads it, so it is absolute, spelled in
//! one way and free of `..`. Symbolic links are the runtime's business.

use std::path::{Component, Path};

/// The path in its one spelling, without `.`, doubled or trailing slashes; or what is wrong with it.
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
    Ok(clean)
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
    fn a_sibling_with_a_longer_name_is_not_below() {
        assert!(is_below("/dev/shm", "/dev"));
        assert!(!is_below("/device", "/dev"));
        assert!(!is_below("/dev", "/dev"));
    }
}
