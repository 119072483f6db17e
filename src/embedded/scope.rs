//! Takes a private containerd out of the cgroups of the process that starts it.
//!
//! A service or a session is ended by ending everything in its cgroup. containerd also serves other processes, and its
//! shims hold the containers that were left running. So neither may end with the service or session in which fnctr ran
//! first. Where systemd is the init, it is asked for a scope; elsewhere containerd is moved to the top of each
//! hierarchy by which processes are ended (see [`Tie`]), or, in a container whose top must have no processes, to the
//! leaf beside the cgroups of the functions. containerd starts the shims, so they are in its cgroup.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::SearchPath;
use super::outer_cgroup::{CONTROL, LEAF, PROCS, make, write};
use crate::cgroup::{Tie, ties};
use crate::clock;

/// The cgroups in which a containerd that is started now will run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The cgroups of the process that starts it, because there are none that it must leave.
    Here,
    /// A scope that systemd creates with this program.
    Systemd {
        /// `systemd-run`.
        program: PathBuf,
    },
    /// Outside of these cgroups.
    Moved(Vec<Tie>),
}

impl Scope {
    /// The scope for a containerd that this process would start.
    pub(crate) fn of_this_process() -> Self {
        Self::choose(ties(), systemd_run())
    }

    fn choose(ties: Vec<Tie>, systemd: Option<PathBuf>) -> Self {
        match systemd {
            _ if ties.is_empty() => Self::Here,
            Some(program) => Self::Systemd { program },
            None => Self::Moved(ties),
        }
    }

    /// The words to put before the command line of a process that starts in this scope.
    pub(super) fn prefix(&self) -> Vec<OsString> {
        let Self::Systemd { program } = self else {
            return Vec::new();
        };
        let now = clock::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A scope of an earlier start exists as long as its containers, so each start uses a unique name.
        let unit = format!(
            "--unit=fnctr-containerd-{}-{}",
            std::process::id(),
            now.as_millis()
        );
        let options = ["--scope", "--quiet", "--collect", "--slice=system.slice"];
        let mut words = vec![program.clone().into_os_string()];
        words.extend(options.map(OsString::from));
        words.extend([
            unit.into(),
            "--description=containerd of fnctr".into(),
            "--".into(),
        ]);
        words
    }

    /// The scope to use instead, if systemd does not create this one.
    pub(super) fn without_systemd(&self) -> Option<Self> {
        matches!(self, Self::Systemd { .. }).then(|| Self::choose(ties(), None))
    }

    /// Moves a process that has just been started into this scope.
    pub(super) fn take(&self, pid: u32) {
        let Self::Moved(ties) = self else { return };
        for tie in ties {
            let to = tie.way_out();
            if to == tie.dir {
                continue;
            }
            if let Err(error) = enter(&to, pid) {
                tracing::warn!(
                    %error,
                    from = %tie.dir.display(),
                    to = %to.display(),
                    "containerd cannot leave the cgroup of this process, so it and its containers end when that cgroup is ended"
                );
            }
        }
    }

    /// The cgroups that a containerd would have to leave but cannot, because the tops of their hierarchies are not
    /// writable.
    pub(crate) fn stuck(&self) -> Vec<&Tie> {
        use rustix::fs::{Access, access};

        let Self::Moved(ties) = self else {
            return Vec::new();
        };
        let stuck = |tie: &&Tie| {
            let procs = tie.top.join(PROCS);
            tie.way_out() != tie.dir && access(procs, Access::WRITE_OK).is_err()
        };
        ties.iter().filter(stuck).collect()
    }
}

impl Tie {
    /// The top, unless it must have no processes because its children have controllers.
    fn way_out(&self) -> PathBuf {
        let open = fs::read_to_string(self.top.join(CONTROL)).unwrap_or_default();
        // The root of the machine's tree may have both processes and controllers; it has no `cgroup.type`.
        let must_be_empty = self.top.join("cgroup.type").exists() && !open.trim().is_empty();
        if must_be_empty {
            return self.top.join(LEAF);
        }
        self.top.clone()
    }
}

fn enter(cgroup: &Path, pid: u32) -> io::Result<()> {
    make(cgroup)?;
    write(&cgroup.join(PROCS), &pid.to_string())
}

/// The program that asks systemd for a scope, where systemd is the init (sd_booted(3)).
fn systemd_run() -> Option<PathBuf> {
    let booted = Path::new("/run/systemd/system").symlink_metadata();
    let booted = booted.is_ok_and(|found| found.is_dir());
    booted.then(|| SearchPath::of_this_process().find("systemd-run"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tie(top: &Path) -> Tie {
        Tie {
            dir: top.join("session"),
            top: top.to_owned(),
        }
    }

    /// A directory that stands for a hierarchy.
    fn hierarchy() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PROCS), "").unwrap();
        dir
    }

    #[test]
    fn a_scope_is_requested_only_where_systemd_runs_and_there_is_a_cgroup_to_leave() {
        let (ties, program) = (vec![tie(Path::new("/m"))], PathBuf::from("/usr/bin/systemd-run"));
        assert_eq!(Scope::choose(Vec::new(), Some(program.clone())), Scope::Here);
        let asked = Scope::choose(ties.clone(), Some(program.clone()));
        assert_eq!(asked, Scope::Systemd { program });
        let words = asked.prefix();
        assert_eq!(words.first().unwrap(), "/usr/bin/systemd-run");
        assert!(words.contains(&"--scope".into()), "{words:?}");
        assert_eq!(words.last().unwrap(), "--");
        let moved = Scope::choose(ties.clone(), None);
        assert!(moved.prefix().is_empty());
        assert_eq!(moved, Scope::Moved(ties));
    }

    #[test]
    fn a_process_is_moved_to_the_top_or_to_the_leaf_where_the_top_must_stay_empty() {
        let (plain, nested) = (hierarchy(), hierarchy());
        fs::write(nested.path().join("cgroup.type"), "domain\n").unwrap();
        fs::write(nested.path().join(CONTROL), "cpu memory\n").unwrap();
        fs::create_dir(nested.path().join(LEAF)).unwrap();
        fs::write(nested.path().join(LEAF).join(PROCS), "").unwrap();
        let scope = Scope::Moved(vec![tie(plain.path()), tie(nested.path())]);
        scope.take(4242);
        let read = |dir: &Path| fs::read_to_string(dir.join(PROCS)).unwrap();
        assert_eq!(read(plain.path()), "4242");
        assert_eq!(read(nested.path()), "");
        assert_eq!(read(&nested.path().join(LEAF)), "4242");
        assert!(scope.stuck().is_empty());
    }

    #[test]
    fn a_cgroup_whose_top_cannot_be_written_is_named() {
        let scope = Scope::Moved(vec![tie(Path::new("/proc/nowhere"))]);
        assert_eq!(scope.stuck().len(), 1);
        // The failure is only logged as a warning.
        scope.take(std::process::id());
    }
}
