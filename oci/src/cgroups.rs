//! The container's cgroup path, in the notation of the runtime's cgroup driver.

use std::path::{Path, PathBuf};

use crate::config::Cgroup;
use crate::error::Error;
use crate::paths;

/// `PARENT/ID` for cgroupfs, `SLICE:PREFIX:ID` for systemd.
pub(crate) fn path(cgroup: &Cgroup) -> Result<Option<PathBuf>, Error> {
    let path = match cgroup {
        Cgroup::Unset => return Ok(None),
        Cgroup::Cgroupfs { parent, id } => {
            let clean = paths::absolute(Path::new(parent)).map_err(|why| Error::CgroupParent {
                parent: parent.clone(),
                why,
            })?;
            check_name(id)?;
            Path::new(&clean).join(id)
        }
        Cgroup::Systemd { slice, prefix, id } => {
            check_slice(slice).map_err(|why| Error::CgroupParent {
                parent: slice.clone(),
                why,
            })?;
            // An empty prefix is allowed: the unit is then named by the id alone.
            if !prefix.is_empty() {
                check_name(prefix)?;
            }
            check_name(id)?;
            check_unit(prefix, id)?;
            PathBuf::from(format!("{slice}:{prefix}:{id}"))
        }
    };
    Ok(Some(path))
}

/// Checks a name that is one directory, one field between colons, or one part of a unit's name.
fn check_name(name: &str) -> Result<(), Error> {
    let why = match name {
        "" => "it is empty",
        "." | ".." => "it is not a name",
        name if name.contains(['/', ':', '\0']) => "it contains '/', ':' or a NUL byte",
        _ => return Ok(()),
    };
    Err(Error::CgroupName {
        name: name.to_owned(),
        why,
    })
}

/// The longest name of a unit, without the final NUL (UNIT_NAME_MAX in systemd's source).
const MAX_UNIT: usize = 255;

/// The runtime creates the scope `PREFIX-ID.scope` from these, unescaped, so they must be valid in the name of a
/// systemd unit. runc treats an id that ends in `.slice` as the name of a slice, which cannot contain processes.
fn check_unit(prefix: &str, id: &str) -> Result<(), Error> {
    let unit = |c: char| c.is_ascii_alphanumeric() || "-_.\\@".contains(c);
    let why = if !prefix.chars().chain(id.chars()).all(unit) {
        "in the name of a systemd unit only letters, digits, '-', '_', '.', '\\' and '@' are allowed"
    } else if id.ends_with(".slice") {
        "it ends in '.slice', so it would be taken for a slice of systemd"
    } else if format!("{prefix}-{id}.scope").len() > MAX_UNIT {
        "it is longer than the name of a systemd unit may be"
    } else {
        return Ok(());
    };
    Err(Error::CgroupName {
        name: format!("{prefix}-{id}.scope"),
        why,
    })
}

/// Checks a slice. systemd reads `a-b.slice` as the slice `b` in the slice `a`; `-.slice` is the root.
fn check_slice(slice: &str) -> Result<(), &'static str> {
    let name = slice
        .strip_suffix(".slice")
        .ok_or("it does not end in '.slice'")?;
    if name.contains(['/', ':', '\0']) {
        return Err("it contains '/', ':' or a NUL byte");
    }
    if name != "-" && name.split('-').any(str::is_empty) {
        return Err("there is nothing before, after or between its '-'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroupfs(parent: &str, id: &str) -> Result<Option<PathBuf>, Error> {
        path(&Cgroup::Cgroupfs {
            parent: parent.into(),
            id: id.into(),
        })
    }

    fn systemd(slice: &str, prefix: &str, id: &str) -> Result<Option<PathBuf>, Error> {
        path(&Cgroup::Systemd {
            slice: slice.into(),
            prefix: prefix.into(),
            id: id.into(),
        })
    }

    #[test]
    fn each_driver_has_its_notation() {
        assert_eq!(path(&Cgroup::Unset), Ok(None));
        assert_eq!(cgroupfs("/fnctr/", "c1"), Ok(Some("/fnctr/c1".into())));
        assert_eq!(cgroupfs("/", "c1"), Ok(Some("/c1".into())));
        assert_eq!(
            systemd("system.slice", "fnctr", "c1"),
            Ok(Some("system.slice:fnctr:c1".into()))
        );
        assert_eq!(systemd("-.slice", "", "c1"), Ok(Some("-.slice::c1".into())));
    }

    #[test]
    fn a_scope_has_a_name_that_systemd_accepts() {
        // The whole name has `p-` before the id and `.scope` after it.
        assert!(systemd("a.slice", "p", &"c".repeat(247)).is_ok());
        assert!(systemd("a.slice", "p", &"c".repeat(248)).is_err());
        assert!(systemd("a.slice", "fnctr-ns-", "c.slice_").is_ok());
    }

    #[test]
    fn a_container_cannot_leave_its_place() {
        for (parent, id) in [
            ("fnctr", "c"),
            ("/a/../b", "c"),
            ("/a", ""),
            ("/a", ".."),
            ("/a", "b/c"),
            ("/a", "b:c"),
        ] {
            assert!(cgroupfs(parent, id).is_err(), "{parent:?} {id:?}");
        }
        for (slice, id) in [
            ("system", "c"),
            ("a/b.slice", "c"),
            ("a--b.slice", "c"),
            (".slice", "c"),
            ("a.slice", "c:d"),
            ("a.slice", "b.slice"),
            ("a.slice", "b c"),
            ("a.slice", "ü"),
        ] {
            assert!(systemd(slice, "p", id).is_err(), "{slice:?} {id:?}");
        }
    }
}
