//! Packs a file, or a directory with all that is in it, into a tar archive (pax, as Docker writes it).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::error::{DEEPEST, Error, Result};
use super::path::ContainerPath;
use super::remove::names;
use super::root::Root;
use super::stat::is;

/// The longest name that fits into the header itself.
const SHORT: usize = 100;

/// The capabilities of a program, which are lost otherwise.
const CAPABILITIES: &str = "security.capability";

/// File systems whose files are the kernel's, and are not packed unless one is asked for (linux/magic.h): proc, sysfs,
/// cgroup, cgroup2, devpts, mqueue, bpf, tracefs, debugfs and securityfs.
const OF_THE_KERNEL: [u64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x27_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0xcafe_4a11,
    0x7472_6163,
    0x6462_6720,
    0x7363_6673,
];

/// Writes the archive, whose names begin with `named`; with nothing, they begin with `/`. What vanishes while it is packed is left out, and so are
/// sockets; a file that shrinks is filled up with zeros. Blocks.
///
/// # Errors
/// [`Error::Missing`] and [`Error::NotDirectory`] before anything is written; [`Error::Sink`] if the writer fails.
pub(crate) fn pack(root: &Root, path: &ContainerPath, named: &OsStr, to: impl Write) -> Result<()> {
    let (dir, name) = root.place_of(path)?;
    let fail = |errno| Error::of(path.bytes(), errno);
    let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let is_dir = is(&found, FileType::Directory);
    if path.must_be_directory() && !is_dir {
        return Err(fail(Errno::NOTDIR));
    }
    let mut packer = Packer {
        out: Builder::new(Sink {
            to,
            has_failed: false,
        }),
        linked: HashMap::new(),
    };
    let named = named.as_bytes().to_vec();
    let packed = match is_dir {
        true => open_dir(dir.as_fd(), name)
            .map_err(fail)
            .and_then(|opened| packer.tree(opened, named)),
        false => packer.file(dir.as_fd(), name, &named),
    };
    if packed.is_err() {
        // The end of an archive is not written after an error.
        packer.out.get_mut().has_failed = true;
    }
    packed?;
    packer.out.finish().map_err(Error::Sink)?;
    let mut sink = packer.out.into_inner().map_err(Error::Sink)?;
    sink.flush().map_err(Error::Sink)
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// A writer that remembers that it has failed: the errors of a copy do not tell its two sides apart.
#[derive(Debug)]
struct Sink<W> {
    to: W,
    has_failed: bool,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.to.write(bytes);
        self.has_failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A directory that is being packed.
struct Level {
    dir: OwnedFd,
    /// Its name in the archive.
    named: Vec<u8>,
    /// What is left to pack in it, last first.
    names: Vec<OsString>,
    /// The file system that it is on.
    device: u64,
}

struct Packer<W: Write> {
    out: Builder<Sink<W>>,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    /// Packs a directory and everything below it, in the order of the names.
    fn tree(&mut self, top: OwnedFd, named: Vec<u8>) -> Result<()> {
        let mut levels = Vec::new();
        levels.extend(self.level(top, named, None)?);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let named = [&level.named, &b"/"[..], name.as_bytes()].concat();
            let found = match statat(&level.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                found => found.map_err(|errno| Error::of(&named, errno))?,
            };
            if !is(&found, FileType::Directory) {
                self.file(level.dir.as_fd(), &name, &named)?;
                continue;
            }
            let deeper = match open_dir(level.dir.as_fd(), &name) {
                // It is gone, or another kind of file by now.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened.map_err(|errno| Error::of(&named, errno))?,
            };
            let device = Some(level.device);
            if levels.len() >= DEEPEST {
                let path = String::from_utf8_lossy(&named).into_owned();
                return Err(Error::TooDeep { path });
            }
            levels.extend(self.level(deeper, named, device)?);
        }
        Ok(())
    }

    /// Packs a directory without what is in it. `None` if that is the kernel's, and `above` is the file system of the
    /// directory above.
    fn level(&mut self, dir: OwnedFd, named: Vec<u8>, above: Option<u64>) -> Result<Option<Level>> {
        let fail = |errno| Error::of(&named, errno);
        let found = fstat(&dir).map_err(fail)?;
        let mut header = header(&found, EntryType::Directory, 0);
        self.entry(
            &mut header,
            &[&named, &b"/"[..]].concat(),
            None,
            None,
            io::empty(),
        )?;
        let device = found.st_dev;
        if above.is_some_and(|above| above != device) {
            let kind = fstatfs(&dir).map_err(fail)?.f_type;
            if u64::try_from(kind).is_ok_and(|kind| OF_THE_KERNEL.contains(&kind)) {
                return Ok(None);
            }
        }
        let mut names = names(dir.as_fd()).map_err(fail)?;
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Some(Level {
            dir,
            named,
            names,
            device,
        }))
    }

    /// Packs what is not a directory.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &OsStr, named: &[u8]) -> Result<()> {
        let fail = |errno| Error::of(named, errno);
        let found = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            found => found.map_err(fail)?,
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        if found.st_nlink > 1
            && let Some(first) = self.linked.get(&(found.st_dev, found.st_ino)).cloned()
        {
            let mut header = header(&found, EntryType::Link, 0);
            return self.entry(&mut header, named, Some(&first), None, io::empty());
        }
        match kind {
            FileType::RegularFile => self.regular(dir, name, named)?,
            FileType::Symlink => {
                let target = match readlinkat(dir, name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    target => target.map_err(fail)?,
                };
                let mut header = header(&found, EntryType::Symlink, 0);
                self.entry(&mut header, named, Some(target.as_bytes()), None, io::empty())?;
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                let of = match kind {
                    FileType::Fifo => EntryType::Fifo,
                    FileType::CharacterDevice => EntryType::Char,
                    _ => EntryType::Block,
                };
                let mut header = header(&found, of, 0);
                set_device(&mut header, &found).map_err(|error| Error::io(named, error))?;
                self.entry(&mut header, named, None, None, io::empty())?;
            }
            // A socket is of use to the process alone that has bound it.
            _ => return Ok(()),
        }
        if found.st_nlink > 1 {
            self.linked.insert((found.st_dev, found.st_ino), named.to_vec());
        }
        Ok(())
    }

    fn regular(&mut self, dir: BorrowedFd<'_>, name: &OsStr, named: &[u8]) -> Result<()> {
        // Not to open a device that has taken the file's place: that alone may have an effect.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened.map_err(|errno| Error::of(named, errno))?,
        };
        let stat = fstat(&found).map_err(|errno| Error::of(named, errno))?;
        if !is(&stat, FileType::RegularFile) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let same = format!("/proc/self/fd/{}", found.as_raw_fd());
        let opened = rustix::fs::open(same, flags, Mode::empty());
        let opened = opened.map_err(|errno| Error::of(named, errno))?;
        let found = fstat(&opened).map_err(|errno| Error::of(named, errno))?;
        let capabilities = capabilities(&opened);
        let size = u64::try_from(found.st_size).unwrap_or_default();
        let mut header = header(&found, EntryType::Regular, size);
        let data = Exactly {
            file: File::from(opened),
            left: size,
        };
        self.entry(&mut header, named, None, capabilities.as_deref(), data)
    }

    /// Writes an entry. What does not fit into the header goes into an extended one.
    fn entry(
        &mut self,
        header: &mut Header,
        named: &[u8],
        target: Option<&[u8]>,
        capabilities: Option<&[u8]>,
        mut data: impl Read,
    ) -> Result<()> {
        let mut extended: Vec<(&str, &[u8])> = Vec::new();
        let old = header.as_old_mut();
        if !put(&mut old.name, named) {
            extended.push(("path", named));
        }
        if let Some(target) = target
            && !put(&mut old.linkname, target)
        {
            extended.push(("linkpath", target));
        }
        if let Some(capabilities) = capabilities {
            extended.push(("SCHILY.xattr.security.capability", capabilities));
        }
        header.set_cksum();
        let written = match extended.is_empty() {
            true => Ok(()),
            false => self.out.append_pax_extensions(extended),
        };
        let written = written.and_then(|()| self.out.append(header, &mut data));
        match (written, self.out.get_ref().has_failed) {
            (Ok(()), _) => Ok(()),
            (Err(error), true) => Err(Error::Sink(error)),
            (Err(error), false) => Err(Error::io(named, error)),
        }
    }
}

/// Puts a name into a field of a header; returns whether it fits.
fn put(field: &mut [u8; SHORT], name: &[u8]) -> bool {
    let length = name.len().min(SHORT);
    if let (Some(field), Some(name)) = (field.get_mut(..length), name.get(..length)) {
        field.copy_from_slice(name);
    }
    name.len() <= SHORT
}

fn header(found: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(found.st_mode & 0o7777);
    header.set_uid(found.st_uid.into());
    header.set_gid(found.st_gid.into());
    header.set_mtime(u64::try_from(found.st_mtime).unwrap_or_default());
    header.set_size(size);
    header
}

fn set_device(header: &mut Header, found: &Stat) -> io::Result<()> {
    header.set_device_major(rustix::fs::major(found.st_rdev))?;
    header.set_device_minor(rustix::fs::minor(found.st_rdev))
}

fn capabilities(file: &OwnedFd) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    let length = fgetxattr(file, CAPABILITIES, &mut value[..]).ok()?;
    value.get(..length).map(<[u8]>::to_vec)
}

/// A file's bytes, as many as its header says.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let Some(into) = into.get_mut(..most).filter(|into| !into.is_empty()) else {
            return Ok(0);
        };
        let mut read = self.file.read(into)?;
        if read == 0 {
            into.fill(0);
            read = into.len();
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use super::*;

    fn packed(dir: &Path, path: &str) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        let path = ContainerPath::new(path);
        pack(&Root::of_dir(dir), &path, path.archived(), &mut archive)?;
        Ok(archive)
    }

    fn listed(archive: &[u8]) -> Vec<(String, EntryType, u64)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            (name, entry.header().entry_type(), entry.size())
        });
        entries.collect()
    }

    #[test]
    fn a_tree_is_packed_under_its_last_name() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(150);
        fs::create_dir_all(dir.path().join("etc/sub")).unwrap();
        fs::write(dir.path().join("etc").join(&long), "long").unwrap();
        fs::write(dir.path().join("etc/sub/a"), "hello").unwrap();
        fs::hard_link(dir.path().join("etc/sub/a"), dir.path().join("etc/sub/b")).unwrap();
        symlink("/etc/passwd", dir.path().join("etc/link")).unwrap();
        fs::set_permissions(dir.path().join("etc/sub/a"), fs::Permissions::from_mode(0o4711)).unwrap();
        let names: Vec<_> = listed(&packed(dir.path(), "/etc").unwrap());
        let expected = [
            ("etc/".to_owned(), EntryType::Directory, 0),
            ("etc/link".to_owned(), EntryType::Symlink, 0),
            (format!("etc/{long}"), EntryType::Regular, 4),
            ("etc/sub/".to_owned(), EntryType::Directory, 0),
            ("etc/sub/a".to_owned(), EntryType::Regular, 5),
            ("etc/sub/b".to_owned(), EntryType::Link, 0),
        ];
        assert_eq!(names, expected);
        for (path, first) in [("/etc/sub/.", "./"), ("/", "/"), ("/etc/sub/a", "a")] {
            assert_eq!(listed(&packed(dir.path(), path).unwrap())[0].0, first, "{path}");
        }
        let out = tempfile::tempdir().unwrap();
        let whole = packed(dir.path(), "/etc").unwrap();
        let mut archive = tar::Archive::new(&*whole);
        archive.set_preserve_permissions(true);
        archive.unpack(out.path()).unwrap();
        let a = fs::metadata(out.path().join("etc/sub/a")).unwrap();
        assert_eq!((a.mode() & 0o7777, a.nlink()), (0o4711, 2));
        assert_eq!(
            fs::read_link(out.path().join("etc/link")).unwrap(),
            Path::new("/etc/passwd")
        );
    }

    #[test]
    fn what_is_not_there_is_said_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        assert!(matches!(packed(dir.path(), "/none"), Err(Error::Missing { .. })));
        assert!(matches!(
            packed(dir.path(), "/f/x"),
            Err(Error::NotDirectory { .. })
        ));
        assert!(matches!(
            packed(dir.path(), "/f/"),
            Err(Error::NotDirectory { .. })
        ));
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "host").unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("../../../../..", dir.path().join("up")).unwrap();
        fs::write(dir.path().join("own"), "own").unwrap();
        assert!(matches!(
            packed(dir.path(), "/out/secret"),
            Err(Error::Missing { .. })
        ));
        assert_eq!(listed(&packed(dir.path(), "/up/own").unwrap())[0].2, 3);
        // The links themselves are packed, and not what they lead to.
        let names: Vec<_> = listed(&packed(dir.path(), "/").unwrap());
        let names: Vec<_> = names.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["/", "/out", "/own", "/up"]);
    }
}
