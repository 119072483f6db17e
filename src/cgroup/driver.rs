//! How the cgroups of containers are created: by systemd, if this host has it and the runtime can reach it, or by the
//! runtime itself, in the file system. containerd and the kubelet call this choice the cgroup driver.
//!
//! On a host that systemd manages, systemd owns the unified tree: it may move or limit cgroups that other programs
//! create there, and expects those programs to ask it for a scope instead (its CGROUP_DELEGATION.md). Docker therefore
//! asks systemd where the tree is unified and systemd is the init. [`CgroupDriver::Probe`] does the same, provided that
//! the runtime can reach systemd and that the cgroups seen here are the host's own. In every other case the runtime
//! uses the file system. [`choose`] is pure; [`Facts::of_host`] reads the host and changes nothing.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::UnixStream;

use super::layout::Layout;
use super::root::Root;

/// Where the runtime creates the cgroups of containers in the file system, unless the configuration names another
/// parent.
pub(crate) const DEFAULT_PARENT: &str = "/fnctr";

/// The slice in which systemd creates the scopes of containers by default. Docker uses the same slice.
pub(crate) const DEFAULT_SLICE: &str = "system.slice";

/// The inode of the initial cgroup namespace, the same on every host (PROC_CGROUP_INIT_INO in the kernel's proc_ns.h).
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";

/// What creates the cgroups of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// systemd, if it is this host's init, the cgroups are unified (v2) and are not a container's own, and the runtime
    /// can reach systemd; else the file system.
    ///
    /// Not the default, for two reasons. systemd removes a scope when its last process ends, and with the scope the
    /// kernel's record of an out-of-memory kill: containerd's event still reports the kill, but not whose limit was
    /// hit, and with crun the event is at times lost too. And each scope costs a round trip over D-Bus.
    Probe,
    /// The runtime makes directories in the cgroup file system, below the cgroup parent.
    #[default]
    Cgroupfs,
    /// systemd creates a scope for each container, in the slice that the cgroup parent names. On a host without
    /// systemd, connecting fails.
    ///
    /// systemd rounds a CPU limit up to a whole percent of a CPU whenever it writes the limit anew, for example at
    /// `systemctl daemon-reload`: its property for the limit has no finer unit.
    Systemd,
}

impl CgroupDriver {
    /// The name of every driver on a command line.
    pub const NAMES: [&str; 3] = ["probe", "cgroupfs", "systemd"];
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [probe, cgroupfs, systemd] = Self::NAMES;
        f.write_str(match self {
            Self::Probe => probe,
            Self::Cgroupfs => cgroupfs,
            Self::Systemd => systemd,
        })
    }
}

impl FromStr for CgroupDriver {
    type Err = UnknownDriver;

    fn from_str(name: &str) -> Result<Self, UnknownDriver> {
        [Self::Probe, Self::Cgroupfs, Self::Systemd]
            .into_iter()
            .find(|driver| driver.to_string() == name)
            .ok_or_else(|| UnknownDriver {
                name: name.to_owned(),
            })
    }
}

/// A word that names no cgroup driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a cgroup driver: it is probe, cgroupfs or systemd")]
pub struct UnknownDriver {
    name: String,
}

/// The part of the configuration that decides the driver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriverSettings<'a> {
    /// The configured driver.
    pub(crate) driver: CgroupDriver,
    /// The runtime's binary, a name or a path; `None` is runc.
    pub(crate) runtime: Option<&'a str>,
    /// The cgroup parent: an absolute path, or the name of a slice.
    pub(crate) parent: &'a str,
}

/// The driver that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Whether the driver is systemd.
    pub(crate) systemd: bool,
    /// The reason, worded to follow "because".
    pub(crate) why: &'static str,
}

/// Why the configuration cannot be followed on this host, or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// systemd was configured, but the runtime cannot reach it on this host.
    #[error(
        "systemd cannot make the cgroups of containers here, because {why}; choose the cgroup driver probe or cgroupfs"
    )]
    NoSystemd {
        /// What is missing.
        why: &'static str,
    },
    /// The cgroup parent is a path, but systemd is the driver.
    #[error(
        "cgroup parent {parent:?} is a path, but systemd makes the cgroups: name a slice, such as functions.slice, or choose the cgroup driver \
         cgroupfs"
    )]
    ParentIsPath {
        /// The parent.
        parent: String,
    },
    /// The cgroup parent is a slice, but the file system is the driver.
    #[error(
        "cgroup parent {parent:?} is a slice, but systemd does not make the cgroups: name a path, such as /fnctr, or choose the cgroup driver \
         systemd"
    )]
    ParentIsSlice {
        /// The parent.
        parent: String,
    },
}

/// What this host offers of systemd and cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// systemd is the init.
    booted: bool,
    /// The v2 tree is the only one.
    unified: bool,
    /// The cgroups seen here are those of a container, not the host's.
    nested: bool,
    /// A process listens on the system's D-Bus socket, through which every runtime talks to systemd.
    bus: bool,
    /// systemd listens on its own socket. As root, runc uses it if there is no bus; crun does not.
    private: bool,
}

impl Facts {
    /// Reads the host as the process `daemon` sees it. That process is containerd, the parent of every runtime. A host
    /// without cgroups is reported as one whose cgroups are not unified.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn of_host(daemon: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{daemon}"));
        // The process's root directory leads into its mounts (proc_pid_root(5)). Where that is not visible, this
        // process's own root is the best guess.
        let top = process.join("root");
        let top = if top.is_dir() { top } else { PathBuf::from("/") };
        Self {
            // sd_booted(3): the directory itself, not a link to one.
            booted: top
                .join("run/systemd/system")
                .symlink_metadata()
                .is_ok_and(|found| found.is_dir()),
            unified: Root::probe().is_ok_and(|root| root.layout() == Layout::Unified),
            nested: is_nested(Path::new("/proc/self")) || is_nested(&process),
            bus: listens(&top.join("run/dbus/system_bus_socket")).await,
            private: listens(&top.join("run/systemd/private")).await,
        }
    }

    /// The reason why this runtime cannot ask systemd for a cgroup, or `None` if it can.
    fn obstacle(self, runtime: Option<&str>) -> Option<&'static str> {
        if !self.booted {
            return Some("systemd is not the init of this host (/run/systemd/system does not exist)");
        }
        let runc =
            runtime.is_none_or(|binary| Path::new(binary).file_name().is_some_and(|name| name == "runc"));
        match (self.bus, self.private && runc) {
            (true, _) | (_, true) => None,
            (false, false) if runc => Some(
                "runc reaches systemd neither through /run/dbus/system_bus_socket nor through /run/systemd/private",
            ),
            (false, false) => {
                Some("the runtime cannot reach systemd: no process answers on /run/dbus/system_bus_socket")
            }
        }
    }
}

/// Chooses the driver. A cgroup parent in the notation of one driver decides as much as a configured driver does.
pub(crate) fn choose(wanted: DriverSettings<'_>, facts: Facts) -> Result<Choice, Refused> {
    let parent = || wanted.parent.to_owned();
    let (slice, path) = match wanted.parent {
        DEFAULT_PARENT => (false, false),
        name => (is_slice(name), !is_slice(name)),
    };
    let obstacle = facts.obstacle(wanted.runtime);
    let systemd = |why| match obstacle {
        Some(why) => Err(Refused::NoSystemd { why }),
        None => Ok(Choice { systemd: true, why }),
    };
    let cgroupfs = |why| Ok(Choice { systemd: false, why });
    match wanted.driver {
        CgroupDriver::Cgroupfs if slice => Err(Refused::ParentIsSlice { parent: parent() }),
        CgroupDriver::Cgroupfs => cgroupfs("it was chosen"),
        CgroupDriver::Systemd if path => Err(Refused::ParentIsPath { parent: parent() }),
        CgroupDriver::Systemd => systemd("it was chosen"),
        CgroupDriver::Probe if slice => systemd("the cgroup parent is a slice"),
        CgroupDriver::Probe if path => cgroupfs("the cgroup parent is a path"),
        CgroupDriver::Probe if facts.nested => cgroupfs("this is a container with cgroups of its own"),
        CgroupDriver::Probe if !facts.unified => cgroupfs("the cgroups are not unified (v2)"),
        CgroupDriver::Probe => match obstacle {
            Some(why) => cgroupfs(why),
            None => Ok(Choice {
                systemd: true,
                why: "it is the init of this host, and the runtime can reach it",
            }),
        },
    }
}

/// Whether a cgroup parent is in systemd's notation.
pub(crate) fn is_slice(parent: &str) -> bool {
    parent.ends_with(".slice") && !parent.contains('/')
}

/// Whether a process (a directory of `/proc`) is in another cgroup namespace than the host's initial one. False if the
/// kernel has no cgroup namespaces (before 4.6) or the namespace cannot be read.
pub(crate) fn is_nested(process: &Path) -> bool {
    std::fs::read_link(process.join("ns/cgroup")).is_ok_and(|own| own != Path::new(INITIAL_NAMESPACE))
}

/// Whether a process listens on a Unix socket. A D-Bus server ignores a connection that is closed without a message.
async fn listens(socket: &Path) -> bool {
    if !socket.metadata().is_ok_and(|found| found.file_type().is_socket()) {
        return false;
    }
    match UnixStream::connect(socket).await {
        Ok(_) => true,
        // The queue of connections is full, so a process does listen.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    const SYSTEMD: Facts = Facts {
        booted: true,
        unified: true,
        nested: false,
        bus: true,
        private: true,
    };

    fn with(
        driver: CgroupDriver,
        parent: &str,
        runtime: Option<&str>,
        facts: Facts,
    ) -> Result<Choice, Refused> {
        let wanted = DriverSettings {
            driver,
            runtime,
            parent,
        };
        choose(wanted, facts)
    }

    fn probed(runtime: Option<&str>, facts: Facts) -> Choice {
        with(CgroupDriver::Probe, DEFAULT_PARENT, runtime, facts).unwrap()
    }

    #[test]
    fn systemd_is_probed_where_it_is_the_init_of_a_unified_host_that_is_our_own() {
        assert!(probed(None, SYSTEMD).systemd);
        for (facts, why) in [
            (
                Facts {
                    booted: false,
                    ..SYSTEMD
                },
                "not the init",
            ),
            (
                Facts {
                    unified: false,
                    ..SYSTEMD
                },
                "not unified",
            ),
            (
                Facts {
                    nested: true,
                    ..SYSTEMD
                },
                "container",
            ),
            (
                Facts {
                    bus: false,
                    private: false,
                    ..SYSTEMD
                },
                "neither",
            ),
        ] {
            let choice = probed(None, facts);
            assert!(!choice.systemd && choice.why.contains(why), "{choice:?}");
        }
    }

    #[test]
    fn only_runc_turns_to_systemds_own_socket() {
        let busless = Facts {
            bus: false,
            ..SYSTEMD
        };
        for (runtime, systemd) in [
            (None, true),
            (Some("runc"), true),
            (Some("/usr/sbin/runc"), true),
            (Some("crun"), false),
            (Some("/opt/runc-like"), false),
        ] {
            assert_eq!(probed(runtime, busless).systemd, systemd, "{runtime:?}");
            assert!(probed(runtime, SYSTEMD).systemd, "{runtime:?}");
        }
    }

    #[test]
    fn a_configured_systemd_is_refused_only_where_it_cannot_be_asked() {
        let configured = |facts| with(CgroupDriver::Systemd, DEFAULT_PARENT, None, facts);
        // Slower and unusual, but systemd works on both: on v1 hosts, and in containers whose init it is.
        for facts in [
            SYSTEMD,
            Facts {
                unified: false,
                ..SYSTEMD
            },
            Facts {
                nested: true,
                ..SYSTEMD
            },
        ] {
            assert!(configured(facts).unwrap().systemd, "{facts:?}");
        }
        let refused = configured(Facts {
            booted: false,
            ..SYSTEMD
        })
        .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "systemd cannot make the cgroups of containers here, because systemd is not the init of this host \
             (/run/systemd/system does not exist); choose the cgroup driver probe or cgroupfs"
        );
        configured(Facts {
            bus: false,
            private: false,
            ..SYSTEMD
        })
        .unwrap_err();
        assert!(
            !with(CgroupDriver::Cgroupfs, DEFAULT_PARENT, None, SYSTEMD)
                .unwrap()
                .systemd
        );
    }

    #[test]
    fn a_parent_in_the_notation_of_one_driver_is_for_that_driver() {
        let bare = Facts {
            booted: false,
            ..SYSTEMD
        };
        let parent = |driver, parent, facts| with(driver, parent, None, facts).map(|choice| choice.systemd);
        assert_eq!(parent(CgroupDriver::Probe, "/mine", SYSTEMD), Ok(false));
        assert_eq!(parent(CgroupDriver::Probe, "mine.slice", SYSTEMD), Ok(true));
        assert!(matches!(
            parent(CgroupDriver::Probe, "mine.slice", bare),
            Err(Refused::NoSystemd { .. })
        ));
        assert!(matches!(
            parent(CgroupDriver::Systemd, "/mine", SYSTEMD),
            Err(Refused::ParentIsPath { .. })
        ));
        assert!(matches!(
            parent(CgroupDriver::Cgroupfs, "mine.slice", SYSTEMD),
            Err(Refused::ParentIsSlice { .. })
        ));
        // A directory may be called anything.
        assert_eq!(parent(CgroupDriver::Cgroupfs, "/mine.slice", SYSTEMD), Ok(false));
    }

    #[test]
    fn a_driver_has_one_name() {
        for name in CgroupDriver::NAMES {
            assert_eq!(name.parse::<CgroupDriver>().unwrap().to_string(), name);
        }
        assert_eq!(CgroupDriver::default().to_string(), "cgroupfs");
        for bad in ["", "Systemd", "v2"] {
            assert!(bad.parse::<CgroupDriver>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_no_bus() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        assert!(!listens(&socket).await);
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(listens(&socket).await);
        // A drop would not be enough: a process that another test is just starting has the descriptor until its exec.
        nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
        assert!(!listens(&socket).await);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(!listens(&dir.path().join("file")).await);
    }

    #[test]
    fn a_namespace_of_its_own_is_told_from_the_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ns")).unwrap();
        assert!(!is_nested(dir.path()), "an old kernel");
        for (link, nested) in [(INITIAL_NAMESPACE, false), ("cgroup:[4026532771]", true)] {
            let at = dir.path().join("ns/cgroup");
            std::fs::remove_file(&at).ok();
            std::os::unix::fs::symlink(link, &at).unwrap();
            assert_eq!(is_nested(dir.path()), nested, "{link}");
        }
    }
}
