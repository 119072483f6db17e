//! System calls that no well-maintained crate wraps, as typed and safe functions. The only file of this project with
//! unsafe code.
//!
//! * Project quotas: nix's `quotactl` supports only users and groups, and neither nix nor rustix has
//!   `FS_IOC_FSSETXATTR`. The generic commands (`Q_GETQUOTA`, `Q_SETQUOTA`, `Q_XGETQSTATV`) work for XFS and for ext4:
//!   the kernel translates them for each (fs/quota/quota.c).
//! * The exit status of a process that is not a child: `PIDFD_GET_INFO` (linux/pidfd.h).
//! * The memory of an idle process: `madvise` of its own code, and glibc's `malloc_trim`.
//!
//! JUSTIFICATION for the unsafe code: each call but the last two hands the kernel a pointer to one structure of fixed
//! layout, which lives for the whole call. The layouts are those of the kernel's uapi headers, and a test checks their
//! sizes and offsets. The last two change no memory that has a value: see there.

#![expect(
    unsafe_code,
    reason = "no crate wraps these calls safely; every one is small, see above"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::libc;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Attributes {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

const FS_IOC_FSGETXATTR: Opcode = opcode::read::<Attributes>(b'X', 31);
const FS_IOC_FSSETXATTR: Opcode = opcode::write::<Attributes>(b'X', 32);
/// Everything created in the directory gets its project and this flag (linux/fs.h).
const FS_XFLAG_PROJINHERIT: u32 = 0x0000_0200;

/// `struct fs_quota_statv` (linux/dqblk_xfs.h), of which only the flags are read.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
struct StatV {
    /// The version that the caller wants, set by the caller.
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u8; 156],
}

const FS_QSTATV_VERSION1: i8 = 1;
const FS_QUOTA_PDQ_ACCT: u16 = 1 << 4;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;

/// The type of project quotas for `quotactl` (linux/quota.h).
const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTATV: u32 = 0x5808;
/// Limits are counted in blocks of this many bytes (`QIF_DQBLKSIZE`), usage in bytes.
pub(crate) const BLOCK: u64 = 1024;

/// `struct pidfd_info` (linux/pidfd.h) in its first version, whose size the request has.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct ProcessInfo {
    /// The fields that the caller asks for, and on return those that are there.
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const PIDFD_GET_INFO: Opcode = opcode::read_write::<ProcessInfo>(0xff, 11);
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How the kernel identifies the file system.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    /// By any file on it: `quotactl_fd`, since Linux 5.14.
    File(BorrowedFd<'a>),
    /// By the path of its block device: `quotactl`.
    Device(CString),
}

/// What the kernel does with projects on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it counts the usage of each project.
    pub(crate) counts: bool,
    /// Whether it enforces the limits of projects.
    pub(crate) enforces: bool,
}

/// The usage and the limit of one project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// Files, directories and the like.
    pub(crate) inodes: u64,
    /// The maximum number of bytes; 0 is without limit.
    pub(crate) limit: u64,
}

/// Returns the project of a directory.
///
/// # Errors
/// `ENOTTY` where the file system has no such attributes.
pub(crate) fn project(dir: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(attributes(dir)?.projid)
}

/// Sets the project of a directory. Everything created in it from now on inherits the project.
///
/// # Errors
/// `EPERM` if the caller does not own the directory, `EINVAL` outside of the initial user namespace, `EOPNOTSUPP` on
/// ext4 without the project feature, `ENOTTY` where the file system has no such attributes.
pub(crate) fn set_project(dir: BorrowedFd<'_>, id: u32) -> io::Result<()> {
    let old = attributes(dir)?;
    let new = Attributes {
        xflags: old.xflags | FS_XFLAG_PROJINHERIT,
        projid: id,
        ..old
    };
    // SAFETY: the request reads a `struct fsxattr`, whose layout is that of `Attributes`.
    let request = unsafe { Setter::<FS_IOC_FSSETXATTR, Attributes>::new(new) };
    // SAFETY: the request fits its structure, as said above, and the kernel only reads it.
    Ok(unsafe { ioctl(dir, request) }?)
}

fn attributes(dir: BorrowedFd<'_>) -> io::Result<Attributes> {
    // SAFETY: the request fills in a `struct fsxattr`, whose layout is that of `Attributes`; any bits are valid in it.
    let request = unsafe { Getter::<FS_IOC_FSGETXATTR, Attributes>::new() };
    // SAFETY: the request fits its structure, as said above, which is written whole whenever the call succeeds.
    Ok(unsafe { ioctl(dir, request) }?)
}

/// Whether this kernel can identify a file system by an open file. Asked without a file, because with one `ENOSYS` is
/// ambiguous: a file system without quotas returns it too.
pub(crate) fn knows_quotactl_fd() -> bool {
    // SAFETY: there is no descriptor -1, so the call returns before it looks at anything else.
    let answer = unsafe { libc::syscall(libc::SYS_quotactl_fd, -1, 0, 0, 0) };
    answer != -1 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Returns what the kernel does with projects on a file system. Needs no privilege.
///
/// # Errors
/// `ENOSYS` or `EINVAL` if it does nothing with them.
pub(crate) fn state(target: &Target<'_>) -> io::Result<State> {
    let mut data = StatV {
        version: FS_QSTATV_VERSION1,
        pad: 0,
        flags: 0,
        rest: [0; 156],
    };
    // SAFETY: the command reads the version and fills in a `struct fs_quota_statv`, whose size and alignment are those
    // of `StatV`; any bits are valid in it, and it outlives the call.
    unsafe { quotactl(target, Q_XGETQSTATV, 0, (&raw mut data).cast()) }?;
    Ok(State {
        counts: data.flags & FS_QUOTA_PDQ_ACCT != 0,
        enforces: data.flags & FS_QUOTA_PDQ_ENFD != 0,
    })
}

/// Returns the usage of a project. A project that the file system has no record of has no usage.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `ESRCH` where projects are not counted.
pub(crate) fn usage(target: &Target<'_>, id: u32) -> io::Result<Usage> {
    let mut data = empty();
    // SAFETY: the command fills in a `struct if_dqblk`, which is libc's `dqblk`; it outlives the call.
    match unsafe { quotactl(target, Q_GETQUOTA, id, (&raw mut data).cast()) } {
        Ok(()) => Ok(Usage {
            bytes: data.dqb_curspace,
            inodes: data.dqb_curinodes,
            limit: data.dqb_bhardlimit.saturating_mul(BLOCK),
        }),
        // XFS's error for a project that has neither files nor a limit.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Usage::default()),
        Err(error) => Err(error),
    }
}

/// Sets the maximum number of bytes of a project, rounded up to whole blocks; 0 removes the limit.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `ERANGE` for more than the file system can express, `ESRCH` where projects are not
/// counted.
pub(crate) fn set_limit(target: &Target<'_>, id: u32, bytes: u64) -> io::Result<()> {
    let mut data = libc::dqblk {
        dqb_bhardlimit: bytes.div_ceil(BLOCK),
        dqb_valid: libc::QIF_BLIMITS,
        ..empty()
    };
    // SAFETY: the command reads a `struct if_dqblk`, which is libc's `dqblk`; it outlives the call.
    unsafe { quotactl(target, Q_SETQUOTA, id, (&raw mut data).cast()) }
}

/// Returns the exit status of a process as waitpid(2) reports it, even if the process is no child of this one. `None`
/// until its parent has reaped it. Linux keeps the status since 6.15.
///
/// # Errors
/// `ENOTTY` on a kernel that has no such request, which is before Linux 6.13.
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    let mut info = ProcessInfo {
        mask: PIDFD_INFO_EXIT,
        cgroup: 0,
        pid: 0,
        tgid: 0,
        ppid: 0,
        ids: [0; 8],
        exit_code: 0,
    };
    // SAFETY: the request reads and fills in a `struct pidfd_info`, whose layout is that of `ProcessInfo`.
    let request = unsafe { Updater::<PIDFD_GET_INFO, ProcessInfo>::new(&mut info) };
    // SAFETY: the request fits its structure, as said above; any bits are valid in it, and it outlives the call.
    unsafe { ioctl(pidfd, request) }?;
    let is_there = info.mask & PIDFD_INFO_EXIT != 0;
    Ok(is_there.then(|| ExitStatus::from_raw(info.exit_code)))
}

/// Takes the pages of this program's code out of this process's memory, until they are executed again: the kernel then
/// maps them again, from the file or from its cache of it.
///
/// # Errors
/// If `/proc` is not there, or the kernel refuses.
#[cfg(feature = "cli")]
pub(crate) fn give_back_code() -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let program = std::fs::metadata("/proc/self/exe")?;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some((start, length)) = code_of(line, program.ino()) {
            let start = std::ptr::without_provenance_mut(start);
            // SAFETY: the range is a mapping of this process's program that was never writable, so its pages are those of
            // the file, which the kernel lets nobody write while it is executed. Reading them again gives the same.
            let answer = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
            nix::errno::Errno::result(answer)?;
        }
    }
    Ok(())
}

/// The range of a mapping that has code of the file with that inode and cannot be written, by its line in
/// `/proc/self/maps` (proc_pid_maps(5)).
#[cfg(feature = "cli")]
fn code_of(line: &str, inode: u64) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let of = words.nth(2)?;
    if permissions != "r-xp" || of.parse() != Ok(inode) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
    let (start, end) = (start.ok()?, end.ok()?);
    Some((start, end.checked_sub(start)?))
}

/// Gives the kernel the memory back that the allocator keeps free.
#[cfg(feature = "cli")]
pub(crate) fn give_back_heap() {
    // SAFETY: the function takes the allocator's own locks, and touches only memory that is not allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

const fn empty() -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: 0,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: 0,
    }
}

/// Runs one command on projects.
///
/// # Safety
/// `data` must point to the structure that the command reads or writes, valid for both.
unsafe fn quotactl(target: &Target<'_>, command: u32, id: u32, data: *mut libc::c_void) -> io::Result<()> {
    // QCMD of sys/quota.h.
    let command = command << 8 | PRJQUOTA;
    let answer = match target {
        // SAFETY: the descriptor is open for as long as it is borrowed; the caller guarantees that `data` is valid.
        Target::File(file) => unsafe {
            libc::syscall(libc::SYS_quotactl_fd, file.as_fd().as_raw_fd(), command, id, data)
        },
        Target::Device(path) => {
            let path: &CStr = path;
            // SAFETY: the path ends with a zero byte and outlives the call; the caller guarantees that `data` is valid.
            let answer = unsafe {
                libc::quotactl(
                    command.cast_signed(),
                    path.as_ptr(),
                    id.cast_signed(),
                    data.cast(),
                )
            };
            answer.into()
        }
    };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    #[cfg(feature = "cli")]
    #[test]
    fn only_code_of_the_program_is_given_back() {
        let line = |permissions: &str, inode: u64| {
            format!(
                "55d8c0e00000-55d8c0e5f000 {permissions} 00021000 fe:00 {inode}                    /usr/bin/fn ctr (deleted)"
            )
        };
        assert_eq!(code_of(&line("r-xp", 7), 7), Some((0x55d8_c0e0_0000, 0x5_f000)));
        for (permissions, inode) in [("r--p", 7), ("rw-p", 7), ("rwxp", 7), ("r-xs", 7), ("r-xp", 8)] {
            assert_eq!(
                code_of(&line(permissions, inode), 7),
                None,
                "{permissions} {inode}"
            );
        }
        for line in ["", "7ffd r-xp", "7ffd r-xp 0 0:0 7"] {
            assert_eq!(code_of(line, 7), None, "{line}");
        }
        give_back_code().unwrap();
    }

    #[test]
    fn the_structures_are_laid_out_as_the_kernel_s() {
        assert_eq!(
            (size_of::<Attributes>(), offset_of!(Attributes, projid)),
            (28, 12)
        );
        assert_eq!((size_of::<StatV>(), offset_of!(StatV, flags)), (160, 2));
        assert_eq!(align_of::<StatV>(), 8);
        assert_eq!(size_of::<libc::dqblk>(), 72);
        assert_eq!(offset_of!(libc::dqblk, dqb_valid), 64);
        // The values that `cpp` computes from linux/fs.h on x86-64 and arm64.
        assert_eq!((FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR), (0x801c_581f, 0x401c_5820));
        assert_eq!(
            (size_of::<ProcessInfo>(), offset_of!(ProcessInfo, exit_code)),
            (64, 60)
        );
        assert_eq!(PIDFD_GET_INFO, 0xc040_ff0b);
    }

    #[test]
    fn a_file_system_without_projects_reports_that_and_changes_nothing() {
        // proc has neither quotas nor such attributes on any kernel.
        let proc = std::fs::File::open("/proc").unwrap();
        let target = if knows_quotactl_fd() {
            Target::File(proc.as_fd())
        } else {
            Target::Device(CString::from(c"/proc"))
        };
        let error = state(&target).unwrap_err();
        assert!(
            matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EINVAL | libc::ENOTBLK)
            ),
            "{error}"
        );
        let error = project(proc.as_fd()).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP)),
            "{error}"
        );
    }
}
