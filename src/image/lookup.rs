//! Looking something up in a root file system that is not ours: every path is resolved below its root by the kernel,
//! so a symbolic link to `/etc/passwd` is the image's, and none leads out.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What `execvp` searches when the environment does not say: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which program, as a container would start it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lookup {
    /// The first argument: a name to search or a path.
    pub(crate) program: String,
    /// The value of PATH; `None` is Docker's default.
    pub(crate) path: Option<String>,
    /// The working directory, which a relative path starts from.
    pub(crate) cwd: String,
}

/// What became of the search. It knows the image only: a mount of the container may hide or bring a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// It is this file.
    Found(String),
    /// There is none.
    NotFound,
    /// There is this one, and it cannot be executed: a directory, or a file without the permission.
    NotExecutable(String),
}

/// What is at a path in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing, and it could be made.
    Nothing,
    /// A directory.
    Directory(Ownership),
    /// A directory, by way of a symbolic link somewhere in the path.
    Linked,
    /// Anything else.
    File,
    /// Nothing, because a part of the path before its end is no directory.
    Blocked,
}

/// Whose a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Its permission bits.
    pub(crate) mode: u32,
}

/// What is at a path below the root.
pub(super) fn place(root: BorrowedFd<'_>, path: &str) -> io::Result<Place> {
    let found = match resolve(root, path, ResolveFlags::empty())? {
        Ok(found) => found,
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Place::Blocked),
        Err(_) => return Ok(Place::Nothing),
    };
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(Place::File);
    }
    if resolve(root, path, ResolveFlags::NO_SYMLINKS)?.is_err() {
        return Ok(Place::Linked);
    }
    Ok(Place::Directory(Ownership {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
    }))
}

/// The text of a file below the root; empty if there is none.
pub(super) fn text(root: BorrowedFd<'_>, path: &str, max: u64) -> io::Result<String> {
    let Some(found) = locate(root, path)? else {
        return Ok(String::new());
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is not a regular file"),
        ));
    }
    // The located file itself is opened, so nobody can swap it for a fifo or a device in between.
    let file = std::fs::File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is larger than {max} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds the program as the runtime will.
pub(super) fn executable(root: BorrowedFd<'_>, lookup: &Lookup) -> io::Result<Program> {
    let Lookup { program, path, cwd } = lookup;
    if program.is_empty() {
        return Ok(Program::NotFound);
    }
    if program.contains('/') {
        return candidate(root, &join(cwd, program));
    }
    let mut denied = None;
    for directory in path.as_deref().unwrap_or(DEFAULT_PATH).split(':') {
        // An empty element is the working directory.
        let directory = join(cwd, directory);
        match candidate(root, &join(&directory, program))? {
            Program::Found(path) => return Ok(Program::Found(path)),
            Program::NotExecutable(path) => denied = denied.or(Some(path)),
            Program::NotFound => {}
        }
    }
    Ok(denied.map_or(Program::NotFound, Program::NotExecutable))
}

fn candidate(root: BorrowedFd<'_>, path: &str) -> io::Result<Program> {
    let Some(found) = locate(root, path)? else {
        return Ok(Program::NotFound);
    };
    let mode = rustix::fs::fstat(&found)?.st_mode;
    let file = FileType::from_raw_mode(mode) == FileType::RegularFile;
    Ok(if file && mode & 0o111 != 0 {
        Program::Found(path.to_owned())
    } else {
        Program::NotExecutable(path.to_owned())
    })
}

/// A handle on what is at the path, without opening it. `None` if there is nothing.
fn locate(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    Ok(resolve(root, path, ResolveFlags::empty())?.ok())
}

/// The same, with the kernel's word for why there is nothing. The outer error is that it could not be looked at.
fn resolve(root: BorrowedFd<'_>, path: &str, more: ResolveFlags) -> io::Result<Result<OwnedFd, Errno>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // The kernel answers EAGAIN when a rename raced with the resolution.
    for _ in 0..16 {
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            Ok(found) => return Ok(Ok(found)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(why @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL)) => {
                return Ok(Err(why));
            }
            Err(why) => return Err(why.into()),
        }
    }
    Err(Errno::AGAIN.into())
}

fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", directory.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["bin", "usr/bin", "etc", "work"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, mode) in [("usr/bin/tool", 0o755), ("bin/data", 0o644), ("work/run", 0o700)] {
            fs::write(at(path), "x").unwrap();
            fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(at("etc/real"), "root:x:0:0::/:/bin/sh\n").unwrap();
        symlink("/etc/real", at("etc/passwd")).unwrap();
        symlink("../../../../../../etc/shadow", at("etc/group")).unwrap();
        symlink("/usr/bin/tool", at("bin/linked")).unwrap();
        symlink("loop", at("bin/loop")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_link_stays_below_the_root() {
        let (_dir, root) = tree();
        assert_eq!(
            text(root.as_fd(), "etc/passwd", 100).unwrap(),
            "root:x:0:0::/:/bin/sh\n"
        );
        // The host has this file; the image does not.
        assert!(std::path::Path::new("/etc/shadow").exists());
        assert_eq!(text(root.as_fd(), "etc/group", 1 << 20).unwrap(), "");
        assert!(text(root.as_fd(), "etc/passwd", 3).is_err());
        assert!(text(root.as_fd(), "etc", 100).is_err());
    }

    #[test]
    fn a_place_is_told_by_what_is_there_and_how_it_is_reached() {
        let (dir, root) = tree();
        symlink("/usr", dir.path().join("linked")).unwrap();
        symlink("/nowhere", dir.path().join("dangling")).unwrap();
        let place = |path: &str| super::place(root.as_fd(), path).unwrap();
        fs::set_permissions(dir.path().join("work"), fs::Permissions::from_mode(0o2750)).unwrap();
        let Place::Directory(found) = place("/work") else {
            panic!("{:?}", place("/work"))
        };
        let owner = rustix::process::geteuid().as_raw();
        assert_eq!((found.uid, found.mode), (owner, 0o2750));
        assert_eq!(place("/bin/data"), Place::File);
        assert_eq!(place("/bin/linked"), Place::File);
        assert_eq!(place("/linked"), Place::Linked);
        assert_eq!(place("/linked/bin"), Place::Linked);
        for nothing in ["/nowhere/at/all", "/dangling", "/usr/x"] {
            assert_eq!(place(nothing), Place::Nothing, "{nothing}");
        }
        for blocked in ["/bin/data/x", "/bin/loop"] {
            assert_eq!(place(blocked), Place::Blocked, "{blocked}");
        }
    }

    #[test]
    fn a_fifo_for_a_passwd_file_is_refused_and_not_waited_for() {
        let (dir, root) = tree();
        let fifo = dir.path().join("etc/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(text(root.as_fd(), "etc/fifo", 100).is_err());
    }

    #[test]
    fn a_program_is_found_as_execvp_finds_it() {
        let (_dir, root) = tree();
        let find = |program: &str, path: Option<&str>, cwd: &str| {
            let lookup = Lookup {
                program: program.into(),
                path: path.map(Into::into),
                cwd: cwd.into(),
            };
            executable(root.as_fd(), &lookup).unwrap()
        };
        let found = |path: &str| Program::Found(path.into());
        assert_eq!(find("tool", None, "/"), found("/usr/bin/tool"));
        assert_eq!(find("linked", None, "/"), found("/bin/linked"));
        assert_eq!(find("tool", Some("/bin"), "/"), Program::NotFound);
        assert_eq!(find("./run", None, "/work"), found("/work/./run"));
        assert_eq!(find("run", Some(""), "/work"), found("/work/run"));
        assert_eq!(find("/usr/bin/tool", Some(""), "/"), found("/usr/bin/tool"));
        assert_eq!(
            find("data", None, "/"),
            Program::NotExecutable("/bin/data".into())
        );
        assert_eq!(find("/usr", None, "/"), Program::NotExecutable("/usr".into()));
        for absent in ["loop", "nowhere", "/bin/data/x", "", "a\0b"] {
            assert_eq!(find(absent, None, "/"), Program::NotFound, "{absent:?}");
        }
    }
}
