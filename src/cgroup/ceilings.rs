//! The resource limits that a runtime can set for the processes that it starts.
//!
//! A runtime inherits containerd's hard limits. Without CAP_SYS_RESOURCE it cannot raise them, and it fails only after
//! it has begun. Therefore the limits of containerd's process are read, and a limit above them is refused before
//! anything is created.

use std::fs;

use super::error::{Error, is_gone};

/// The bit of CAP_SYS_RESOURCE in a capability set.
const SYS_RESOURCE: u32 = 24;

/// A resource limit of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rlimit {
    /// Seconds of processor time.
    Cpu,
    /// Bytes of a file that the process writes.
    Fsize,
    /// Bytes of data segments.
    Data,
    /// Bytes of the stack.
    Stack,
    /// Bytes of a core dump.
    Core,
    /// Bytes of resident memory; current kernels do not enforce it.
    Rss,
    /// Processes and threads of the user.
    Nproc,
    /// Open files.
    Nofile,
    /// Bytes of locked memory.
    Memlock,
    /// Bytes of address space.
    As,
    /// File locks; current kernels do not enforce it.
    Locks,
    /// Queued signals.
    Sigpending,
    /// Bytes in POSIX message queues.
    Msgqueue,
    /// 20 minus the lowest nice value.
    Nice,
    /// Real-time priority.
    Rtprio,
    /// Microseconds without a blocking call under real-time scheduling.
    Rttime,
}

/// Every limit with the start of its row in `/proc/PID/limits`, in the kernel's order.
const ROWS: [(Rlimit, &str); 16] = [
    (Rlimit::Cpu, "Max cpu time"),
    (Rlimit::Fsize, "Max file size"),
    (Rlimit::Data, "Max data size"),
    (Rlimit::Stack, "Max stack size"),
    (Rlimit::Core, "Max core file size"),
    (Rlimit::Rss, "Max resident set"),
    (Rlimit::Nproc, "Max processes"),
    (Rlimit::Nofile, "Max open files"),
    (Rlimit::Memlock, "Max locked memory"),
    (Rlimit::As, "Max address space"),
    (Rlimit::Locks, "Max file locks"),
    (Rlimit::Sigpending, "Max pending signals"),
    (Rlimit::Msgqueue, "Max msgqueue size"),
    (Rlimit::Nice, "Max nice priority"),
    (Rlimit::Rtprio, "Max realtime priority"),
    (Rlimit::Rttime, "Max realtime timeout"),
];

/// The hard limits of one process, and whether it may exceed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ceilings {
    /// In the order of [`ROWS`]; `None` is unlimited.
    hard: [Option<u64>; ROWS.len()],
    /// Whether CAP_SYS_RESOURCE is in effect.
    pub(crate) may_raise: bool,
    /// `fs.nr_open`: no process can raise its limit of open files above it.
    nr_open: Option<u64>,
}

impl Ceilings {
    /// Reads the ceilings of process `pid`.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if the process ended.
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

    /// The ceilings from the texts of `/proc/PID/limits` and `/proc/PID/status`. Pure.
    fn parse(limits: &str, status: &str, nr_open: Option<u64>) -> Option<Self> {
        let hard = |name: &str| {
            let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
            // The hard limit is in the column after the soft one.
            match row.split_ascii_whitespace().nth(1)? {
                "unlimited" => Some(None),
                number => number.parse().ok().map(Some),
            }
        };
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
        let mut all = [None; ROWS.len()];
        for (place, (_, name)) in all.iter_mut().zip(ROWS) {
            *place = hard(name)?;
        }
        Some(Self {
            hard: all,
            may_raise: effective >> SYS_RESOURCE & 1 == 1,
            nr_open,
        })
    }

    /// The highest hard limit that the process can set; `None` means any.
    pub(crate) fn ceiling(&self, of: Rlimit) -> Option<u64> {
        if self.may_raise {
            return self.nr_open.filter(|_| of == Rlimit::Nofile);
        }
        let mut rows = ROWS.iter().zip(self.hard);
        rows.find_map(|((limit, _), hard)| (*limit == of).then_some(hard))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    4096                 bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             96365                96365                processes 
Max open files            1024                 20000                files     
Max locked memory         8388608              8388608              bytes     
Max address space         unlimited            unlimited            bytes     
Max file locks            unlimited            unlimited            locks     
Max pending signals       96365                96366                signals   
Max msgqueue size         819200               unlimited            bytes     
Max nice priority         0                    0                    
Max realtime priority     0                    0                    
Max realtime timeout      unlimited            unlimited            us        
";

    #[test]
    fn without_the_capability_the_hard_limit_is_the_ceiling() {
        let found = Ceilings::parse(LIMITS, "Name:\tx\nCapEff:\t000001fffeffffff\n", Some(1 << 20)).unwrap();
        assert!(!found.may_raise);
        assert_eq!(found.ceiling(Rlimit::Nofile), Some(20000));
        assert_eq!(found.ceiling(Rlimit::Memlock), Some(8 << 20));
        assert_eq!(found.ceiling(Rlimit::Sigpending), Some(96366));
        assert_eq!(found.ceiling(Rlimit::Msgqueue), None);
        assert_eq!(found.ceiling(Rlimit::Stack), None);
        assert_eq!(found.ceiling(Rlimit::Core), Some(4096));
        assert_eq!(found.ceiling(Rlimit::Nice), Some(0));
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
        let ours = Ceilings {
            may_raise: false,
            ..found
        };
        for (of, theirs) in [
            (Rlimit::Nofile, Resource::RLIMIT_NOFILE),
            (Rlimit::Memlock, Resource::RLIMIT_MEMLOCK),
            (Rlimit::Core, Resource::RLIMIT_CORE),
            (Rlimit::Nproc, Resource::RLIMIT_NPROC),
        ] {
            let (_, hard) = getrlimit(theirs).unwrap();
            let expected = (hard != RLIM_INFINITY).then_some(hard);
            assert_eq!(ours.ceiling(of), expected, "{theirs:?}");
        }
        assert!(Ceilings::of_pid(u32::MAX).unwrap_err().is_gone());
    }
}
