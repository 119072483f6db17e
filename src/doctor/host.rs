//! Reads this host, as no other file of the doctor does. Text that cannot be read is empty, and the check reports that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::process::PidfdFlags;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::cgroup::Layout;
use super::kernel::Features;
use super::programs::{Place, Program, Socket};
use super::runtime::Runtimes;
use super::space::Space;
use crate::embedded::{SearchPath, executable};
use crate::quota;
use crate::sandbox::{self, Firewalls};

/// No program takes this long to print its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a program may be that is not on the search path.
const ELSEWHERE: [&str; 8] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/containerd/bin",
    "/opt/bin",
];

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A containerd that runs or will be started: its search path and its privileges.
#[derive(Debug)]
pub(super) struct Daemon {
    /// The search path; `None` if this process cannot see it.
    pub(super) path: Option<SearchPath>,
    pub(super) status: String,
    pub(super) limits: String,
    /// Whether status and limits are those of a running server.
    pub(super) is_server: bool,
    /// The process ID of the server, or else of this process.
    pub(super) pid: u32,
}

impl Daemon {
    /// A containerd that this process will start.
    pub(super) fn started_from_here(status: &str, limits: &str) -> Self {
        Self {
            path: Some(SearchPath::of_this_process()),
            status: status.to_owned(),
            limits: limits.to_owned(),
            is_server: false,
            pid: std::process::id(),
        }
    }
}

/// Returns the server that answers at the address. What cannot be seen of the server is assumed to be as for this
/// process.
pub(super) async fn server(address: &Path, status: &str, limits: &str) -> Option<Daemon> {
    if !crate::embedded::answers(address).await {
        return None;
    }
    let unseen = Daemon {
        path: None,
        ..Daemon::started_from_here(status, limits)
    };
    let peer = UnixStream::connect(address)
        .await
        .and_then(|stream| stream.peer_cred());
    let Some(pid) = peer.ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0) else {
        return Some(unseen);
    };
    let Ok(pid) = u32::try_from(pid) else {
        return Some(unseen);
    };
    let of = |file: &str| format!("/proc/{pid}/{file}");
    let (status, limits) = (read(&of("status")), read(&of("limits")));
    if status.is_empty() || limits.is_empty() {
        return Some(unseen);
    }
    let same_files = fs::read_link(of("ns/mnt"))
        .and_then(|theirs| Ok(theirs == fs::read_link("/proc/self/ns/mnt")?))
        .unwrap_or(false);
    let path = match (fs::read(of("environ")), fs::read_link(of("exe"))) {
        (Ok(environ), Ok(exe)) if same_files => Some(SearchPath::of_process(&environ, &exe)),
        _ => None,
    };
    Some(Daemon {
        path,
        status,
        limits,
        is_server: true,
        pid,
    })
}

/// Returns the state of the socket at the address of a containerd.
pub(super) fn socket(address: &Path, answers: bool) -> Socket {
    use rustix::fs::{Access, access};
    use rustix::io::Errno;

    if answers {
        return Socket::Answers;
    }
    match access(address, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Socket::Silent,
        Err(Errno::ACCESS | Errno::PERM) => Socket::Forbidden,
        Err(_) => Socket::Missing,
    }
}

/// Whether the file can be executed.
pub(super) fn is_program(path: &Path) -> bool {
    executable(path)
}

/// Looks for a program in the usual places.
pub(super) fn anywhere(program: &str) -> Option<PathBuf> {
    let mut places = ELSEWHERE.iter().map(|dir| Path::new(dir).join(program));
    places.find(|file| executable(file))
}

/// Looks for a program by name, or at an absolute path, as a process with this search path does.
pub(super) fn look_for(program: &str, path: Option<&SearchPath>) -> Place {
    let Some(path) = path else {
        return Place::OutOfSight;
    };
    let found = if program.contains('/') {
        Some(PathBuf::from(program)).filter(|file| executable(file))
    } else {
        path.find(program)
    };
    let elsewhere = || anywhere(program);
    match found {
        Some(at) => Place::OnPath(at),
        None => elsewhere().map_or(Place::Missing, Place::OffPath),
    }
}

async fn look_and_ask(name: &str, path: Option<&SearchPath>) -> Program {
    let at = look_for(name, path);
    let says = match &at {
        Place::OnPath(file) => version_of(file).await,
        _ => None,
    };
    Program { at, says }
}

/// Looks for a program as this process does, and reads its version.
pub(super) async fn program(name: &str) -> Program {
    look_and_ask(name, Some(&SearchPath::of_this_process())).await
}

/// Looks for the runtimes as a process with this search path does.
pub(super) async fn runtimes(chosen: Option<&str>, path: Option<&SearchPath>) -> Runtimes {
    Runtimes {
        runc: look_and_ask("runc", path).await,
        crun: look_and_ask("crun", path).await,
        chosen: match chosen {
            Some(name) => Some(look_and_ask(name, path).await),
            None => None,
        },
    }
}

/// Returns the first line that a program prints with `--version`, if it succeeds.
async fn version_of(program: &Path) -> Option<String> {
    let run = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .map(str::to_owned)
}

/// Returns the controllers of the v2 tree, if one is mounted.
pub(super) fn v2_controllers(mounts: &str) -> String {
    let Some(root) = super::cgroup::v2_root(mounts) else {
        return String::new();
    };
    fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
}

/// Whether the memory controller counts swap, without which swap cannot be limited.
pub(super) fn swap_is_counted(layout: &Layout) -> bool {
    let Some(root) = layout.memory_root() else {
        return false;
    };
    // On v2 the file exists in every group but the root.
    let in_v2 = || {
        let children = fs::read_dir(&root).into_iter().flatten().flatten();
        children
            .map(|child| child.path().join("memory.swap.max"))
            .any(|file| file.exists())
    };
    root.join("memory.memsw.limit_in_bytes").exists() || in_v2()
}

/// Tries each feature rather than trusting a version: distributions disable some features and backport others.
pub(super) fn kernel_features() -> Features {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat2(
        rustix::fs::CWD,
        "/",
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    );
    Features {
        openat2: root.is_ok(),
        pidfd: rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).is_ok(),
        pressure: Path::new("/proc/pressure/memory").exists(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
    }
}

/// Returns the nearest existing directory at or above `data`, with symbolic links resolved.
fn nearest(data: &Path) -> PathBuf {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    data.ancestors()
        .find(|dir| dir.is_dir())
        .and_then(|dir| dir.canonicalize().ok())
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// Whether writable layers below `data`, which need not exist yet, can be limited.
pub(super) fn disk_limit(data: &Path) -> Result<(), quota::Error> {
    quota::check(&nearest(data))
}

/// Looks at the file system that will hold `data`, which need not exist yet.
pub(super) fn space(data: &Path) -> Space {
    let dir = nearest(data);
    let fs = rustix::fs::statvfs(&dir).ok();
    Space {
        free: fs.as_ref().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)),
        // A file system that creates inodes on demand reports a total of 0.
        files: fs.as_ref().filter(|fs| fs.f_files != 0).map(|fs| fs.f_favail),
        read_only: fs.is_some_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY)),
        types_entries: types_entries(&dir),
        dir,
    }
}

/// Whether the file system reports the type of a directory entry, which overlay needs. Every directory has an entry for
/// itself, so this works in an empty one too.
fn types_entries(dir: &Path) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).ok()?;
    let mut entries = Dir::read_from(&fd).ok()?;
    let first = entries.next()?.ok()?;
    Some(first.file_type() != FileType::Unknown)
}

/// Returns what the firewalls do with packets that this host forwards.
pub(super) async fn firewalls(state_dir: &Path) -> std::io::Result<Option<Firewalls>> {
    let dir = state_dir.to_owned();
    let looked = tokio::task::spawn_blocking(move || sandbox::firewalls(&dir)).await;
    looked.map_err(std::io::Error::other)?
}
