use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

/// An entry: its kind, name, what it links to, and its content.
type Part<'a> = (EntryType, &'a str, &'a str, &'a [u8]);

fn archive(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Builder::new(Vec::new());
    for (kind, name, target, data) in parts {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_mtime(1_000_000_000);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(data.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        out.append(&header, *data).unwrap();
    }
    out.into_inner().unwrap()
}

fn unpacked(root: &Path, dir: &str, parts: &[Part<'_>]) -> Result<u64> {
    let archive = archive(parts);
    let how = Unpacking::default();
    unpack(
        &Root::of_dir(root),
        &ContainerPath::new(dir),
        Cursor::new(archive),
        how,
    )
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Link;
const SYMLINK: EntryType = EntryType::Symlink;

#[test]
fn entries_are_made_as_the_archive_describes_them() {
    let dir = tempfile::tempdir().unwrap();
    let parts = [
        (DIR, "d/", "", &b""[..]),
        (FILE, "d/f", "", b"hello"),
        (FILE, "/implied/by/name", "", b"x"),
        (LINK, "d/hard", "d/f", b""),
        (SYMLINK, "d/soft", "/d/f", b""),
        (EntryType::Fifo, "d/fifo", "", b""),
    ];
    assert_eq!(unpacked(dir.path(), "/", &parts).unwrap(), 6);
    let at = |name: &str| dir.path().join(name);
    let file = fs::metadata(at("d/f")).unwrap();
    assert_eq!(
        (
            file.mode() & 0o7777,
            file.uid(),
            file.gid(),
            file.nlink(),
            file.mtime()
        ),
        (0o640, 7, 8, 2, 1_000_000_000)
    );
    assert_eq!(fs::metadata(at("d")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(at("implied/by")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(at("d/soft")).unwrap(), Path::new("/d/f"));
    assert!(fs::metadata(at("d/fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn what_is_in_the_way_is_replaced_unless_the_caller_forbids_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("full/of/things")).unwrap();
    fs::create_dir(at("kept")).unwrap();
    fs::write(at("kept/own"), "own").unwrap();
    fs::write(at("file"), "old").unwrap();
    let forbid = |parts: &[Part<'_>]| {
        let how = Unpacking {
            keeps_kinds: true,
            makes_devices: false,
            owner: Some((1, 2)),
            drops_privileges: false,
        };
        unpack(
            &Root::of_dir(dir.path()),
            &ContainerPath::new("/"),
            Cursor::new(archive(parts)),
            how,
        )
    };
    let refused = forbid(&[(FILE, "full", "", b"x")]);
    assert!(
        matches!(refused, Err(Error::WouldReplaceDirectory { .. })),
        "{refused:?}"
    );
    let refused = forbid(&[(DIR, "file", "", b"")]);
    assert!(
        matches!(refused, Err(Error::WouldReplaceFile { .. })),
        "{refused:?}"
    );
    forbid(&[(FILE, "file", "", b"new")]).unwrap();
    let file = fs::metadata(at("file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.len()), (1, 2, 3));
    let parts = [
        (FILE, "full", "", &b"x"[..]),
        (DIR, "file", "", b""),
        (DIR, "kept", "", b""),
    ];
    unpacked(dir.path(), "/", &parts).unwrap();
    assert!(at("full").is_file() && at("file").is_dir() && at("kept/own").is_file());
}

#[test]
fn nothing_leaves_the_directory() {
    let (top, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = top.path().join("root");
    fs::create_dir_all(root.join("in")).unwrap();
    fs::write(outside.path().join("secret"), "host").unwrap();
    let out = outside.path().to_str().unwrap();
    for name in ["../x", "a/../../x", "/../x"] {
        let refused = unpacked(&root, "/in", &[(FILE, name, "", b"x")]);
        assert!(
            matches!(refused, Err(Error::Outside { .. })),
            "{name}: {refused:?}"
        );
    }
    let refused = unpacked(&root, "/in", &[(LINK, "hard", "../../secret", b"")]);
    assert!(matches!(refused, Err(Error::Outside { .. })), "{refused:?}");
    // A link of the archive, and then an entry through it: it ends in the container.
    let through = [
        (SYMLINK, "link", out, &b""[..]),
        (FILE, "link/secret", "", b"mine"),
    ];
    let refused = unpacked(&root, "/in", &through);
    assert!(matches!(refused, Err(Error::Missing { .. })), "{refused:?}");
    let through = [
        (SYMLINK, "up", "../../../..", &b""[..]),
        (FILE, "up/made", "", b"mine"),
    ];
    unpacked(&root, "/in", &through).unwrap();
    assert!(root.join("made").is_file() && !top.path().join("made").exists());
    // A hard link to what is behind a link is one to the link itself.
    symlink(outside.path().join("secret"), root.join("in/soft")).unwrap();
    unpacked(&root, "/in", &[(LINK, "hard", "soft", b"")]).unwrap();
    assert!(root.join("in/hard").is_symlink());
    for kind in [EntryType::Char, EntryType::Block] {
        let refused = unpacked(&root, "/in", &[(kind, "dev", "", b"")]);
        assert!(matches!(refused, Err(Error::Device { .. })), "{refused:?}");
    }
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"host");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// A container that swaps a directory for a link to the host's files, as fast as it can, while entries are unpacked into it.
#[test]
fn a_swapped_link_leads_nowhere_in_ten_thousand_rounds() {
    let (top, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = top.path();
    fs::create_dir(dir.join("d")).unwrap();
    symlink(outside.path(), dir.join("l")).unwrap();
    let packed = archive(&[
        (DIR, "d/sub/", "", b""),
        (FILE, "d/sub/f", "", b"x"),
        (FILE, "d/f", "", b"x"),
    ]);
    let (is_over, swapped) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut unpacked = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (one, other) = (dir.join("d"), dir.join("l"));
                let done = rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags);
                swapped.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
            }
        });
        let root = Root::of_dir(dir);
        for _ in 0..10_000 {
            // It may fail half-way, but for nothing that it may not touch.
            let done = unpack(
                &root,
                &ContainerPath::new("/"),
                Cursor::new(&packed),
                Unpacking::default(),
            );
            unpacked += u64::from(done.is_ok());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let swapped = swapped.into_inner();
    assert!(
        unpacked > 0 && swapped > 0,
        "{unpacked} unpacked, {swapped} swapped"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn compressed_archives_are_recognised_and_foreign_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::of_dir(dir.path());
    let plain = archive(&[(FILE, "f", "", b"hello")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let to = ContainerPath::new("/");
    assert_eq!(
        unpack(&root, &to, Cursor::new(gzip), Unpacking::default()).unwrap(),
        1
    );
    let refused = unpack(&root, &to, Cursor::new(b"\xfd7zXZ\0abc"), Unpacking::default());
    assert!(refused.unwrap_err().to_string().contains("xz -dc"));
    let refused = unpack(&root, &to, Cursor::new(vec![1; 2000]), Unpacking::default());
    assert!(matches!(refused, Err(Error::Archive(_))), "{refused:?}");
    let cut = unpack(&root, &to, Cursor::new(&plain[..515]), Unpacking::default());
    assert!(matches!(cut, Err(Error::Archive(_))), "{cut:?}");
    let missing = unpack(
        &root,
        &ContainerPath::new("/none"),
        Cursor::new(&plain),
        Unpacking::default(),
    );
    assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    let onto = unpack(
        &root,
        &ContainerPath::new("/f"),
        Cursor::new(&plain),
        Unpacking::default(),
    );
    assert!(matches!(onto, Err(Error::NotDirectory { .. })), "{onto:?}");
}

/// An entry of this size, of which 512 bytes are in the archive (the format of GNU tar).
fn sparse(size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(512);
    // In binary, with the first bit set.
    let mut real = [0; 12];
    real[4..].copy_from_slice(&size.to_be_bytes());
    real[0] = 0x80;
    let octal = |text: &str| -> [u8; 12] { text.as_bytes().try_into().unwrap() };
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..4].copy_from_slice(b"bomb");
    gnu.sparse[0].offset = octal("00000000000\0");
    gnu.sparse[0].numbytes = octal("00000001000\0");
    gnu.sparse[1].offset = real;
    gnu.sparse[1].numbytes = octal("00000000000\0");
    gnu.realsize = real;
    header.set_cksum();
    let mut out = Builder::new(Vec::new());
    out.append(&header, &[1; 512][..]).unwrap();
    out.into_inner().unwrap()
}

#[test]
fn a_sparse_file_takes_the_room_of_what_is_in_it_and_not_the_time_of_what_is_not() {
    const SIZE: u64 = 32 << 20;

    let dir = tempfile::tempdir().unwrap();
    let (root, to) = (Root::of_dir(dir.path()), ContainerPath::new("/"));
    unpack(&root, &to, Cursor::new(sparse(SIZE)), Unpacking::default()).unwrap();
    let made = fs::metadata(dir.path().join("bomb")).unwrap();
    assert_eq!(made.len(), SIZE);
    assert!(made.blocks() < 1000, "{} blocks", made.blocks());
    let refused = unpack(&root, &to, Cursor::new(sparse(1 << 60)), Unpacking::default());
    let text = crate::chain(&refused.unwrap_err());
    assert!(text.contains("No space left"), "{text}");
}

proptest! {
    /// Nothing at all is assumed of these bytes.
    #[test]
    fn no_bytes_leave_the_directory_or_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..2048), at in 0..512_usize, name in "[./a-c]{1,12}") {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut packed = archive(&[(FILE, &name, "", b"x"), (SYMLINK, "b", "..", b""), (FILE, "b/b", "", b"x")]);
        if let (Some(byte), Some(other)) = (packed.get_mut(at), bytes.first()) {
            *byte = *other;
        }
        packed.append(&mut bytes);
        drop(unpack(&Root::of_dir(&root), &ContainerPath::new("/"), Cursor::new(packed), Unpacking::default()));
        prop_assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    }
}
