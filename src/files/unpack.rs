//! Unpacks a tar archive, which may be compressed, into a directory of a container.
//!
//! An entry's directory is looked up beneath the root, and the entry is made in it without following a link. What is in the
//! way is replaced, unless both are directories.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::beneath::{make_dirs, open_in};
use super::entry_name::beneath;
use super::error::{Error, LONGEST_HEADER, Result};
use super::path::ContainerPath;
use super::remove::remove;
use super::root::Root;
use super::stat::is;
use crate::compression::{Compression, Foreign, MAGIC};

/// The size of a copied part.
const BUFFER: usize = 256 << 10;

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unpacking {
    /// Whether a directory may not replace another kind of file, and the other way round.
    pub(crate) keeps_kinds: bool,
    /// The user and group of everything, in place of those in the archive.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whether devices are made. Otherwise they are an error: an archive of a client would make those of the host.
    pub(crate) makes_devices: bool,
    /// Whether a program loses what would give its caller the rights of its owner, or capabilities.
    pub(crate) drops_privileges: bool,
}

/// Unpacks an archive into `dir`, which must be there. Returns the number of its entries. After an error, the entries before
/// it are unpacked. Blocks.
///
/// # Errors
/// [`Error::NotDirectory`] before anything is read; [`Error::Outside`] and [`Error::Device`] for an entry that is not
/// unpacked anywhere; [`Error::Archive`] if the archive cannot be read.
pub(crate) fn unpack(
    root: &Root,
    dir: &ContainerPath,
    mut archive: impl Read + Send,
    how: Unpacking,
) -> Result<u64> {
    let opened = root.open(dir.as_path(), OFlags::PATH | OFlags::DIRECTORY);
    drop(opened.map_err(|errno| Error::of(dir.bytes(), errno))?);
    let mut head = Vec::new();
    archive
        .by_ref()
        .take(MAGIC)
        .read_to_end(&mut head)
        .map_err(Error::Archive)?;
    let compression = Compression::of(&head);
    let archive = BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(archive));
    let plain: Box<dyn Read + Send + '_> = match compression {
        None => Box::new(archive),
        Some(Compression::Foreign(Foreign { name, program })) => {
            return Err(Error::Foreign { name, program });
        }
        Some(compression) => compression.reader(archive).map_err(Error::Archive)?,
    };
    let left = Cell::new(None);
    let mut archive = tar::Archive::new(Limited {
        from: plain,
        left: &left,
    });
    let mut unpacker = Unpacker {
        root,
        dir: dir.as_path(),
        how,
        last: None,
        times: BTreeMap::new(),
    };
    let mut count = 0;
    let mut entries = archive.entries().map_err(Error::Archive)?;
    loop {
        // The headers of an entry are read into memory.
        left.set(Some(LONGEST_HEADER));
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(|error| match left.get() {
            Some(0) => Error::LongHeader,
            _ => Error::Archive(error),
        })?;
        left.set(None);
        unpacker.entry(entry)?;
        count += 1;
    }
    unpacker.finish();
    Ok(count)
}

/// A reader that ends where too much is read, if there is a limit at the moment.
struct Limited<'a, R> {
    from: R,
    left: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else {
            return self.from.read(into);
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let read = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        self.left.set(Some(left.saturating_sub(read as u64)));
        Ok(read)
    }
}

struct Unpacker<'a> {
    root: &'a Root,
    /// The directory that everything is unpacked into.
    dir: &'a Path,
    how: Unpacking,
    /// The directory of the last entry: most archives have many entries of one in a row.
    last: Option<(PathBuf, OwnedFd)>,
    /// When each directory was modified, which is set at the end.
    times: BTreeMap<PathBuf, Timespec>,
}

impl Unpacker<'_> {
    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let named = entry.path_bytes().into_owned();
        let text = || String::from_utf8_lossy(&named).into_owned();
        let outside = || Error::Outside { name: text() };
        let path = beneath(&named).ok_or_else(outside)?;
        let Some(name) = path.file_name() else {
            // The directory itself, which is there and stays as it is.
            return Ok(());
        };
        let fail = |errno| Error::of(&named, errno);
        let owner = self.owner(&entry)?;
        let kept = if self.how.drops_privileges { 0o1777 } else { 0o7777 };
        let mode = entry.header().mode().map_err(Error::Archive)? & kept;
        let time = Timespec {
            tv_sec: entry
                .header()
                .mtime()
                .ok()
                .and_then(|at| i64::try_from(at).ok())
                .unwrap_or_default(),
            tv_nsec: 0,
        };
        if matches!(kind, EntryType::Char | EntryType::Block) && !self.how.makes_devices {
            return Err(Error::Device { name: text() });
        }
        let parent = self.parent(path.parent().unwrap_or_else(|| Path::new("")))?;
        let is_merged = self.make_room(parent.as_fd(), name, kind == EntryType::Directory, &named)?;
        match kind {
            EntryType::Directory => {
                if !is_merged {
                    mkdirat(&parent, name, Mode::from_raw_mode(0o700)).map_err(fail)?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&parent, name, flags, Mode::empty()).map_err(fail)?;
                describe(made.as_fd(), owner, mode, &self.attributes(&mut entry)).map_err(fail)?;
                self.times.insert(path.clone(), time);
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
                let attributes = self.attributes(&mut entry);
                if kind == EntryType::GNUSparse && entry.size() > free(made.as_fd()) {
                    // Written out, it would fill the disk; and its zeros take time, though no room.
                    return Err(fail(Errno::NOSPC));
                }
                let made = copy(&mut entry, File::from(made), kind == EntryType::GNUSparse, &named)?;
                // After the last write, which takes the bits for other users' rights away.
                describe(made.as_fd(), owner, mode, &attributes).map_err(fail)?;
                futimens(&made, &times(time)).map_err(fail)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                symlinkat(OsStr::from_bytes(&target), &parent, name).map_err(fail)?;
                self.describe_link(parent.as_fd(), name, owner, time)
                    .map_err(fail)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = beneath(&target).ok_or_else(outside)?;
                let Some(source) = target.file_name() else {
                    return Err(outside());
                };
                let of = self.parent(target.parent().unwrap_or_else(|| Path::new("")))?;
                match linkat(&of, source, &parent, name, AtFlags::empty()) {
                    Err(Errno::NOENT) => {
                        let target = target.display().to_string();
                        return Err(Error::NoTarget { name: text(), target });
                    }
                    linked => linked.map_err(fail)?,
                }
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let (file_type, device) = match kind {
                    EntryType::Fifo => (FileType::Fifo, 0),
                    EntryType::Char => (FileType::CharacterDevice, device(&entry)?),
                    _ => (FileType::BlockDevice, device(&entry)?),
                };
                mknodat(&parent, name, file_type, Mode::from_raw_mode(0o600), device).map_err(fail)?;
                self.describe_link(parent.as_fd(), name, owner, time)
                    .map_err(fail)?;
                let made =
                    openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(fail)?;
                let made = format!("/proc/self/fd/{}", made.as_raw_fd());
                rustix::fs::chmod(made, Mode::from_raw_mode(mode)).map_err(fail)?;
            }
            _ => return Err(Error::UnknownKind { name: text() }),
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry<'_, impl Read>) -> Result<(u32, u32)> {
        if let Some(owner) = self.how.owner {
            return Ok(owner);
        }
        let id = |id: io::Result<u64>| -> Result<u32> {
            let id = id.map_err(Error::Archive)?;
            u32::try_from(id).map_err(|_| Error::Archive(io::Error::other("an owner is no 32-bit number")))
        };
        Ok((id(entry.header().uid())?, id(entry.header().gid())?))
    }

    /// Opens a directory beneath the one that everything is unpacked into, and makes it if it is missing.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd> {
        if let Some((last, opened)) = &self.last
            && last == path
        {
            return opened
                .try_clone()
                .map_err(|error| Error::io(path.as_os_str().as_bytes(), error));
        }
        let whole = self.dir.join(path);
        let opened = make_dirs(self.root.as_fd(), &whole)?;
        let kept = opened
            .try_clone()
            .map_err(|error| Error::io(path.as_os_str().as_bytes(), error))?;
        self.last = Some((path.to_owned(), kept));
        Ok(opened)
    }

    /// Removes what is in the way of an entry. Returns whether a directory is there that the entry describes.
    fn make_room(&mut self, dir: BorrowedFd<'_>, name: &OsStr, is_dir: bool, named: &[u8]) -> Result<bool> {
        let path = || String::from_utf8_lossy(named).into_owned();
        let found = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => found.map_err(|errno| Error::of(named, errno))?,
        };
        let was_dir = is(&found, FileType::Directory);
        match (was_dir, is_dir) {
            (true, true) => return Ok(true),
            (true, false) if self.how.keeps_kinds => {
                return Err(Error::WouldReplaceDirectory { path: path() });
            }
            (false, true) if self.how.keeps_kinds => {
                return Err(Error::WouldReplaceFile { path: path() });
            }
            _ => {}
        }
        if was_dir {
            // What is below it is looked up anew.
            self.last = None;
        }
        remove(dir, name).map_err(|errno| Error::of(named, errno))?;
        Ok(false)
    }

    /// The extended attributes of an entry that are unpacked: those of users, and the capabilities of a program. Others are the
    /// kernel's and its file systems'.
    fn attributes(&self, entry: &mut Entry<'_, impl Read>) -> Vec<(String, Vec<u8>)> {
        let Ok(Some(extensions)) = entry.pax_extensions() else {
            return Vec::new();
        };
        let all = extensions.filter_map(|extension| {
            let extension = extension.ok()?;
            let name = extension.key().ok()?.strip_prefix("SCHILY.xattr.")?;
            let is_taken = match name {
                "security.capability" => !self.how.drops_privileges,
                name => name.starts_with("user."),
            };
            is_taken.then(|| (name.to_owned(), extension.value_bytes().to_vec()))
        });
        all.collect()
    }

    fn describe_link(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        (uid, gid): (u32, u32),
        time: Timespec,
    ) -> std::result::Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        utimensat(dir, name, &times(time), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the times of the directories, now that nothing is made in them any more.
    fn finish(self) {
        for (path, time) in self.times {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            if let Ok(dir) = open_in(self.root.as_fd(), &self.dir.join(path), flags) {
                // One that an entry replaced later has its own.
                let _ = futimens(&dir, &times(time));
            }
        }
    }
}

/// The number of a device.
fn device(entry: &Entry<'_, impl Read>) -> Result<u64> {
    let number = |of: io::Result<Option<u32>>| of.map(Option::unwrap_or_default).map_err(Error::Archive);
    let header = entry.header();
    Ok(rustix::fs::makedev(
        number(header.device_major())?,
        number(header.device_minor())?,
    ))
}

fn times(at: Timespec) -> Timestamps {
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

fn describe(
    made: BorrowedFd<'_>,
    (uid, gid): (u32, u32),
    mode: u32,
    attributes: &[(String, Vec<u8>)],
) -> std::result::Result<(), Errno> {
    fchown(made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(made, Mode::from_raw_mode(mode))?;
    for (name, value) in attributes {
        match fsetxattr(made, name.as_str(), value, XattrFlags::empty()) {
            // A file system without them.
            Err(Errno::NOTSUP) => {}
            set => set?,
        }
    }
    Ok(())
}

/// The room on the file system of a file, in bytes.
fn free(made: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstatvfs(made).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Copies an entry into a file. The zeros of a sparse entry take no room, however many there are.
fn copy(from: &mut impl Read, mut to: File, is_sparse: bool, named: &[u8]) -> Result<File> {
    let fail = |error| Error::io(named, error);
    let mut buffer = vec![0; BUFFER];
    let mut size = 0_u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Archive(error)),
        };
        let part = buffer.get(..read).unwrap_or_default();
        match is_sparse && part.iter().all(|byte| *byte == 0) {
            true => drop(
                to.seek(SeekFrom::Current(i64::try_from(read).unwrap_or_default()))
                    .map_err(fail)?,
            ),
            false => to.write_all(part).map_err(fail)?,
        }
        size += read as u64;
    }
    if is_sparse {
        to.set_len(size).map_err(fail)?;
    }
    Ok(to)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
