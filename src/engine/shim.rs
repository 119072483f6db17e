//! The shims of containers, as `/proc` shows them: the only trace of a task that containerd does not have yet, or has
//! lost.
//!
//! A shim's command line contains the socket of its containerd, the containerd namespace and the container
//! (containerd's runtime/v2/README.md). A shim runs from before the first call of the runtime until after the last one,
//! so a cgroup without a shim belongs to no container of a containerd in this pid namespace.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, pidfd_send_signal};

use super::bundle::Bundle;
use super::{Deps, pidfd};
use crate::ContainerId;

/// Longer than a shim's command line, in bytes: it has two paths and two names.
const MAX_CMDLINE: usize = 8 << 10;
/// How the name of every shim's program begins.
const PROGRAM: &[u8] = b"containerd-shim";

/// A process that serves one container to its containerd, or that containerd runs to start or to clean up a container.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) args: ShimArgs,
    pid: u32,
    process: OwnedFd,
    /// The working directory of every shim.
    pub(super) bundle: Option<Bundle>,
}

impl Shim {
    fn of(pid: u32, args: ShimArgs) -> Option<Self> {
        let process = pidfd::open_once(pid)?;
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
        let bundle = cwd.and_then(|cwd| Bundle::of_shim(cwd, &args.namespace, &args.id));
        // The pid may have become another process's before the descriptor was opened.
        (ShimArgs::of(pid).as_ref() == Some(&args) && !pidfd::has_ended(&process)).then(|| Self {
            args,
            pid,
            process,
            bundle,
        })
    }

    /// Kills the shim. Processes that it has started for the runtime end with it; the container does not.
    pub(super) fn kill(&self) {
        let sockets = self.sockets();
        match pidfd_send_signal(&self.process, Signal::KILL) {
            Ok(()) => tracing::warn!(
                id = self.args.id,
                pid = self.pid,
                "killed a shim that containerd has lost"
            ),
            Err(error) => tracing::debug!(id = self.args.id, pid = self.pid, %error, "cannot kill a shim"),
        }
        // No process listens there any more.
        for socket in sockets {
            drop(std::fs::remove_file(socket));
        }
    }

    /// The sockets on which it listens for its containerd.
    fn sockets(&self) -> Vec<PathBuf> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        let targets = open.into_iter().flatten().flatten();
        let targets = targets.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let targets: Vec<_> = targets.collect();
        let known = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let listening = known.lines().filter_map(listener);
        let own = listening.filter(|(inode, _)| targets.contains(&format!("socket:[{inode}]").into()));
        own.map(|(_, path)| path.into()).collect()
    }
}

impl Deps {
    /// The command lines of the shims of this containerd namespace, and of namespaces of the same name of other
    /// containerds. Costs one file of each process of the host.
    pub(super) fn shim_args(&self) -> Vec<ShimArgs> {
        self.shim_processes().map(|(_, args)| args).collect()
    }

    /// The shims of one container.
    pub(super) fn shims_of(&self, id: &ContainerId) -> Vec<Shim> {
        let own = self.shim_processes().filter(|(_, args)| args.id == id.as_str());
        own.filter_map(|(pid, args)| Shim::of(pid, args)).collect()
    }

    fn shim_processes(&self) -> impl Iterator<Item = (u32, ShimArgs)> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Some((pid, ShimArgs::of(pid)?)))
            .filter(|(_, args)| args.namespace == self.config.namespace.as_str())
    }

    /// The shims of one container that belong to this engine's containerd.
    pub(super) fn own_shims_of(&self, id: &ContainerId) -> Vec<Shim> {
        let mut shims = self.shims_of(id);
        shims.retain(|shim| self.is_ours(&shim.args));
        shims
    }

    /// The bundle of any shim that belongs to this engine's containerd.
    pub(super) fn own_bundle(&self) -> Option<Bundle> {
        let mut own = self.shim_processes().filter(|(_, args)| self.is_ours(args));
        own.find_map(|(pid, args)| Shim::of(pid, args)?.bundle)
    }

    /// Whether a shim belongs to the containerd that this engine uses, and not to another one that has a container of
    /// the same name.
    pub(super) fn is_ours(&self, shim: &ShimArgs) -> bool {
        let own = &self.config.address;
        let real = |path: &Path| path.canonicalize().ok();
        shim.address == *own || real(&shim.address).is_some_and(|theirs| Some(theirs) == real(own))
    }
}

/// The inode and the path of a socket that a process listens on, from a line of `/proc/net/unix` (unix(7)).
fn listener(line: &str) -> Option<(&str, &str)> {
    const ACCEPTS: &str = "00010000";

    let mut words = line.split_whitespace().skip(3);
    let (flags, inode, path) = (words.next()?, words.nth(2)?, words.next()?);
    (flags == ACCEPTS && path.starts_with('/')).then_some((inode, path))
}

/// The arguments on a shim's command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ShimArgs {
    /// The container's name.
    pub(super) id: String,
    /// containerd's socket.
    address: PathBuf,
    namespace: String,
}

impl ShimArgs {
    fn of(pid: u32) -> Option<Self> {
        // Read at once: this is done for every process of the host.
        let mut cmdline = [0; MAX_CMDLINE];
        let mut file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
        let length = file.read(&mut cmdline).ok()?;
        Self::parse(cmdline.get(..length)?)
    }

    /// `None` for the command line of anything but a shim.
    fn parse(cmdline: &[u8]) -> Option<Self> {
        let mut words = cmdline.split(|byte| *byte == 0);
        let program = words.next()?.rsplit(|byte| *byte == b'/').next()?;
        if !program.starts_with(PROGRAM) {
            return None;
        }
        let words: Vec<_> = words.collect();
        let value = |flag: &str| {
            // Go's flags begin with one dash or two.
            let at = words.iter().position(|word| {
                let name = word
                    .strip_prefix(b"-")
                    .map(|word| word.strip_prefix(b"-").unwrap_or(word));
                name == Some(flag.as_bytes())
            })?;
            words.get(at + 1).copied()
        };
        let text = |flag| value(flag).map(|word| String::from_utf8_lossy(word).into_owned());
        Some(Self {
            address: OsStr::from_bytes(value("address")?).into(),
            namespace: text("namespace")?,
            id: text("id")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(String, String, String)> {
        let words = ShimArgs::parse(line.replace(' ', "\0").as_bytes())?;
        Some((words.address.display().to_string(), words.namespace, words.id))
    }

    #[test]
    fn a_listening_socket_is_distinguished_from_a_connected_one() {
        let line = |flags: &str, path: &str| {
            format!("0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {path}")
        };
        assert_eq!(
            listener(&line("00010000", "/run/containerd/s/ab")),
            Some(("4711", "/run/containerd/s/ab"))
        );
        for other in [
            line("00000000", "/run/containerd/s/ab"),
            line("00010000", "@x"),
            line("00010000", ""),
        ] {
            assert_eq!(listener(&other), None, "{other}");
        }
    }

    #[test]
    fn the_command_line_of_a_shim_identifies_its_container() {
        let whose = Some(("/run/c.sock".to_owned(), "ns".to_owned(), "c1".to_owned()));
        for line in [
            "/usr/bin/containerd-shim-runc-v2 -namespace ns -id c1 -address /run/c.sock ",
            "containerd-shim-runc-v2 --namespace ns --address /run/c.sock --id c1 start",
            "/bin/containerd-shim-runc-v2 -namespace ns -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 \
             -bundle /b delete",
        ] {
            assert_eq!(parse(line), whose, "{line}");
        }
        for line in [
            "",
            "/usr/bin/containerd --config /c.toml",
            "vi -namespace ns -id c1 -address /run/c.sock",
            "containerd-shim-runc-v2 -namespace ns -id",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
