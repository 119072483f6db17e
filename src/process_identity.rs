//! The identity of a process that holds a resource (a lease on images, a container that it waits for), and whether that
//! process still runs.
//!
//! A process that is killed releases nothing, so its resources name it. The process id alone is not enough, because it
//! may belong to another process by now. The start time of the process, in the kernel's ticks since the boot,
//! distinguishes the two, and the boot id distinguishes one boot from another.
//!
//! Process id and start time are valid in one pid namespace and one time namespace only. Whether a process of other
//! namespaces still runs cannot be determined, so its resources are left alone.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

const PID: &str = "fnctr/pid";
const START: &str = "fnctr/start";
const BOOT: &str = "fnctr/boot";
const NAMESPACES: &str = "fnctr/namespaces";

/// A process, distinguished from every earlier or later process of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    pid: u32,
    /// When it began, in ticks since the boot.
    start: u64,
    /// The kernel's id of the boot.
    boot: String,
    /// The inodes of the pid and time namespaces in which `pid` and `start` are valid.
    namespaces: String,
}

/// Whether a process still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It runs.
    Lives,
    /// It has ended, so it holds nothing any more.
    Ended,
    /// It cannot be determined from here.
    Unknown,
}

impl ProcessIdentity {
    /// This process; `None` if `/proc` shows another pid namespace than the one of this process.
    pub(crate) fn this() -> Option<&'static Self> {
        static THIS: OnceLock<Option<ProcessIdentity>> = OnceLock::new();
        THIS.get_or_init(|| {
            let this = Self::look();
            if this.is_none() {
                tracing::debug!("/proc does not show this process, so its resources do not name it");
            }
            this
        })
        .as_ref()
    }

    fn look() -> Option<Self> {
        let pid = std::process::id();
        let shown = fs::read_link("/proc/self").ok()?;
        if shown.to_str()?.parse() != Ok(pid) {
            return None;
        }
        Some(Self {
            pid,
            start: start_of(pid).ok()??,
            boot: boot()?,
            namespaces: namespaces()?,
        })
    }

    /// The process of this id in the namespaces of this process; `None` if there is none.
    #[cfg(test)]
    pub(crate) fn of_pid(pid: u32) -> Option<Self> {
        let start = start_of(pid).ok()??;
        Some(Self {
            pid,
            start,
            ..Self::this()?.clone()
        })
    }

    /// The labels by which a lease names this process.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            (PID, self.pid.to_string()),
            (START, self.start.to_string()),
            (BOOT, self.boot.clone()),
            (NAMESPACES, self.namespaces.clone()),
        ];
        labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The process that these labels name, if they name one.
    pub(crate) fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            pid: labels.get(PID)?.parse().ok()?,
            start: labels.get(START)?.parse().ok()?,
            boot: labels.get(BOOT)?.clone(),
            namespaces: labels.get(NAMESPACES)?.clone(),
        })
    }

    /// Whether the process was one of the current boot; `true` if the boot is not known.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        Self::this().is_none_or(|this| this.boot == self.boot)
    }

    /// Parses what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(4, ':');
        Some(Self {
            pid: fields.next()?.parse().ok()?,
            start: fields.next()?.parse().ok()?,
            namespaces: fields.next()?.to_owned(),
            boot: fields.next()?.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the process still runs.
    pub(crate) fn life(&self) -> Life {
        let Some(this) = Self::this() else {
            return Life::Unknown;
        };
        if self.boot != this.boot {
            return Life::Ended;
        }
        if self.namespaces != this.namespaces {
            return Life::Unknown;
        }
        match start_of(self.pid) {
            Ok(Some(start)) if start == self.start => Life::Lives,
            Ok(_) => Life::Ended,
            Err(_) => Life::Unknown,
        }
    }
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            start,
            boot,
            namespaces,
        } = self;
        write!(f, "{pid}:{start}:{namespaces}:{boot}")
    }
}

/// The start time of the process of this id; `None` if there is no such process, or only its exit status is left.
fn start_of(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        // The process may end while the file is read.
        Err(why) if matches!(why.kind(), io::ErrorKind::NotFound) || why.raw_os_error() == Some(ESRCH) => {
            return Ok(None);
        }
        Err(why) => return Err(why),
    };
    parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat cannot be parsed"))
}

const ESRCH: i32 = nix::errno::Errno::ESRCH as i32;

/// Parses the text of `/proc/PID/stat`. The inner `None` means that the process has ended. The program's name may
/// contain any character, so the fields are counted from behind it.
fn parse(stat: &str) -> Option<Option<u64>> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // proc(5): the state is field 3, the number of threads 20, the start 22.
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let start: u64 = fields.nth(1)?.parse().ok()?;
    // If the first thread has ended before the others, the process still runs.
    let ended = matches!(state, "Z" | "X" | "x") && threads <= 1;
    Some((!ended).then_some(start))
}

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn namespaces() -> Option<String> {
    let inode = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).map(|found| found.ino());
    let pid = inode("pid").ok()?;
    // Older kernels have no time namespaces.
    let time = inode("time").unwrap_or_default();
    Some(format!("{pid}.{time}"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_identity_survives_its_text() {
        let this = ProcessIdentity::this().unwrap();
        assert_eq!(ProcessIdentity::parse(&this.to_string()).as_ref(), Some(this));
        for bad in ["", "1", "1:2:3", "a:2:3:b"] {
            assert_eq!(ProcessIdentity::parse(bad), None, "{bad:?}");
        }
    }

    fn this() -> ProcessIdentity {
        ProcessIdentity::this().unwrap().clone()
    }

    #[test]
    fn this_process_lives_and_its_labels_name_it() {
        assert_eq!(this().life(), Life::Lives);
        assert_eq!(ProcessIdentity::of(&this().labels()), Some(this()));
        assert_eq!(this().pid(), std::process::id());
    }

    #[test]
    fn a_process_that_was_killed_has_ended_before_and_after_it_is_reaped() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let identity = ProcessIdentity::of_pid(child.id()).unwrap();
        assert_eq!(identity.life(), Life::Lives);
        child.kill().unwrap();
        while identity.life() == Life::Lives {
            std::thread::yield_now();
        }
        assert_eq!(identity.life(), Life::Ended, "a zombie holds nothing");
        child.wait().unwrap();
        assert_eq!(identity.life(), Life::Ended);
    }

    #[test]
    fn an_id_that_another_process_has_now_does_not_identify_the_earlier_one() {
        let earlier = ProcessIdentity {
            start: this().start + 1,
            ..this()
        };
        assert_eq!(earlier.life(), Life::Ended);
    }

    #[test]
    fn nothing_outlives_its_boot_and_nothing_is_judged_from_another_pid_namespace() {
        let rebooted = ProcessIdentity {
            boot: "another".into(),
            namespaces: "1.1".into(),
            ..this()
        };
        assert_eq!(rebooted.life(), Life::Ended);
        let elsewhere = ProcessIdentity {
            pid: u32::MAX,
            namespaces: "1.1".into(),
            ..this()
        };
        assert_eq!(elsewhere.life(), Life::Unknown);
    }

    #[test]
    fn incomplete_labels_name_no_process() {
        let mut labels = this().labels();
        labels.remove(START);
        assert_eq!(ProcessIdentity::of(&labels), None);
        assert_eq!(ProcessIdentity::of(&BTreeMap::new()), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a) b (c) {state} 1 1 1 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 {threads} 0 4711 1 1")
        };
        assert_eq!(parse(&stat("S", 1)), Some(Some(4711)));
        assert_eq!(parse(&stat("Z", 1)), Some(None));
        assert_eq!(parse(&stat("Z", 3)), Some(Some(4711)), "its other threads go on");
        assert_eq!(parse("nothing"), None);
    }
}
