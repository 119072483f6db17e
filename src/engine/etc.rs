//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: files beside its fifos, mounted read-only.
//!
//! They are read-only because they lie in the memory of the host, which a function must not fill. A mount of the plan
//! over one of them, or over `/etc`, takes precedence.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use fnctr_oci::{ContainerConfig, Mount, NetworkMode};

use super::Deps;
use super::error::{Error, Kind, Result, Step};
use super::network::Joined;
use super::plan::Plan;
use crate::ContainerId;
use crate::sandbox::{Dns, Family, RESOLVER, files};

/// Every user in the container can read them; on the host, only root can reach them.
const MODE: u32 = 0o644;

pub(super) const HOSTS: &str = "hosts";
pub(super) const HOSTNAME: &str = "hostname";
pub(super) const RESOLV_CONF: &str = "resolv.conf";
/// Not written, but a link to the list of mounts; see `init_layer`.
pub(super) const MTAB: &str = "mtab";

/// Whether this is the path of a file that every container has.
pub(super) fn is_etc_file(place: &Path) -> bool {
    let mut names = [HOSTS, HOSTNAME, RESOLV_CONF, MTAB].into_iter();
    names.any(|name| place.components().eq(Path::new("/etc").join(name).components()))
}

/// The mounts for the files, which need not exist yet.
pub(super) fn mounts(dir: &Path, config: &ContainerConfig) -> Vec<Mount> {
    let covered = |place: &Path| {
        config.mounts.iter().any(|mount| {
            let (Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. }) = mount;
            place.starts_with(destination)
        })
    };
    let files = [HOSTS, HOSTNAME, RESOLV_CONF].into_iter();
    let mounts = files.map(|name| (dir.join(name), Path::new("/etc").join(name)));
    mounts
        .filter(|(_, place)| !covered(place))
        .map(|(source, destination)| Mount::Bind {
            source,
            destination,
            readonly: true,
        })
        .collect()
}

/// Writes the files. Their directory is that of the fifos, and is removed with it; for a container without streams it
/// is made here.
pub(super) fn write(deps: &Deps, plan: &Plan, config: &ContainerConfig, joined: &Joined) -> Result<()> {
    let dir = deps.fifo_dir(&plan.id);
    let theirs = joined.target.as_ref().map(|target| deps.fifo_dir(&target.id));
    let hostname = config.hostname.as_deref();
    let named = plan.aliases.is_some().then(|| asks_its_resolver(joined));
    let joined = named.as_ref().unwrap_or(joined);
    let text = |name: &str| {
        // A container that shares a network shares its names.
        let shared = theirs
            .as_ref()
            .and_then(|theirs| fs::read(theirs.join(name)).ok());
        let mut text = shared.unwrap_or_else(|| own(name, &config.network, hostname, joined).into_bytes());
        if name == HOSTS {
            text.extend(files::more_hosts(&plan.hosts).into_bytes());
        }
        text
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|error| failed(&plan.id, HOSTS, error))?;
    for name in [HOSTS, HOSTNAME, RESOLV_CONF] {
        let written = file(&dir.join(name), &text(name));
        written.map_err(|error| failed(&plan.id, name, error))?;
    }
    Ok(())
}

/// The network of a container that has a resolver of its own: it asks that one alone, and for names without a dot as they are.
fn asks_its_resolver(joined: &Joined) -> Joined {
    let attached = joined.attached.clone().map(|(addresses, dns)| {
        let dns = Dns {
            nameservers: vec![RESOLVER.to_string()],
            options: vec!["ndots:0".to_owned()],
            ..dns
        };
        (addresses, dns)
    });
    Joined {
        attached,
        target: joined.target.clone(),
        ..*joined
    }
}

fn failed(id: &ContainerId, name: &str, error: io::Error) -> Error {
    let error = io::Error::new(
        error.kind(),
        format!("its /etc/{name} cannot be written: {error}"),
    );
    Error::new(Step::Network, id, Kind::Internal, error)
}

fn file(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        // A container of the same name that crashed may have left one.
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)?;
    // The umask of this process may have removed permissions, and a file that a crash left has its old mode.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(text)
}

/// The content of a file in a container that does not share it with another.
fn own(name: &str, network: &NetworkMode, hostname: Option<&str>, joined: &Joined) -> String {
    let hosts_own = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let on_host = *network == NetworkMode::Host;
    match name {
        HOSTS if on_host => hosts_own("/etc/hosts"),
        HOSTS => {
            let addresses = joined
                .attached
                .as_ref()
                .map_or(&[][..], |(addresses, _)| addresses);
            files::hosts(hostname, addresses)
        }
        HOSTNAME => {
            let name = match hostname {
                Some(hostname) => hostname.to_owned(),
                None => hosts_own("/proc/sys/kernel/hostname").trim().to_owned(),
            };
            format!("{name}\n")
        }
        // The host's stub resolver listens on the host's loopback, which is also this container's.
        _ if on_host => hosts_own("/etc/resolv.conf"),
        _ if *network == NetworkMode::None => files::no_resolver(),
        _ => {
            let upstream = fs::read_to_string(files::UPSTREAM).ok();
            let nothing = (Vec::new(), Dns::default());
            let (addresses, dns) = joined.attached.as_ref().unwrap_or(&nothing);
            let families = Family::of_all(addresses.iter().map(|address| address.ip));
            let host = hosts_own("/etc/resolv.conf");
            files::resolv_conf(&host, upstream.as_deref(), dns, &families)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_the_plan_replaces_the_file() {
        let bind = |destination: &str| Mount::Bind {
            source: "/x".into(),
            destination: destination.into(),
            readonly: false,
        };
        let places = |mounts: Vec<Mount>| {
            let config = ContainerConfig {
                mounts,
                ..ContainerConfig::default()
            };
            let mounts = super::mounts(Path::new("/run/c"), &config);
            let names = mounts.into_iter().map(|mount| match mount {
                Mount::Bind { source, readonly, .. } => {
                    assert!(readonly);
                    source.file_name().unwrap().to_str().unwrap().to_owned()
                }
                Mount::Tmpfs { .. } => unreachable!("they are files"),
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(places(vec![bind("/data")]), ["hosts", "hostname", "resolv.conf"]);
        assert_eq!(places(vec![bind("/etc/hosts")]), ["hostname", "resolv.conf"]);
        assert!(places(vec![bind("/etc")]).is_empty());
        assert_eq!(places(vec![bind("/etc/hosts.d")]).len(), 3);
    }

    #[test]
    fn every_user_can_read_a_file_whatever_its_mode_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HOSTS);
        // As a umask of 077 makes it.
        fs::write(&path, "longer than what follows").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    }

    #[test]
    fn the_content_depends_on_the_network() {
        let joined = Joined::default();
        let own = |name: &str, network: &NetworkMode| super::own(name, network, Some("c1"), &joined);
        assert_eq!(own(HOSTNAME, &NetworkMode::None), "c1\n");
        assert!(own(HOSTS, &NetworkMode::None).ends_with("127.0.1.1\tc1\n"));
        assert!(!own(RESOLV_CONF, &NetworkMode::None).contains("nameserver"));
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        assert_eq!(own(HOSTS, &NetworkMode::Host), hosts);
        let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        assert_eq!(own(RESOLV_CONF, &NetworkMode::Host), host);
    }
}
