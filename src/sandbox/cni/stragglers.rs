//! Ends plugins that outlived the process that ran them. Such a plugin could still add interfaces or rules after the
//! sandbox was cleaned up, and nothing would remove them.
//!
//! They are found by the variable `CNI_CONTAINERID`, which the specification puts into their environment, and which the
//! programs that they start (iptables) inherit. Its value is the name of the sandbox, which no other sandbox ever has.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use crate::sandbox::Error;

/// How long killed processes may take to end. A killed process ends at once unless it is blocked on a device.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process that works for this sandbox, and returns when the last has ended: until then a process may be in
/// a system call that changes something.
///
/// Blocks: some milliseconds to read `/proc`, and up to [`PATIENCE`] for killed processes to end.
pub(in crate::sandbox) fn end(id: &str) -> Result<(), Error> {
    let failed = |source| Error::Straggler {
        sandbox: id.to_owned(),
        source,
    };
    let until = Instant::now() + PATIENCE;
    loop {
        // Repeated until none is found, because a process may have started another one meanwhile.
        let found = find(id).map_err(failed)?;
        if found.is_empty() {
            return Ok(());
        }
        tracing::info!(
            sandbox = id,
            processes = found.len(),
            "ending CNI plugins that outlived the process that ran them"
        );
        for process in &found {
            match pidfd_send_signal(process, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(cause) => return Err(failed(cause.into())),
            }
        }
        for process in &found {
            if !wait_for_end(process, until).map_err(|cause| failed(cause.into()))? {
                return Err(failed(std::io::ErrorKind::TimedOut.into()));
            }
        }
    }
}

fn find(id: &str) -> std::io::Result<Vec<OwnedFd>> {
    let ours = fs::read_link("/proc/self/ns/pid")?;
    let wanted = format!("CNI_CONTAINERID={id}").into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        let (environment, namespace) = (entry.path().join("environ"), entry.path().join("ns/pid"));
        // A function may set the same variable, but its processes are in another PID namespace.
        let works_for_sandbox = || {
            let environ = fs::read(&environment).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|word| word == wanted)
                && fs::read_link(&namespace).is_ok_and(|theirs| theirs == ours)
        };
        if !works_for_sandbox() {
            continue;
        }
        match pidfd_open(pid, PidfdFlags::empty()) {
            // Checked again, because the process ID may have been reused before the descriptor was opened.
            Ok(process) if works_for_sandbox() => found.push(process),
            Ok(_) | Err(Errno::SRCH) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(found)
}

/// Waits until the process ends or `until` passes; returns whether it ended. The descriptor of a process that has ended
/// is readable (pidfd_open(2)).
fn wait_for_end(process: &OwnedFd, until: Instant) -> Result<bool, Errno> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        let mut watched = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut watched, Some(&left)) {
            Err(Errno::INTR) => {}
            ready => return ready.map(|ready| ready > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use super::*;

    fn working_for(id: &str) -> Child {
        // A program that a plugin starts inherits `CNI_CONTAINERID`.
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 1000; exit 3"])
            .env("CNI_CONTAINERID", id);
        command.spawn().unwrap()
    }

    #[test]
    fn what_works_for_a_sandbox_is_ended_with_its_children_and_nothing_else() {
        let id = format!("fnctr-test-{}", std::process::id());
        let (mut works, mut other) = (working_for(&id), working_for(&format!("{id}1")));
        while find(&id).unwrap().len() < 2 {
            std::thread::yield_now();
        }
        end(&id).unwrap();
        assert!(find(&id).unwrap().is_empty());
        // The shell itself was killed; had only its child been killed, it would have exited with 3.
        assert_eq!(works.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none());
        end(&format!("{id}1")).unwrap();
        assert_eq!(other.wait().unwrap().signal(), Some(9));
        end(&id).unwrap();
    }
}
