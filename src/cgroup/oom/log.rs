//! Out-of-memory kills in the kernel's own log. The log outlives the cgroup: systemd removes a scope once it is empty,
//! and with it the record in the cgroup, before this process can read it.
//!
//! Two kinds of lines name the cgroup (mm/oom_kill.c, mm/memcontrol.c):
//!
//! ```text
//! oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/a.slice/b.scope,task_memcg=/a.slice/b.scope,task=…    whose limit; 10 in 5 s
//! Tasks in /a.slice/b.scope are going to be killed due to memory.oom.group set                           all of them
//! ```
//!
//! A function cannot forge them: it has no /dev/kmsg, and the kernel marks records that processes write there.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::limit::limit_of;
use super::limit_owner::LimitOwner;

/// How many kills are remembered. Each one is looked up as soon as its container has ended.
const KEPT: usize = 256;
/// The longest record of the log (kernel: CONSOLE_EXT_LOG_MAX).
const LONGEST: usize = 8 << 10;

/// The kernel's log, from the moment it was opened. Takes one file descriptor.
#[derive(Debug)]
pub(crate) struct OomLog {
    /// Where the unified tree is mounted.
    top: PathBuf,
    read: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    file: File,
    /// The number of the next record.
    next: u64,
    kills: VecDeque<(u64, Kill)>,
}

/// One line about a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kill {
    /// The cgroup of the killed process, by the kernel's name for it.
    of: PathBuf,
    /// The cgroup whose limit was hit. `None` if the line does not name it, or the machine's memory was exhausted.
    limit_of: Option<PathBuf>,
    machine: bool,
}

impl OomLog {
    /// Opens the log at its end; `top` is where the whole unified tree is mounted. Fails if the log cannot be read,
    /// which requires CAP_SYSLOG.
    pub(crate) fn open(top: &Path) -> std::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open("/dev/kmsg", flags, Mode::empty())?);
        file.seek(SeekFrom::End(0))?;
        Ok(Self::of(top, file))
    }

    fn of(top: &Path, file: File) -> Self {
        Self {
            top: top.to_owned(),
            read: Mutex::new(Reading {
                file,
                next: 0,
                kills: VecDeque::new(),
            }),
        }
    }

    /// The current end of the log, to pass to [`Self::whose`] later. Does not block.
    pub(crate) fn now(&self) -> u64 {
        let mut reading = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        reading.drain();
        reading.next
    }

    /// Whose limit was hit when a process of this cgroup was killed for lack of memory after `since`; `None` if the log
    /// contains no such kill. Does not block: the kernel writes the line before the process ends.
    pub(crate) fn whose(&self, dir: &Path, since: u64) -> Option<LimitOwner> {
        let cgroup = Path::new("/").join(dir.strip_prefix(&self.top).ok()?);
        let mut reading = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        reading.drain();
        let told = reading.kills.iter().filter(|(at, _)| *at >= since);
        let told: Vec<_> = told.filter(|(_, kill)| kill.of.starts_with(&cgroup)).collect();
        // The kernel may have left out the line that names the limit, because it limits their rate.
        let best = told
            .iter()
            .find(|(_, kill)| kill.machine || kill.limit_of.is_some());
        best.or_else(|| told.first())
            .map(|(_, kill)| match &kill.limit_of {
                _ if kill.machine => LimitOwner::Machine,
                None => LimitOwner::Unknown,
                Some(own) if *own == cgroup => LimitOwner::Own,
                Some(inside) if inside.starts_with(&cgroup) => LimitOwner::Inside,
                Some(above) => {
                    let dir = self.top.join(above.strip_prefix("/").unwrap_or(above));
                    let limit = limit_of(&dir);
                    LimitOwner::Above { dir, limit }
                }
            })
    }
}

impl Reading {
    /// Reads all new records; each read returns one.
    fn drain(&mut self) {
        let mut record = [0; LONGEST];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    let Some((number, message)) = kernels(&text) else {
                        continue;
                    };
                    self.next = number + 1;
                    if let Some(kill) = kill(message) {
                        self.kills.push_back((number, kill));
                        if self.kills.len() > KEPT {
                            self.kills.pop_front();
                        }
                    }
                }
                // Records were overwritten before they were read; the next read continues with the oldest one left.
                Err(error)
                    if error.kind() == ErrorKind::BrokenPipe || error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// The number and the message of a record that the kernel itself wrote: `6,339,5140900,-;MESSAGE`
/// (Documentation/ABI/testing/dev-kmsg). The first field is the writer's facility, shifted left by three bits, plus the
/// level.
fn kernels(record: &str) -> Option<(u64, &str)> {
    let (prefix, message) = record.split_once(';')?;
    let mut prefix = prefix.split(',');
    let priority: u32 = prefix.next()?.parse().ok()?;
    let number = prefix.next()?.parse().ok()?;
    (priority >> 3 == 0).then(|| (number, message.lines().next().unwrap_or_default()))
}

fn kill(message: &str) -> Option<Kill> {
    if let Some(rest) = message.strip_prefix("Tasks in ") {
        let (of, _) = rest.rsplit_once(" are going to be killed due to memory.oom.group set")?;
        return Some(Kill {
            of: path(of),
            limit_of: None,
            machine: false,
        });
    }
    let facts = message.strip_prefix("oom-kill:constraint=")?;
    // The process's name comes after the paths and may contain any text.
    let (before, rest) = facts.split_once(",task_memcg=")?;
    let (of, _) = rest.split_once(",task=")?;
    let limit_of = before.split_once(",oom_memcg=").map(|(_, of)| path(of));
    Some(Kill {
        of: path(of),
        machine: limit_of.is_none() && before.ends_with(",global_oom"),
        limit_of,
    })
}

/// Replaces the escape of the backslash, which systemd's names often contain.
fn path(text: &str) -> PathBuf {
    text.replace("\\x5c", "\\").into()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const OWN: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=b.scope,mems_allowed=0,oom_memcg=/a.slice/b.scope,task_memcg=/a.slice/b.scope,task=tail,task_memcg=/x,task=,pid=7,uid=0";
    const ABOVE: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a.slice,task_memcg=/a.slice/b.scope/in,task=tail,pid=7,uid=0";
    const MACHINE: &str = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a.slice/b.scope,task=tail,pid=7,uid=0";
    const GROUP: &str = "Tasks in /a.slice/b.scope are going to be killed due to memory.oom.group set";

    /// A log whose records are the datagrams sent to it: each read returns one whole datagram, as it does one record.
    fn log() -> (OomLog, UnixDatagram) {
        let (to, from) = UnixDatagram::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        (OomLog::of(Path::new("/cg"), File::from(OwnedFd::from(from))), to)
    }

    fn write(to: &UnixDatagram, number: u64, message: &str) {
        let record = format!("6,{number},5140900,-;{message}\n SUBSYSTEM=x\n");
        to.send(record.as_bytes()).unwrap();
    }

    #[test]
    fn the_kernel_s_lines_tell_whose_limit_was_hit() {
        let scope = Path::new("/cg/a.slice/b.scope");
        let above = || LimitOwner::Above {
            dir: "/cg/a.slice".into(),
            limit: None,
        };
        for (line, whose) in [
            (OWN, LimitOwner::Own),
            (ABOVE, above()),
            (MACHINE, LimitOwner::Machine),
            (GROUP, LimitOwner::Unknown),
        ] {
            let (log, to) = log();
            write(&to, 1, "usb 1-1: new device");
            write(&to, 2, line);
            assert_eq!(log.whose(scope, 0), Some(whose), "{line}");
            assert_eq!(log.whose(Path::new("/cg/a.slice/b.scope2"), 0), None);
            assert_eq!(log.whose(Path::new("/elsewhere"), 0), None);
        }
    }

    #[test]
    fn the_line_that_knows_more_counts_and_an_earlier_life_does_not() {
        let scope = Path::new("/cg/a.slice/b.scope");
        let (log, to) = log();
        write(&to, 4, GROUP);
        write(&to, 5, OWN);
        assert_eq!(log.whose(scope, 0), Some(LimitOwner::Own));
        let since = log.now();
        assert_eq!((since, log.whose(scope, since)), (6, None));
        write(&to, 9, GROUP);
        assert_eq!(log.whose(scope, since), Some(LimitOwner::Unknown));
    }

    #[test]
    fn a_record_that_a_process_wrote_and_a_torn_one_are_ignored() {
        let (log, to) = log();
        let user = format!("12,3,1,-;{OWN}");
        for record in [user.as_str(), "6,4", "x,5,1,-;y", "6,x,1,-;"] {
            to.send(record.as_bytes()).unwrap();
        }
        write(
            &to,
            6,
            "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/a.slice/b.scope",
        );
        assert_eq!(log.whose(Path::new("/cg/a.slice/b.scope"), 0), None);
    }

    #[test]
    fn names_are_as_systemd_wrote_them_and_the_memory_is_bounded() {
        let (log, to) = log();
        let escaped = OWN.replace("b.scope", "b\\x5cx2d1.scope");
        for number in 0..300 {
            write(&to, number, &escaped);
            log.now();
        }
        assert_eq!(
            log.whose(Path::new("/cg/a.slice/b\\x2d1.scope"), 0),
            Some(LimitOwner::Own)
        );
        assert_eq!(log.read.lock().unwrap().kills.len(), KEPT);
    }
}
