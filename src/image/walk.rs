//! Follows a path in a root file system that is not trusted, step by step. Finds the path without links, and whether it
//! leads through a place whose contents the image does not determine.
//!
//! The kernel resolves each step below the root, so a symbolic link to `/etc/passwd` leads to the file of the image,
//! and no link leads out. The file system must not be changed at the same time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The end of a path.
#[derive(Debug)]
pub(super) enum End {
    /// A file that is not a symbolic link, with its path without links.
    There(String, OwnedFd),
    /// Nothing exists, but something could be created at this path, which has no links.
    Nothing(String),
    /// Nothing can exist there: a part before the end is not a directory, or links lead in a circle.
    Blocked,
    /// The path leads to a place whose contents the image does not determine.
    Hidden,
}

/// Follows a path from the root. `hidden` are the places whose contents the image does not determine, as paths without
/// links.
pub(super) fn walk(root: BorrowedFd<'_>, path: &str, hidden: &[String]) -> io::Result<End> {
    let mut at = String::new();
    let Ok(mut found) = open(root, "/")? else {
        return Ok(End::Blocked);
    };
    // The parts in reverse order, so that the next one is last.
    let mut rest: Vec<String> = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if !is(&found, FileType::Directory)? {
            return Ok(End::Blocked);
        }
        match part.as_str() {
            "." => continue,
            ".." => {
                at.truncate(at.rfind('/').unwrap_or_default());
                found = match open(root, &format!("{at}/"))? {
                    Ok(above) => above,
                    Err(_) => return Ok(End::Blocked),
                };
                continue;
            }
            _ => {}
        }
        let next = format!("{at}/{part}");
        if is_below(&next, hidden) {
            return Ok(End::Hidden);
        }
        let step = match open(root, &next)? {
            Ok(step) => step,
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(End::Blocked),
            Err(_) => {
                let whole = rest.iter().rev().fold(next, |path, part| clean(&path, part));
                let is_hidden = is_below(&whole, hidden);
                return Ok(if is_hidden {
                    End::Hidden
                } else {
                    End::Nothing(whole)
                });
            }
        };
        if !is(&step, FileType::Symlink)? {
            (at, found) = (next, step);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Ok(End::Blocked);
        }
        let target = rustix::fs::readlinkat(&step, "", Vec::new())?;
        let target = target.to_string_lossy();
        if target.starts_with('/') {
            at.clear();
            found = match open(root, "/")? {
                Ok(top) => top,
                Err(_) => return Ok(End::Blocked),
            };
        }
        rest.extend(parts(&target));
    }
    let at = if at.is_empty() { "/".to_owned() } else { at };
    Ok(End::There(at, found))
}

/// The parts of a path, the first one last.
fn parts(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.rev().map(str::to_owned).collect()
}

fn is_below(path: &str, places: &[String]) -> bool {
    places.iter().any(|place| Path::new(path).starts_with(place))
}

/// Appends a part to a path that does not exist.
fn clean(path: &str, part: &str) -> String {
    match part {
        "." => path.to_owned(),
        ".." => path
            .rsplit_once('/')
            .map_or_else(String::new, |(above, _)| above.to_owned()),
        name => format!("{path}/{name}"),
    }
}

pub(super) fn is(found: impl AsFd, kind: FileType) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode) == kind)
}

/// A handle of the file at a path without links. The file is not opened; if it is a link, the handle refers to the link
/// itself. The inner error is the kernel's reason why there is no such file; the outer error is any other failure.
pub(super) fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<Result<OwnedFd, Errno>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The kernel returns EAGAIN if a rename raced with the resolution.
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("usr/bin")).unwrap();
        fs::create_dir_all(at("run")).unwrap();
        fs::create_dir_all(at("var")).unwrap();
        fs::write(at("usr/bin/tool"), "x").unwrap();
        symlink("usr/bin", at("bin")).unwrap();
        symlink("../run", at("var/run")).unwrap();
        symlink("/../../var/run/x", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/bin/tool", at("tool")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        (dir, root)
    }

    fn leads(root: &fs::File, path: &str, hidden: &[&str]) -> String {
        let hidden: Vec<_> = hidden.iter().map(ToString::to_string).collect();
        match walk(root.as_fd(), path, &hidden).unwrap() {
            End::There(at, found) => {
                let seen = fs::read_link(format!(
                    "/proc/self/fd/{}",
                    std::os::fd::AsRawFd::as_raw_fd(&found)
                ));
                assert!(seen.unwrap().ends_with(at.trim_start_matches('/')), "{at}");
                at
            }
            End::Nothing(at) => format!("nothing at {at}"),
            End::Blocked => "blocked".to_owned(),
            End::Hidden => "hidden".to_owned(),
        }
    }

    #[test]
    fn a_path_leads_to_what_is_there_without_links() {
        let (_dir, root) = tree();
        for (path, to) in [
            ("/usr/bin/tool", "/usr/bin/tool"),
            ("bin/./tool", "/usr/bin/tool"),
            ("/tool", "/usr/bin/tool"),
            ("/var/run/../usr/bin", "/usr/bin"),
            ("/../../usr", "/usr"),
            ("/", "/"),
            ("", "/"),
            ("/var/run", "/run"),
            ("/var/run/a/../b/./c", "nothing at /run/b/c"),
            ("/dangling", "nothing at /run/x"),
            ("/dangling/y", "nothing at /run/x/y"),
            ("/loop", "blocked"),
            ("/usr/bin/tool/x", "blocked"),
            ("/usr/bin/tool/..", "blocked"),
            ("/a\0b", "nothing at /a\0b"),
        ] {
            assert_eq!(leads(&root, path, &[]), to, "{path:?}");
        }
        let long = format!("/{}", "n".repeat(300));
        assert_eq!(leads(&root, &long, &[]), format!("nothing at {long}"));
    }

    #[test]
    fn a_place_that_the_image_does_not_decide_is_recognised_however_it_is_reached() {
        let (_dir, root) = tree();
        for (path, hidden) in [
            ("/bin/tool", "/usr"),
            ("/tool", "/usr/bin"),
            ("/tool", "/usr/bin/tool"),
            ("/bin/new/er", "/usr/bin/new"),
            ("/var/run/x", "/run"),
            ("/dangling", "/run/x"),
            ("/nowhere/at/all", "/nowhere/at"),
        ] {
            assert_eq!(leads(&root, path, &[hidden]), "hidden", "{path} and {hidden}");
        }
        assert_eq!(
            leads(&root, "/tool", &["/usr/b", "/bin"]),
            "hidden",
            "the link itself is in /bin"
        );
        assert_eq!(
            leads(&root, "/usr/bin/tool", &["/usr/b", "/bin"]),
            "/usr/bin/tool"
        );
        assert_eq!(leads(&root, "/var", &["/var/run"]), "/var");
    }
}
