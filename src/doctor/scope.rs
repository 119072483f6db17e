//! Whether containers outlive the service or session that started them.

use super::Check;
use crate::embedded::Scope;

/// Reports whether a private containerd can leave the cgroup of a service or session that would end it.
pub(super) fn check(scope: &Scope) -> Check {
    const NAME: &str = "outlives";
    let stuck = scope.stuck();
    if let Some(tie) = stuck.first() {
        let found = format!(
            "a private containerd and its containers cannot leave {}, so they end with the service or session whose cgroup it is",
            tie.dir.display()
        );
        return Check::warn(NAME, found, format!("mount -o remount,rw {}", tie.top.display()));
    }
    let found = match scope {
        Scope::Here => "this process is in no cgroup of a service or session that would end its containers".to_owned(),
        Scope::Systemd { .. } => {
            "systemd makes a scope for a private containerd, which outlives the service or session that starts it".to_owned()
        }
        Scope::Moved(ties) => {
            let dirs: Vec<_> = ties.iter().map(|tie| tie.dir.display().to_string()).collect();
            format!("a private containerd leaves {}, so it does not end with them", dirs.join(", "))
        }
    };
    Check::ok(NAME, found)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Status;
    use super::*;
    use crate::cgroup::Tie;

    #[test]
    fn a_containerd_that_cannot_leave_is_a_warning_with_the_mount_to_mend() {
        let tie = |top: PathBuf| Tie {
            dir: top.join("session"),
            top,
        };
        let check = super::check(&Scope::Moved(vec![tie("/proc/nowhere".into())]));
        assert_eq!(check.status, Status::Warn);
        assert!(check.found.contains("/proc/nowhere/session"), "{check}");
        assert_eq!(check.mend.as_deref(), Some("mount -o remount,rw /proc/nowhere"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        let moved = Scope::Moved(vec![tie(dir.path().to_owned())]);
        for scope in [moved, Scope::Here, Scope::Systemd { program: "/s".into() }] {
            assert_eq!(super::check(&scope).status, Status::Ok, "{scope:?}");
        }
    }
}
