//! Takes memory back from an idle container, through `memory.reclaim` of the v2 tree (Linux 5.19).
//!
//! The kernel drops clean page cache and writes to swap what it can; the container faults the pages in again when it
//! needs them. The work is done in chunks, and the caller is asked before each chunk whether to go on. A thaw takes no
//! lock that a reclaim holds. But the removal of a cgroup waits for any write to one of its files that is under way,
//! while it holds a lock that every cgroup of the host needs (kernfs_drain() under cgroup_mutex). So no write may take
//! long.
//!
//! Blocks: call it on a thread that may block. Keeps no descriptor open; if the container is removed meanwhile, the
//! result is [`Error::Gone`].

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::files::read_number;
use super::paths::Paths;

const RECLAIM: &str = "memory.reclaim";
const CURRENT: &str = "memory.current";

/// How much one write asks for: some milliseconds of dropping page cache, or some tens of milliseconds of writing to a
/// disk.
const CHUNK: u64 = 8 << 20;

/// How much memory the kernel took back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reclaimed {
    /// By how many bytes `memory.current` fell.
    pub(crate) bytes: u64,
}

/// Reclaims the memory of one container.
#[derive(Debug, Clone)]
pub(crate) struct Reclaimer {
    dir: PathBuf,
}

impl Reclaimer {
    /// The reclaimer of the container at `paths`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the kernel has no such file: before 5.19, or with memory in a v1 hierarchy.
    /// [`Error::Gone`] if the container no longer exists.
    pub(crate) fn of(paths: &Paths) -> Result<Self, Error> {
        if let Some(dir) = paths.v2.as_deref()
            && dir.join(RECLAIM).exists()
        {
            return Ok(Self { dir: dir.to_owned() });
        }
        if paths.exist() {
            Err(Error::Unsupported {
                path: paths.name(),
                what: "give memory back (which requires unified cgroups and Linux 5.19)",
                file: RECLAIM,
            })
        } else {
            Err(Error::Gone { path: paths.name() })
        }
    }

    /// Takes back as much memory as the kernel gives, for as long as `go_on` returns true.
    ///
    /// # Errors
    /// [`Error::Gone`] if the container was removed meanwhile. Taking back less than was asked for is no error.
    pub(crate) fn run(&self, go_on: impl Fn() -> bool) -> Result<Reclaimed, Error> {
        let failed = |op, file| move |source| Error::io(op, &self.dir, file, source);
        // Opened without creating it: a regular directory in the cgroup's place has no such file.
        let mut file = File::options()
            .write(true)
            .open(self.dir.join(RECLAIM))
            .map_err(failed("open", RECLAIM))?;
        let before = self.current()?;
        drive(before, go_on, |bytes| {
            file.write_all(format!("{bytes}").as_bytes())
        })
        .map_err(failed("write", RECLAIM))?;
        Ok(Reclaimed {
            bytes: before.saturating_sub(self.current()?),
        })
    }

    fn current(&self) -> Result<u64, Error> {
        let gone = || Error::Gone {
            path: self.dir.clone(),
        };
        read_number(&self.dir, CURRENT)?.ok_or_else(gone)
    }
}

/// Asks for `total` bytes in chunks, until the kernel has no more to give.
fn drive(total: u64, go_on: impl Fn() -> bool, mut ask: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let mut left = total;
    while left > 0 && go_on() {
        let bytes = left.min(CHUNK);
        match ask(bytes) {
            Ok(()) => left -= bytes,
            // The kernel tried several times and got less: the rest is in use, or has no swap to go to.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // A signal to this process interrupted the write. It is repeated if the caller still wants it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether containers in the v2 tree at `top` have the file. The root cgroup never has it, and a child has it only with
/// the memory controller; without any such child, the kernel's release decides.
pub(super) fn is_offered(top: &Path, kernel: Option<(u32, u32)>) -> bool {
    let children = fs::read_dir(top).into_iter().flatten().flatten();
    let child = children
        .map(|entry| entry.path())
        .chain([top.to_owned()])
        .find(|dir| dir.join(CURRENT).exists());
    match child {
        Some(child) => child.join(RECLAIM).exists(),
        None => kernel.is_some_and(|kernel| kernel >= (5, 19)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn error(number: nix::errno::Errno) -> io::Error {
        io::Error::from_raw_os_error(number as i32)
    }

    #[test]
    fn all_is_asked_for_in_chunks_and_no_more() {
        let asked = RefCell::new(Vec::new());
        let ask = |bytes| {
            asked.borrow_mut().push(bytes);
            Ok(())
        };
        drive(20 * MIB, || true, ask).unwrap();
        assert_eq!(*asked.borrow(), [8 * MIB, 8 * MIB, 4 * MIB]);
    }

    #[test]
    fn a_thaw_is_seen_between_two_chunks() {
        let asked = Cell::new(0);
        let ask = |_| {
            asked.set(asked.get() + 1);
            Ok(())
        };
        drive(1 << 30, || asked.get() < 3, ask).unwrap();
        assert_eq!(asked.get(), 3);
        drive(1 << 30, || false, |_| panic!("asked after the thaw")).unwrap();
    }

    #[test]
    fn less_than_asked_for_is_the_end_and_a_signal_is_not() {
        use nix::errno::Errno;

        let asked = Cell::new(0);
        let ask = |_| {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => Err(error(Errno::EINTR)),
                2 => Ok(()),
                _ => Err(error(Errno::EAGAIN)),
            }
        };
        drive(1 << 30, || true, ask).unwrap();
        assert_eq!(asked.get(), 3);
        let gone = drive(MIB, || true, |_| Err(error(Errno::ENODEV))).unwrap_err();
        assert!(super::super::error::is_gone(&gone));
    }

    fn in_v2(dir: &Path) -> Paths {
        Paths {
            v2: Some(dir.to_owned()),
            ..Paths::default()
        }
    }

    #[test]
    fn what_is_written_is_a_number_of_bytes_and_what_came_back_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RECLAIM), "").unwrap();
        fs::write(dir.path().join(CURRENT), "12582912\n").unwrap();
        let reclaimer = Reclaimer::of(&in_v2(dir.path())).unwrap();
        let freed = || {
            fs::write(dir.path().join(CURRENT), "4194304\n").unwrap();
            true
        };
        assert_eq!(reclaimer.run(freed).unwrap(), Reclaimed { bytes: 8 * MIB });
        // A kernel file handles each write separately; this regular file concatenates them.
        assert_eq!(
            fs::read_to_string(dir.path().join(RECLAIM)).unwrap(),
            "83886084194304"
        );
    }

    #[test]
    fn a_kernel_or_layout_without_the_file_and_a_removed_container_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Reclaimer::of(&in_v2(dir.path())).unwrap_err();
        assert!(
            refused.to_string().contains("unified cgroups and Linux 5.19"),
            "{refused}"
        );
        assert!(matches!(refused, Error::Unsupported { file: RECLAIM, .. }));
        let v1 = Paths {
            memory: Some(dir.path().to_owned()),
            ..Paths::default()
        };
        assert!(matches!(Reclaimer::of(&v1), Err(Error::Unsupported { .. })));
        assert!(
            Reclaimer::of(&in_v2(&dir.path().join("gone")))
                .unwrap_err()
                .is_gone()
        );
        fs::write(dir.path().join(RECLAIM), "").unwrap();
        fs::write(dir.path().join(CURRENT), "1\n").unwrap();
        let removed = Reclaimer::of(&in_v2(dir.path())).unwrap();
        fs::remove_file(dir.path().join(RECLAIM)).unwrap();
        assert!(removed.run(|| true).unwrap_err().is_gone());
        assert!(!dir.path().join(RECLAIM).exists(), "the file was made");
    }

    #[test]
    fn a_child_shows_the_file_that_the_root_cgroup_never_has() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_offered(dir.path(), Some((5, 19))));
        assert!(!is_offered(dir.path(), Some((5, 18))));
        let child = dir.path().join("a");
        fs::create_dir(&child).unwrap();
        assert!(
            is_offered(dir.path(), Some((6, 1))),
            "a child without the controller proves nothing"
        );
        fs::write(child.join(CURRENT), "1").unwrap();
        assert!(!is_offered(dir.path(), Some((6, 1))), "a kernel that has lost it");
        fs::write(child.join(RECLAIM), "").unwrap();
        assert!(
            is_offered(dir.path(), Some((5, 10))),
            "a kernel that was given it"
        );
    }
}
