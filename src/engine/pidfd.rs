//! Pidfds (pidfd_open(2), kernel 5.3), which distinguish a process from a later one of the same pid.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::sys;

/// A descriptor that becomes readable when the process ends. The task that waits for the end holds it.
#[derive(Debug)]
pub(super) struct Pidfd(AsyncFd<OwnedFd>);

/// A weak reference to a [`Pidfd`], valid while a task waits for the end. It keeps no descriptor open.
#[derive(Debug, Clone, Default)]
pub(super) struct Alive(Weak<Pidfd>);

impl Pidfd {
    /// `None` if the process is gone already, or the kernel is too old.
    pub(super) fn open(pid: u32) -> Option<Arc<Self>> {
        let fd = open(pid, PidfdFlags::NONBLOCK)?;
        // Deprecated for descriptors that something else may close; this one is owned.
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, and only requires that the descriptor is owned, which it is"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).ok()?;
        Some(Arc::new(Self(fd)))
    }

    /// The exit code of the process once its parent has reaped it: 128 + N for signal N. `None` before, and on a kernel
    /// that does not keep it, which is before Linux 6.15.
    pub(super) fn exit_code(&self) -> Option<u32> {
        self.status().ok().flatten().and_then(code_of)
    }

    /// The same, for a process that may be reaped within some time.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn exit_code_within(&self, time: Duration) -> Option<u32> {
        const AGAIN: Duration = Duration::from_millis(10);
        let until = Instant::now() + time;
        loop {
            match self.status() {
                Ok(None) if Instant::now() < until => tokio::time::sleep(AGAIN).await,
                status => return status.ok().flatten().and_then(code_of),
            }
        }
    }

    fn status(&self) -> std::io::Result<Option<ExitStatus>> {
        sys::exit_status(self.0.get_ref().as_fd())
    }

    /// Waits for the end; `false` if waiting is not possible.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn ended(&self) -> bool {
        self.0.readable().await.is_ok()
    }
}

/// The exit code: 128 + N for signal N.
fn code_of(status: ExitStatus) -> Option<u32> {
    const BY_SIGNAL: i32 = 128;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| BY_SIGNAL + signal))?;
    u32::try_from(code).ok()
}

impl Alive {
    pub(super) fn of(process: Option<&Arc<Pidfd>>) -> Self {
        Self(process.map(Arc::downgrade).unwrap_or_default())
    }

    /// Whether this process still runs. `None` if the descriptor is not held any more, because the end of the process
    /// was noticed, or if there never was one.
    pub(super) fn now(&self) -> Option<bool> {
        Some(!has_ended(self.0.upgrade()?.0.get_ref()))
    }
}

/// Opens a descriptor that is not registered with tokio.
pub(super) fn open_once(pid: u32) -> Option<OwnedFd> {
    open(pid, PidfdFlags::empty())
}

/// Whether the process of a pidfd has ended. One system call, no waiting.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    // An error counts as ended, so that no caller reads the files of another process.
    !matches!(poll(&mut asked, Some(&Timespec::default())), Ok(0))
}

fn open(pid: u32, flags: PidfdFlags) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, flags).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let held = Pidfd::open(child.id()).unwrap();
        let alive = Alive::of(Some(&held));
        assert_eq!(alive.now(), Some(true));
        let once = open_once(child.id()).unwrap();
        assert!(!has_ended(&once));
        child.kill().unwrap();
        assert!(held.ended().await);
        assert_eq!((alive.now(), has_ended(&once)), (Some(false), true));
        child.wait().unwrap();
        assert_eq!(alive.now(), Some(false));
        drop(held);
        assert_eq!(alive.now(), None);
        assert!(open_once(u32::MAX).is_none() && Pidfd::open(0).is_none());
    }

    #[tokio::test]
    async fn a_new_kernel_keeps_the_exit_code_of_a_reaped_process() {
        let of = async |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let held = Pidfd::open(child.id()).unwrap();
            assert!(held.ended().await);
            let before = held.exit_code();
            child.wait().unwrap();
            (before, held.exit_code())
        };
        let codes = [of("sleep 0.1; exit 7").await, of("sleep 0.1; kill -9 $$").await];
        let known = [(None, Some(7)), (None, Some(137))];
        match super::super::host::kernel_version() >= (6, 15) {
            true => assert_eq!(codes, known),
            false => assert_eq!(codes, [(None, None); 2]),
        }
    }
}
