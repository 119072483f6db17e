//! Looks up users' files, paths and programs in a root file system that is not trusted. The kernel resolves every path
//! below the root (see `walk`), so no path leads out of it.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::binfmt;
use super::exec::{self, Format, Machine, NoProgram};
use super::walk::{End, is, walk};

/// The directories that `execvp` searches if the environment has no PATH: Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest chain of interpreters before a program (fs/exec.c).
const MAX_INTERPRETERS: usize = 5;

/// The program to look up, as a container would start it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Lookup {
    /// The first argument: a name to search or a path.
    pub(crate) program: String,
    /// The value of PATH; `None` is Docker's default.
    pub(crate) path: Option<String>,
    /// The working directory, at which relative paths start.
    pub(crate) cwd: String,
    /// The container's own mounts: paths whose contents the image does not determine.
    pub(crate) hidden: Vec<String>,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// The program is this file.
    Found(String),
    /// There is no such program.
    NotFound,
    /// The program is this file, but it cannot be executed.
    NotExecutable(String, NotExecutable),
    /// The file, or the interpreter that executes it, would be below one of the container's own mounts.
    Hidden,
}

/// Why a file cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotExecutable {
    /// The file is a directory.
    #[error("it is a directory")]
    Directory,
    /// The file is a device, a socket, or the like.
    #[error("it is not a file")]
    NotAFile,
    /// No user may execute it.
    #[error("no user has the permission to execute it (mode {0:03o})")]
    Permission(u32),
    /// The kernel does not recognise the format.
    #[error("exec format error: {0}")]
    Format(NoProgram),
    /// The kernel recognises the format, but what it needs to execute the file is not in the image.
    #[error("its {role} {path:?} is not in the image{}", of_another_system(.path))]
    Lacks {
        /// The role of the missing file, such as interpreter.
        role: &'static str,
        /// The path where it should be.
        path: String,
    },
    /// What the kernel needs is in the image, but cannot be executed itself.
    #[error("its {role} {path:?} cannot be executed: {why}")]
    Needs {
        /// The role of the needed file, such as interpreter.
        role: &'static str,
        /// The path where it is.
        path: String,
        /// Why it cannot be executed.
        why: Box<Self>,
    },
    /// The chain of interpreters is too long.
    #[error("it needs a chain of more than {} interpreters", MAX_INTERPRETERS)]
    Endless,
}

impl NotExecutable {
    /// Whether the kernel, and so a shell, reports that there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Lacks { .. })
    }
}

/// Editors of other systems end a line with an additional character, which the kernel treats as a part of the name.
fn of_another_system(interpreter: &str) -> &'static str {
    if interpreter.ends_with('\r') {
        "; the file has lines as on Windows, so end them with a line feed alone"
    } else {
        ""
    }
}

/// What exists at a path in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Nothing exists, but something could be created at this path, which has no links.
    Nothing(String),
    /// A directory.
    Directory(Ownership),
    /// A directory that is reached through links; this is its path without links.
    Linked(String),
    /// Any other kind of file.
    File,
    /// Nothing can exist there, because a part of the path before its end is not a directory.
    Blocked,
}

/// The owner and the mode of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ownership {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Its permission bits.
    pub(crate) mode: u32,
}

impl Ownership {
    pub(super) fn of(found: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(found)?;
        Ok(Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
        })
    }
}

/// What exists at a path below the root.
pub(super) fn place(root: BorrowedFd<'_>, path: &str) -> io::Result<Place> {
    Ok(match walk(root, path, &[])? {
        End::There(_, found) if !is(&found, FileType::Directory)? => Place::File,
        End::There(at, found) if Path::new(&at) == Path::new(path) => {
            Place::Directory(Ownership::of(&found)?)
        }
        End::There(at, _) => Place::Linked(at),
        End::Nothing(at) => Place::Nothing(at),
        End::Blocked | End::Hidden => Place::Blocked,
    })
}

/// The contents of a file below the root as text; empty if there is no file, or a device.
pub(super) fn text(root: BorrowedFd<'_>, path: &str, max: u64) -> io::Result<String> {
    let End::There(_, found) = walk(root, path, &[])? else {
        return Ok(String::new());
    };
    if is(&found, FileType::Directory)? {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            format!("{path} is a directory"),
        ));
    }
    if !is(&found, FileType::RegularFile)? {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    reopen(&found)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is larger than {max} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The located file itself is opened, so it cannot be replaced by a fifo or a device in between.
fn reopen(found: &OwnedFd) -> io::Result<std::fs::File> {
    std::fs::File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Finds the program as the runtime will find it.
pub(super) fn executable(root: BorrowedFd<'_>, lookup: &Lookup) -> io::Result<Program> {
    let Lookup {
        program,
        path,
        cwd,
        hidden,
    } = lookup;
    if program.is_empty() {
        return Ok(Program::NotFound);
    }
    let search = Search {
        root,
        cwd,
        hidden: real(root, hidden)?,
    };
    if program.contains('/') {
        return search.candidate(&join(cwd, program), 0);
    }
    let (mut denied, mut is_hidden) = (None, false);
    for directory in path.as_deref().unwrap_or(DEFAULT_PATH).split(':') {
        // An empty element is the working directory.
        let directory = join(cwd, directory);
        match search.candidate(&join(&directory, program), 0)? {
            Program::Found(path) => return Ok(Program::Found(path)),
            // `execvp` stops at this file.
            Program::NotExecutable(_, NotExecutable::Format(_)) if is_hidden => break,
            refused @ Program::NotExecutable(_, NotExecutable::Format(_)) => return Ok(refused),
            refused @ Program::NotExecutable(..) => denied = denied.or(Some(refused)),
            Program::Hidden => is_hidden = true,
            Program::NotFound => {}
        }
    }
    Ok(match denied {
        _ if is_hidden => Program::Hidden,
        Some(refused) => refused,
        None => Program::NotFound,
    })
}

/// These paths without links: a runtime follows the image's links when it mounts something there.
fn real(root: BorrowedFd<'_>, places: &[String]) -> io::Result<Vec<String>> {
    let real = places.iter().map(|place| {
        Ok(match walk(root, place, &[])? {
            End::There(at, _) | End::Nothing(at) => at,
            End::Blocked | End::Hidden => place.clone(),
        })
    });
    real.collect()
}

/// One search in one image.
struct Search<'a> {
    root: BorrowedFd<'a>,
    cwd: &'a str,
    hidden: Vec<String>,
}

impl Search<'_> {
    /// What a path is as a program. `depth` is the number of scripts and handlers that lead to this interpreter.
    fn candidate(&self, path: &str, depth: usize) -> io::Result<Program> {
        let found = match self.file(path)? {
            Ok(found) => found,
            Err(none) => return Ok(none),
        };
        if depth > MAX_INTERPRETERS {
            return Ok(Program::NotExecutable(path.to_owned(), NotExecutable::Endless));
        }
        let file = reopen(&found)?;
        let read = |from: u64, into: &mut [u8]| file.read_at(into, from);
        let script = |interpreter: &str| {
            let executed = self.candidate(&join(self.cwd, interpreter), depth + 1)?;
            Ok::<_, io::Error>(lacking(path, "interpreter", interpreter, executed))
        };
        let lacking = match exec::format(Machine::host(), &read)? {
            Format::Program(None) => None,
            // Whether the loader itself can be executed is left to the kernel.
            Format::Program(Some(loader)) => match self.file(&join(self.cwd, &loader))? {
                Ok(_) => None,
                Err(none) => lacking(path, "loader", &loader, none),
            },
            Format::Script(interpreter) => script(&interpreter)?,
            Format::No(why) => {
                let head = exec::head(&read)?;
                let mut handlers = binfmt::handlers(Path::new(binfmt::DIR)).into_iter();
                match handlers.find(|handler| handler.takes(path, &head)) {
                    None => {
                        let why = NotExecutable::Format(why);
                        Some(Program::NotExecutable(path.to_owned(), why))
                    }
                    Some(handler) if handler.is_fixed => None,
                    Some(handler) => script(&handler.interpreter)?,
                }
            }
        };
        Ok(lacking.unwrap_or_else(|| Program::Found(path.to_owned())))
    }

    /// The file at a path, if it has the permission to be executed.
    fn file(&self, path: &str) -> io::Result<Result<OwnedFd, Program>> {
        let found = match walk(self.root, path, &self.hidden)? {
            End::There(_, found) => found,
            End::Nothing(_) | End::Blocked => return Ok(Err(Program::NotFound)),
            End::Hidden => return Ok(Err(Program::Hidden)),
        };
        let mode = rustix::fs::fstat(&found)?.st_mode;
        let why = match FileType::from_raw_mode(mode) {
            FileType::RegularFile if mode & 0o111 != 0 => return Ok(Ok(found)),
            FileType::RegularFile => NotExecutable::Permission(mode & 0o7777),
            FileType::Directory => NotExecutable::Directory,
            _ => NotExecutable::NotAFile,
        };
        Ok(Err(Program::NotExecutable(path.to_owned(), why)))
    }
}

/// What a file lacks because of the program that executes it; `None` if it lacks nothing.
fn lacking(file: &str, role: &'static str, path: &str, executed: Program) -> Option<Program> {
    let at = path.to_owned();
    let why = match executed {
        Program::Found(_) => return None,
        Program::Hidden => return Some(Program::Hidden),
        Program::NotFound => NotExecutable::Lacks { role, path: at },
        Program::NotExecutable(_, NotExecutable::Endless) => NotExecutable::Endless,
        Program::NotExecutable(_, why) => NotExecutable::Needs {
            role,
            path: at,
            why: Box::new(why),
        },
    };
    Some(Program::NotExecutable(file.to_owned(), why))
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
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::fixtures::elf;
    use super::*;

    /// A program for this machine; it is never run.
    fn program(loader: Option<&str>) -> Vec<u8> {
        let machine = match std::env::consts::ARCH {
            "x86_64" => 62,
            "aarch64" => 183,
            other => panic!("no program for {other}"),
        };
        elf(machine, loader)
    }

    fn tree() -> (tempfile::TempDir, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["bin", "usr/bin", "etc", "work"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, mode) in [("usr/bin/tool", 0o755), ("bin/data", 0o644), ("work/run", 0o700)] {
            put(dir.path(), path, &program(None), mode);
        }
        fs::write(at("etc/real"), "root:x:0:0::/:/bin/sh\n").unwrap();
        symlink("/etc/real", at("etc/passwd")).unwrap();
        symlink("../../../../../../etc/shadow", at("etc/group")).unwrap();
        symlink("/usr/bin/tool", at("bin/linked")).unwrap();
        symlink("loop", at("bin/loop")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        (dir, root)
    }

    fn put(dir: &Path, path: &str, bytes: &[u8], mode: u32) {
        fs::write(dir.join(path), bytes).unwrap();
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn lookup(program: &str) -> Lookup {
        Lookup {
            program: program.into(),
            path: None,
            cwd: "/".into(),
            hidden: Vec::new(),
        }
    }

    fn found(path: &str) -> Program {
        Program::Found(path.into())
    }

    #[test]
    fn a_link_stays_below_the_root() {
        let (_dir, root) = tree();
        assert_eq!(
            text(root.as_fd(), "etc/passwd", 100).unwrap(),
            "root:x:0:0::/:/bin/sh\n"
        );
        // This file exists on the host, but not in the image.
        assert!(Path::new("/etc/shadow").exists());
        assert_eq!(text(root.as_fd(), "etc/group", 1 << 20).unwrap(), "");
        assert!(text(root.as_fd(), "etc/passwd", 3).is_err());
    }

    #[test]
    fn what_is_not_a_file_is_empty_and_never_blocks() {
        let (dir, root) = tree();
        let fifo = dir.path().join("etc/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/null", dir.path().join("etc/null")).unwrap();
        for path in ["etc/fifo", "etc/null", "bin/loop"] {
            assert_eq!(text(root.as_fd(), path, 100).unwrap(), "", "{path}");
        }
        let error = text(root.as_fd(), "etc", 100).unwrap_err();
        assert_eq!(error.to_string(), "etc is a directory");
    }

    #[test]
    fn a_place_is_classified_by_what_is_there_and_how_it_is_reached() {
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
        assert_eq!(place("/linked"), Place::Linked("/usr".into()));
        assert_eq!(place("/linked/bin"), Place::Linked("/usr/bin".into()));
        for (nothing, at) in [
            ("/nowhere/at/all", "/nowhere/at/all"),
            ("/dangling", "/nowhere"),
            ("/usr/x", "/usr/x"),
            ("/linked/x", "/usr/x"),
        ] {
            assert_eq!(place(nothing), Place::Nothing(at.into()), "{nothing}");
        }
        for blocked in ["/bin/data/x", "/bin/loop"] {
            assert_eq!(place(blocked), Place::Blocked, "{blocked}");
        }
    }

    #[test]
    fn a_program_is_found_as_execvp_finds_it() {
        let (_dir, root) = tree();
        let find = |program: &str, path: Option<&str>, cwd: &str| {
            let lookup = Lookup {
                path: path.map(Into::into),
                cwd: cwd.into(),
                ..lookup(program)
            };
            executable(root.as_fd(), &lookup).unwrap()
        };
        assert_eq!(find("tool", None, "/"), found("/usr/bin/tool"));
        assert_eq!(find("linked", None, "/"), found("/bin/linked"));
        assert_eq!(find("tool", Some("/bin"), "/"), Program::NotFound);
        assert_eq!(find("./run", None, "/work"), found("/work/./run"));
        assert_eq!(find("run", Some(""), "/work"), found("/work/run"));
        assert_eq!(find("/usr/bin/tool", Some(""), "/"), found("/usr/bin/tool"));
        let refused = |path: &str, why| Program::NotExecutable(path.to_owned(), why);
        let mode = NotExecutable::Permission(0o644);
        assert_eq!(find("data", None, "/"), refused("/bin/data", mode));
        assert_eq!(find("/usr", None, "/"), refused("/usr", NotExecutable::Directory));
        assert_eq!(find("/dev/null", None, "/"), Program::NotFound);
        for absent in ["loop", "nowhere", "/bin/data/x", "", "a\0b"] {
            assert_eq!(find(absent, None, "/"), Program::NotFound, "{absent:?}");
        }
    }

    #[test]
    fn a_file_that_the_kernel_would_not_execute_is_refused_with_the_reason() {
        let (dir, root) = tree();
        let find = |path: &str, bytes: &[u8], cwd: &str| {
            put(dir.path(), path, bytes, 0o755);
            let lookup = Lookup {
                cwd: cwd.into(),
                ..lookup(&format!("/{path}"))
            };
            executable(root.as_fd(), &lookup).unwrap()
        };
        let why = |bytes: &[u8]| match find("x", bytes, "/") {
            Program::NotExecutable(path, why) if path == "/x" => why.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(why(b""), "exec format error: it is empty");
        let lacks = |role, path: &str| NotExecutable::Lacks {
            role,
            path: path.to_owned(),
        };
        assert!(lacks("loader", "/l").is_missing() && !NotExecutable::Directory.is_missing());
        assert!(why(b"echo\n").starts_with("exec format error: it is neither"));
        assert!(why(&elf(22, None)).starts_with("exec format error: it is a program for"));
        assert_eq!(
            why(b"#!/bin/nosuch -e\n"),
            "its interpreter \"/bin/nosuch\" is not in the image"
        );
        assert_eq!(
            why(b"#!/bin/data\n"),
            "its interpreter \"/bin/data\" cannot be executed: no user has the permission to execute it (mode 644)"
        );
        let windows = why(b"#!/usr/bin/tool\r\n");
        assert!(
            windows.contains(r#""/usr/bin/tool\r" is not in the image; the file has lines as on Windows"#),
            "{windows}"
        );
        assert_eq!(
            why(&program(Some("/lib/ld.so"))),
            "its loader \"/lib/ld.so\" is not in the image"
        );
        assert_eq!(why(b"#!/x\n"), "it needs a chain of more than 5 interpreters");
        // Valid scripts: through a link, relative to the working directory, and through another script.
        for (script, cwd) in [
            ("#!/bin/linked\n", "/"),
            ("#! usr/bin/tool -e", "/"),
            ("#!tool\n", "/usr/bin"),
            ("#!/work/script\n", "/"),
        ] {
            put(dir.path(), "work/script", b"#!/usr/bin/tool\n", 0o755);
            assert_eq!(find("x", script.as_bytes(), cwd), found("/x"), "{script:?}");
        }
        assert_eq!(find("x", &program(Some("/usr/bin/tool")), "/"), found("/x"));
    }

    #[test]
    fn as_many_interpreters_as_the_kernel_follows_are_followed() {
        let (dir, root) = tree();
        for n in 0..=6 {
            let next = format!("#!/s{}\n", n + 1);
            put(dir.path(), &format!("s{n}"), next.as_bytes(), 0o755);
        }
        put(dir.path(), "s6", &program(None), 0o755);
        let find = |path: &str| executable(root.as_fd(), &lookup(path)).unwrap();
        assert_eq!(find("/s1"), found("/s1"), "five are between it and the program");
        let endless = Program::NotExecutable("/s0".into(), NotExecutable::Endless);
        assert_eq!(find("/s0"), endless);
    }

    #[test]
    fn what_the_container_has_of_its_own_is_not_the_image_s_to_decide() {
        let (dir, root) = tree();
        symlink("/usr", dir.path().join("u")).unwrap();
        put(dir.path(), "bin/script", b"#!/opt/lang/run\n", 0o755);
        put(dir.path(), "bin/empty", b"", 0o755);
        let find = |program: &str, path: &str, hidden: &[&str]| {
            let lookup = Lookup {
                path: Some(path.into()),
                hidden: hidden.iter().map(ToString::to_string).collect(),
                ..lookup(program)
            };
            executable(root.as_fd(), &lookup).unwrap()
        };
        for (program, path, hidden) in [
            ("/opt/tools/run", "", "/opt/tools"),
            ("nosuch", "/bin:/opt/tools", "/opt/tools"),
            // Through links in either path.
            ("linked", "/bin", "/usr/bin"),
            ("nosuch", "/u/bin", "/usr/bin"),
            ("/usr/bin/x", "", "/u/bin"),
            ("script", "/bin", "/opt"),
            // The program may be in the directory that is searched first.
            ("empty", "/opt:/bin", "/opt"),
            ("/proc/self/exe", "", "/proc"),
        ] {
            assert_eq!(
                find(program, path, &[hidden]),
                Program::Hidden,
                "{program} and {hidden}"
            );
        }
        assert_eq!(find("nosuch", "/bin:/usr/bin", &["/opt"]), Program::NotFound);
        assert_eq!(find("/opt/toolsrun", "", &["/opt/tools"]), Program::NotFound);
        assert_eq!(find("tool", "/opt:/usr/bin", &["/opt"]), found("/usr/bin/tool"));
        assert!(matches!(
            find("empty", "/bin:/opt", &["/opt"]),
            Program::NotExecutable(..)
        ));
    }
}
