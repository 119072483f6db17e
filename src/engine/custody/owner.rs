//! A process, named so that a later process can tell for certain whether it has ended.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// The process that looks after a container. A process id alone is used again, so when the process began belongs to it, and
/// the boot and the pid namespace in which both numbers mean something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// In clock ticks since the boot, from `/proc/PID/stat`.
    began: u64,
    /// The inode of its pid namespace.
    namespace: u64,
    boot: String,
}

impl Owner {
    /// The one that asks; `None` without a `/proc`.
    pub(super) fn this_process() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub(super) fn of(pid: u32) -> Option<Self> {
        let (_, began) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self {
            pid,
            began,
            namespace: namespace()?,
            boot: boot()?,
        })
    }

    /// Reads what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(4, ':');
        Some(Self {
            pid: fields.next()?.parse().ok()?,
            began: fields.next()?.parse().ok()?,
            namespace: fields.next()?.parse().ok()?,
            boot: fields.next()?.to_owned(),
        })
    }

    /// Whether it has ended, for certain. A process of another pid namespace cannot be seen, so it is taken to live.
    pub(super) fn is_gone(&self) -> bool {
        let Some(boot) = boot() else { return false };
        if boot != self.boot {
            return true;
        }
        if namespace() != Some(self.namespace) {
            return false;
        }
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            // A zombie has ended; its parent has not asked how.
            Ok(stat) => parse_stat(&stat)
                .is_some_and(|(state, began)| began != self.began || matches!(state, 'Z' | 'X')),
            // Read between the end of a process and that of its directory.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            began,
            namespace,
            boot,
        } = self;
        write!(f, "{pid}:{began}:{namespace}:{boot}")
    }
}

fn boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

fn namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// The state and the start of a process, from its `stat` file. The name in it may hold anything, also parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start field 22 (proc_pid_stat(5)).
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_its_text() {
        let this = Owner::this_process().unwrap();
        assert_eq!(Owner::parse(&this.to_string()), Some(this));
        for bad in ["", "1", "1:2:3", "a:2:3:b"] {
            assert_eq!(Owner::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_name_full_of_parentheses_hides_nothing() {
        let stat = "7 (a) R 1 (b)) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn a_zombie_a_recycled_number_and_an_earlier_boot_are_gone() {
        let this = Owner::this_process().unwrap();
        assert!(!this.is_gone());
        let recycled = Owner {
            began: this.began + 1,
            ..this.clone()
        };
        assert!(recycled.is_gone());
        let boot = "00000000-0000-0000-0000-000000000000".to_owned();
        assert!(Owner { boot, ..this.clone() }.is_gone());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner::of(child.id()).unwrap();
        assert!(!owner.is_gone());
        child.kill().unwrap();
        while !owner.is_gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(owner.is_gone());
    }

    #[test]
    fn a_process_of_another_pid_namespace_cannot_be_told_to_be_gone() {
        let this = Owner::this_process().unwrap();
        let elsewhere = Owner {
            namespace: this.namespace + 1,
            pid: u32::MAX,
            ..this
        };
        assert!(!elsewhere.is_gone());
    }
}
