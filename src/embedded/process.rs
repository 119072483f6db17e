//! Finding and ending the containerd of a home.
//!
//! A home's containerd is recognised by its command line, which contains the path of the home's configuration file. So
//! there is no file of process ids that could become stale, and an unrelated process with a recycled id is never
//! signalled. Paths are compared by the file that they lead to: another mount of the same file is the same home, and
//! the same path in another container is not.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::{Error, Home};

/// How long containerd may take to end after SIGTERM, and after SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// How long a runtime may take to undo its work before containerd is ended anyway.
const UNWINDING: Duration = Duration::from_secs(5);

/// How often it is checked whether a process has ended.
const AGAIN: Duration = Duration::from_millis(5);

/// The words before containerd's own command line: a shell that sets umask 022 and replaces itself with containerd. The
/// files that containerd creates then are as open as the directory above them allows. With a stricter umask, such as
/// 077, the users inside of containers could not enter their root directories, and only unsafe code could set the umask
/// of a child otherwise.
pub(super) const OPEN_UMASK: [&str; 3] = ["/bin/sh", "-c", r#"umask 022 && exec "$0" "$@""#];

/// The program before that shell, where systemd creates a scope for containerd.
const SCOPED_BY: &[u8] = b"systemd-run";

/// A running process, held by a descriptor that never refers to another process.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    fd: OwnedFd,
}

/// Whether a containerd runs with this configuration file.
pub(super) fn runs(config: &Path) -> Result<bool, Error> {
    Ok(find(config)?.is_some())
}

/// Waits, for a limited time, until no runtime works for the containerd of this home. What a killed caller had begun is
/// being undone, and if containerd ended in the middle, the rest would be left behind.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn settled(home: &Home) {
    let until = Instant::now() + UNWINDING;
    while works_for(home) {
        if Instant::now() >= until {
            tracing::warn!("a runtime is still at work; the next start removes what it leaves behind");
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether a runtime runs for this home right now, or a shim that containerd calls to start or to remove another shim.
fn works_for(home: &Home) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes
        .filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let mut lines = lines.filter(|line| !line.is_empty());
    lines.any(|line| is_at_work(&line, &home.runc_root(), &home.socket()))
}

fn is_at_work(cmdline: &[u8], runc_root: &Path, socket: &Path) -> bool {
    let words: Vec<_> = cmdline
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .collect();
    let follows = |flag: &[u8], is: &dyn Fn(&Path) -> bool| {
        let mut pairs = words.iter().zip(words.iter().skip(1));
        pairs.any(|(word, value)| word.ends_with(flag) && is(Path::new(OsStr::from_bytes(value))))
    };
    let runtime = follows(b"-root", &|root| root.starts_with(runc_root));
    let helper = matches!(words.last(), Some(&(b"start" | b"delete")));
    runtime || helper && follows(b"-address", &|address| address == socket)
}

/// Ends the containerd that runs with this configuration file, if there is one.
///
/// # Cancellation
/// If the future is dropped half-way, containerd may or may not end.
pub(super) async fn end(config: &Path) -> Result<(), Error> {
    let Some(process) = find(config)? else {
        return Ok(());
    };
    for signal in [Signal::TERM, Signal::KILL] {
        match pidfd_send_signal(&process.fd, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(()),
            Err(cause) => return Err(process.failed("signal", cause.into())),
        }
        if process.ended_within(GRACE).await? {
            return Ok(());
        }
        tracing::warn!(pid = %process.pid, ?signal, "containerd does not exit on this signal");
    }
    Err(process.failed("wait for the end of", io::ErrorKind::TimedOut.into()))
}

impl Process {
    /// Waits for the end of the process; for ever if the kernel does not report it.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn end(&self) {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, and the descriptor is ours for as long as it is borrowed, which is what that asks for"
        )]
        let watched = AsyncFd::with_interest(self.fd.as_fd(), Interest::READABLE);
        match watched {
            Ok(watched) => drop(watched.readable().await),
            Err(_) => std::future::pending().await,
        }
    }

    async fn ended_within(&self, limit: Duration) -> Result<bool, Error> {
        let until = Instant::now() + limit;
        while !self.ended()? {
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(true)
    }

    /// A descriptor of a process is readable once the process has ended, even as a zombie.
    fn ended(&self) -> Result<bool, Error> {
        match poll(
            &mut [PollFd::new(&self.fd, PollFlags::IN)],
            Some(&Timespec::default()),
        ) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(cause) => Err(self.failed("watch", cause.into())),
        }
    }

    fn failed(&self, doing: &'static str, cause: io::Error) -> Error {
        Error::Process {
            doing,
            pid: self.pid.as_raw_nonzero().get(),
            cause,
        }
    }
}

/// The containerd that runs with this configuration file.
pub(super) fn find(config: &Path) -> Result<Option<Process>, Error> {
    let proc = Path::new("/proc");
    let entries = fs::read_dir(proc).map_err(|cause| Error::at(proc, "read", cause))?;
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if !is_ours(pid, config) {
            continue;
        }
        match pidfd_open(pid, PidfdFlags::empty()) {
            // Checked again, because the id may have been given to another process before the descriptor was opened.
            Ok(fd) if is_ours(pid, config) => return Ok(Some(Process { pid, fd })),
            Ok(_) | Err(Errno::SRCH) => {}
            Err(cause) => {
                return Err(Error::Process {
                    doing: "open",
                    pid: pid.as_raw_nonzero().get(),
                    cause: cause.into(),
                });
            }
        }
    }
    Ok(None)
}

fn is_ours(pid: Pid, config: &Path) -> bool {
    // A zombie has an empty command line, so it never matches.
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    config_of(&line).is_some_and(|named| is_same_file(pid, named, config))
}

/// Whether the process finds our file under the path `named`. The paths are compared only if our file no longer exists.
fn is_same_file(pid: Pid, named: &Path, ours: &Path) -> bool {
    let Ok(file) = fs::metadata(ours) else {
        return named == ours;
    };
    let below = named.strip_prefix("/").unwrap_or(named);
    fs::metadata(Path::new(&format!("/proc/{}/root", pid.as_raw_nonzero())).join(below))
        .is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
}

/// The configuration file in a command line as the kernel returns it. `None` if the command line is neither
/// containerd's, nor that of the shell which is about to become containerd, nor that of the program which first puts
/// this shell into a scope.
fn config_of(cmdline: &[u8]) -> Option<&Path> {
    let words: Vec<_> = cmdline.split(|byte| *byte == 0).collect();
    let shell = OPEN_UMASK.map(str::as_bytes);
    let words = match words.iter().position(|word| *word == b"--") {
        Some(end) if name_of(words.first()?) == SCOPED_BY => words.get(end + 1..)?,
        _ => &words,
    };
    let words = words.strip_prefix(&shell).unwrap_or(words);
    let [program, b"--config", config, ..] = words else {
        return None;
    };
    (name_of(program) == b"containerd").then(|| Path::new(OsStr::from_bytes(config)))
}

/// The last part of a path.
fn name_of(program: &[u8]) -> &[u8] {
    program.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containerd_and_the_shell_that_becomes_it_have_a_configuration() {
        let config = Path::new("/run/fnctr/containerd.toml");
        let line = b"/usr/bin/containerd\0--config\0/run/fnctr/containerd.toml\0";
        assert_eq!(config_of(line), Some(config));
        let mut shell = OPEN_UMASK.join("\0").into_bytes();
        shell.push(0);
        shell.extend(line);
        assert_eq!(config_of(&shell), Some(config));
        let mut scoped = b"/usr/bin/systemd-run\0--scope\0--\0".to_vec();
        scoped.extend(&shell);
        assert_eq!(config_of(&scoped), Some(config));
        for other in [
            b"/bin/cat\0--\0/usr/bin/containerd\0--config\0/run/fnctr/containerd.toml\0",
            b"vi\0--config\0/run/fnctr/containerd.toml\0".as_slice(),
            b"/bin/sh\0-c\0true\0containerd\0--config\0/run/fnctr/containerd.toml\0",
            b"/usr/bin/containerd\0",
            b"",
        ] {
            assert_eq!(config_of(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_runtime_and_a_shims_helper_are_at_work_for_one_home_and_a_shim_is_not() {
        let at_work = |line: &str| {
            let (root, socket) = (Path::new("/h/runc"), Path::new("/h/containerd.sock"));
            is_at_work(line.replace(' ', "\0").as_bytes(), root, socket)
        };
        let shim = "containerd-shim-runc-v2 -namespace ns -id c1 -address /h/containerd.sock";
        assert!(at_work("runc --root /h/runc/ns --log /l create --bundle /b c1 "));
        assert!(at_work(&format!("{shim} start ")));
        assert!(at_work(&format!("{shim} -bundle /b delete ")));
        for other in [
            shim,
            "runc --root /h/runc2/ns create c1",
            "runc init",
            "containerd-shim-runc-v2 -namespace ns -id c1 -address /other.sock start",
        ] {
            assert!(!at_work(other), "{other}");
        }
    }

    #[test]
    fn it_is_the_file_that_is_ours_and_not_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, link, copy) = (
            dir.path().join("ours"),
            dir.path().join("link"),
            dir.path().join("copy"),
        );
        fs::write(&ours, "").unwrap();
        fs::hard_link(&ours, &link).unwrap();
        fs::write(&copy, "").unwrap();
        let me = rustix::process::getpid();
        assert!(is_same_file(me, &link, &ours));
        assert!(!is_same_file(me, &copy, &ours));
        fs::remove_file(&ours).unwrap();
        assert!(is_same_file(me, &ours, &ours));
        assert!(!is_same_file(me, &link, &ours));
    }
}
