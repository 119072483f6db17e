//! How far a process may raise the resource limits of what it starts.
//!
//! A runtime inherits containerd's hard limits; without CAP_SYS_RESOURCE it cannot go above them, and says so only after
//! it has begun. Read from containerd's process, a limit that cannot be had is refused before anything is made.

use std::fs;

use super::error::{Error, is_gone};

/// The bit of CAP_SYS_RESOURCE in a capability set.
const SYS_RESOURCE: u32 = 24;

/// The limits that the driver contract knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rlimit {
    /// Open files.
    Nofile,
    /// Bytes of locked memory.
    Memlock,
    /// Queued signals.
    Sigpending,
    /// Bytes in POSIX message queues.
    Msgqueue,
}

/// The hard limits of one process, and what may override them. `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ceilings {
    nofile: Option<u64>,
    memlock: Option<u64>,
    sigpending: Option<u64>,
    msgqueue: Option<u64>,
    /// Whether CAP_SYS_RESOURCE is in effect.
    pub(crate) may_raise: bool,
    /// `fs.nr_open`: nobody's limit of open files goes above it.
    nr_open: Option<u64>,
}

impl Ceilings {
    /// Reads the ceilings of process `pid`.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if it ended.
    pub(crate) fn of_pid(pid: u32) -> Result<Self, Error> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).map_err(|source| match is_gone(&source) {
                true => Error::NoProcess { pid },
                false => Error::Io {
                    op: "read",
                    path: path.into(),
                    source,
                },
            })
        };
        let nr_open = fs::read_to_string("/proc/sys/fs/nr_open").ok();
        let nr_open = nr_open.and_then(|text| text.trim().parse().ok());
        let found = Self::parse(&read("limits")?, &read("status")?, nr_open);
        found.ok_or_else(|| Error::Unreadable {
            path: format!("/proc/{pid}/limits").into(),
            what: "table of resource limits",
        })
    }

    /// The same from the texts of `/proc/PID/limits` and `/proc/PID/status`. Pure.
    fn parse(limits: &str, status: &str, nr_open: Option<u64>) -> Option<Self> {
        let hard = |name: &str| {
            let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
            match row.split_ascii_whitespace().nth(1)? {
                "unlimited" => Some(None),
                number => number.parse().ok().map(Some),
            }
        };
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
        Some(Self {
            nofile: hard("Max open files")?,
            memlock: hard("Max locked memory")?,
            sigpending: hard("Max pending signals")?,
            msgqueue: hard("Max msgqueue size")?,
            may_raise: effective >> SYS_RESOURCE & 1 == 1,
            nr_open,
        })
    }

    /// The highest hard limit that can be had; `None` is any.
    pub(crate) fn ceiling(&self, of: Rlimit) -> Option<u64> {
        let (hard, absolute) = match of {
            Rlimit::Nofile => (self.nofile, self.nr_open),
            Rlimit::Memlock => (self.memlock, None),
            Rlimit::Sigpending => (self.sigpending, None),
            Rlimit::Msgqueue => (self.msgqueue, None),
        };
        if self.may_raise { absolute } else { hard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max processes             96365                96365                processes 
Max open files            1024                 20000                files     
Max locked memory         8388608              8388608              bytes     
Max pending signals       96365                96366                signals   
Max msgqueue size         819200               unlimited            bytes     
";

    #[test]
    fn without_the_capability_the_hard_limit_is_the_ceiling() {
        let found = Ceilings::parse(LIMITS, "Name:\tx\nCapEff:\t000001fffeffffff\n", Some(1 << 20)).unwrap();
        assert!(!found.may_raise);
        assert_eq!(found.ceiling(Rlimit::Nofile), Some(20000));
        assert_eq!(found.ceiling(Rlimit::Memlock), Some(8 << 20));
        assert_eq!(found.ceiling(Rlimit::Sigpending), Some(96366));
        assert_eq!(found.ceiling(Rlimit::Msgqueue), None);
    }

    #[test]
    fn with_it_only_open_files_have_one() {
        let found =
            Ceilings::parse(LIMITS, "CapPrm:\t0\nCapEff:\t000001ffffffffff\n", Some(1 << 20)).unwrap();
        assert!(found.may_raise);
        assert_eq!(found.ceiling(Rlimit::Nofile), Some(1 << 20));
        assert_eq!(found.ceiling(Rlimit::Memlock), None);
    }

    #[test]
    fn a_text_without_the_table_is_not_read_as_unlimited() {
        assert_eq!(Ceilings::parse("", "CapEff:\t0\n", None), None);
        assert_eq!(Ceilings::parse(LIMITS, "", None), None);
    }

    #[test]
    fn our_own_ceilings_are_those_that_the_kernel_enforces() {
        use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
        let found = Ceilings::of_pid(std::process::id()).unwrap();
        for (ours, theirs) in [
            (found.nofile, Resource::RLIMIT_NOFILE),
            (found.memlock, Resource::RLIMIT_MEMLOCK),
        ] {
            let (_, hard) = getrlimit(theirs).unwrap();
            assert_eq!(ours, (hard != RLIM_INFINITY).then_some(hard), "{theirs:?}");
        }
        assert!(Ceilings::of_pid(u32::MAX).unwrap_err().is_gone());
    }
}
