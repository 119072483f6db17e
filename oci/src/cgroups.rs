//! Where the container's cgroup goes, in the notation of the runtime's driver.

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
            PathBuf::from(format!("{slice}:{prefix}:{id}"))
        }
    };
    Ok(Some(path))
}

/// One directory, one field between colons, one part of a unit's name.
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

/// systemd reads `a-b.slice` as the slice `b` in the slice `a`; `-.slice` is the root.
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
        ] {
            assert!(systemd(slice, "p", id).is_err(), "{slice:?} {id:?}");
        }
    }
}
