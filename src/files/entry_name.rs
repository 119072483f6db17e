//! The name of an entry in an archive that a client sends.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// The path that a name means beneath the directory that it is unpacked into: empty for that directory itself. `None` for
/// a name that leaves it. A `/` at the beginning has no meaning.
pub(super) fn beneath(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match path.pop() {
                true => {}
                false => return None,
            },
            name => path.push(OsStr::from_bytes(name)),
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_a_path_beneath_the_directory_or_nothing() {
        for (name, path) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/x", Some("etc/x")),
            ("a/../b", Some("b")),
            (".", Some("")),
            ("", Some("")),
            ("..", None),
            ("a/../../b", None),
            ("/../etc", None),
        ] {
            assert_eq!(
                beneath(name.as_bytes()).as_deref(),
                path.map(Path::new),
                "{name:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_directory(name in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a')], 0..12)) {
            if let Some(path) = beneath(&name) {
                prop_assert!(path.is_relative());
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
