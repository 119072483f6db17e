//! Prepares the unified cgroup tree of an outer container so that the containers inside it can be limited: enables the
//! tree's controllers for its children.
//!
//! In a cgroup namespace the root of the tree is an ordinary cgroup, and the processes of the outer container are in
//! it. A cgroup that has processes cannot give controllers to its children (cgroup-v2.rst, "No Internal Process
//! Constraint"), so no cgroup below it could be limited. The usual remedy, also in Docker's image for Docker in Docker,
//! is to move the processes into a leaf, and then to enable the controllers.
//!
//! This is done only for a private containerd, which belongs to fnctr; elsewhere `doctor` prints the command. The
//! change is never undone: it ends with the outer container, and making it again has no effect. The tree of the host
//! itself is never changed; it is recognised by its namespace and because its root has no `cgroup.type`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::cgroup::{Root, is_nested};

/// The leaf for the processes; Docker in Docker gives it the same name.
pub(super) const LEAF: &str = "init";

pub(super) const PROCS: &str = "cgroup.procs";
pub(super) const CONTROL: &str = "cgroup.subtree_control";

/// The mode of a cgroup, as the kernel sets it for the cgroups that it creates.
const MODE: u32 = 0o755;

/// How often the processes are listed again: a process that forks while it is moved leaves a child behind.
const ROUNDS: u32 = 20;

/// The unified tree of the container that this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OuterCgroup {
    top: PathBuf,
}

/// Why the controllers could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// A file of the tree could not be used.
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// Some processes cannot be moved from here, or new ones keep appearing.
    #[error(
        "there are processes in {} that cannot be moved out of it: {pids}", path.display()
    )]
    Busy { path: PathBuf, pids: String },
}

impl Closed {
    fn at(doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::File { doing, path, cause }
    }
}

impl OuterCgroup {
    /// The tree of this process. `None` on the host itself, and where cgroups are not unified, because v1 has no such
    /// rule.
    pub(crate) fn of_this_process() -> Option<Self> {
        if !is_nested(Path::new("/proc/self")) {
            return None;
        }
        Self::at(Root::probe().ok()?.unified_top()?)
    }

    /// The tree at `top`, or `None` if `top` is the root of the host's tree.
    fn at(top: &Path) -> Option<Self> {
        let plain = top.join("cgroup.type").exists() && top.join(CONTROL).exists();
        plain.then(|| Self { top: top.to_owned() })
    }

    /// The controllers that the container has but has not enabled for its children.
    pub(crate) fn closed(&self) -> Vec<String> {
        let listed = |file: &str| fs::read_to_string(self.top.join(file)).unwrap_or_default();
        let open = listed(CONTROL);
        let open: Vec<_> = open.split_whitespace().collect();
        listed("cgroup.controllers")
            .split_whitespace()
            .filter(|name| !open.contains(name))
            .map(str::to_owned)
            .collect()
    }

    /// The leaf into which the processes are moved.
    pub(crate) fn leaf(&self) -> PathBuf {
        self.top.join(LEAF)
    }

    /// A shell command line that does by hand what `open` does.
    pub(crate) fn command(&self) -> String {
        format!(
            "cd {} && mkdir -p {LEAF} && for p in $(cat {PROCS}); do echo $p >{LEAF}/{PROCS}; done; for c in $(cat \
             cgroup.controllers); do echo +$c >{CONTROL}; done",
            self.top.display()
        )
    }

    /// Moves the processes into the leaf and enables every controller, as far as this is not done yet.
    pub(super) fn open(&self) -> Result<(), Closed> {
        let closed = self.closed();
        if closed.is_empty() {
            return Ok(());
        }
        self.move_processes()?;
        let control = self.top.join(CONTROL);
        // Each controller is enabled separately, so that one which is not available does not prevent the others.
        let mut result = Ok(());
        for name in closed {
            let enabled = write(&control, &format!("+{name}"))
                .map_err(Closed::at("enable controllers in", control.clone()));
            result = result.and(enabled);
        }
        result
    }

    fn move_processes(&self) -> Result<(), Closed> {
        let (from, leaf) = (self.top.join(PROCS), self.leaf());
        let to = leaf.join(PROCS);
        let mut left = String::new();
        for _ in 0..ROUNDS {
            left = fs::read_to_string(&from).map_err(Closed::at("read", from.clone()))?;
            if left.trim().is_empty() {
                return Ok(());
            }
            make(&leaf).map_err(Closed::at("create", leaf.clone()))?;
            // 0 stands for a process of another pid namespace, and writing it would move this process.
            for pid in left.lines().filter(|pid| *pid != "0") {
                match write(&to, pid) {
                    // The process has ended, or is about to.
                    Err(cause) if cause.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {}
                    moved => moved.map_err(Closed::at("move processes to", to.clone()))?,
                }
            }
        }
        Err(Closed::Busy {
            path: self.top.clone(),
            pids: left.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }
}

/// Creates a cgroup unless it exists. With this mode, monitoring by other users can read it and only the owner can
/// create cgroups in it, whatever the umask is.
pub(super) fn make(cgroup: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(MODE).create(cgroup) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| fs::set_permissions(cgroup, fs::Permissions::from_mode(MODE))),
    }
}

/// Writes to a file of the kernel, which handles each write separately; never creates the file.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(file)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for a container's tree.
    fn tree(controllers: &str, open: &str, procs: &str) -> (tempfile::TempDir, OuterCgroup) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cgroup.type", "domain\n"),
            ("cgroup.controllers", controllers),
            (CONTROL, open),
            (PROCS, procs),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let outer = OuterCgroup::at(dir.path()).unwrap();
        (dir, outer)
    }

    #[test]
    fn only_a_plain_cgroup_is_a_containers_tree() {
        let (dir, _) = tree("cpu", "", "");
        fs::remove_file(dir.path().join("cgroup.type")).unwrap();
        assert_eq!(
            OuterCgroup::at(dir.path()),
            None,
            "the machine's root has no cgroup.type"
        );
    }

    #[test]
    fn what_is_open_already_is_left_alone() {
        let (dir, outer) = tree("cpu memory\n", "memory cpu\n", "1\n7\n");
        assert!(outer.closed().is_empty());
        outer.open().unwrap();
        assert!(!dir.path().join(LEAF).exists());
    }

    #[test]
    fn without_processes_the_controllers_are_opened_and_nothing_is_moved() {
        let (dir, outer) = tree("cpu memory pids\n", "cpu\n", "");
        assert_eq!(outer.closed(), ["memory", "pids"]);
        outer.open().unwrap();
        assert!(!dir.path().join(LEAF).exists());
        assert!(
            fs::read_to_string(dir.path().join(CONTROL))
                .unwrap()
                .starts_with("+pids")
        );
    }

    #[test]
    fn processes_that_stay_are_named_and_no_controller_is_touched() {
        // Unlike the kernel, a plain file keeps the listed processes.
        let (dir, outer) = tree("cpu\n", "", "0\n7\n");
        fs::create_dir(dir.path().join(LEAF)).unwrap();
        fs::write(dir.path().join(LEAF).join(PROCS), "").unwrap();
        let error = outer.open().unwrap_err();
        assert!(error.to_string().ends_with("0 7"), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join(LEAF).join(PROCS)).unwrap(),
            "7"
        );
        assert_eq!(fs::read_to_string(dir.path().join(CONTROL)).unwrap(), "");
    }

    #[test]
    fn a_cgroup_has_its_mode_and_one_that_is_there_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |cgroup: &Path| fs::metadata(cgroup).unwrap().permissions().mode() & 0o7777;
        let cgroup = dir.path().join(LEAF);
        make(&cgroup).unwrap();
        assert_eq!(mode(&cgroup), MODE);
        fs::set_permissions(&cgroup, fs::Permissions::from_mode(0o750)).unwrap();
        make(&cgroup).unwrap();
        assert_eq!(mode(&cgroup), 0o750);
        make(&dir.path().join("a/b")).unwrap_err();
    }

    #[test]
    fn the_machines_own_tree_is_not_that_of_an_outer_container() {
        if !is_nested(Path::new("/proc/self")) {
            assert_eq!(OuterCgroup::of_this_process(), None);
        }
    }
}
