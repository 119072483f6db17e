//! Which namespaces a container has of its own, and which network it joins.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::config::{CgroupVersion, NetworkMode};
use crate::error::Error;
use crate::paths;

/// Mounts, hostname, processes and IPC are always its own. The cgroup namespace is on cgroup v2 only, as in Docker:
/// there the container's own cgroup is its root; on v1 the paths of many hierarchies would differ for no gain.
pub(crate) fn namespaces(network: &NetworkMode, cgroup: CgroupVersion) -> Result<Vec<LinuxNamespace>, Error> {
    let mut namespaces = vec![
        namespace(LinuxNamespaceType::Mount, None),
        namespace(LinuxNamespaceType::Uts, None),
        namespace(LinuxNamespaceType::Pid, None),
        namespace(LinuxNamespaceType::Ipc, None),
    ];
    match network {
        NetworkMode::None => namespaces.push(namespace(LinuxNamespaceType::Network, None)),
        NetworkMode::Host => {}
        NetworkMode::Join(path) => {
            let clean = paths::absolute(path).map_err(|why| Error::NetworkPath {
                path: path.clone(),
                why,
            })?;
            namespaces.push(namespace(LinuxNamespaceType::Network, Some(PathBuf::from(clean))));
        }
    }
    match cgroup {
        CgroupVersion::V1 => {}
        CgroupVersion::V2 => namespaces.push(namespace(LinuxNamespaceType::Cgroup, None)),
    }
    Ok(namespaces)
}

/// A new namespace, or the one at the path.
fn namespace(typ: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(typ).set_path(path);
    namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(mode: &NetworkMode) -> Option<LinuxNamespace> {
        let namespaces = namespaces(mode, CgroupVersion::V1).unwrap();
        namespaces
            .into_iter()
            .find(|ns| ns.typ() == LinuxNamespaceType::Network)
    }

    #[test]
    fn the_hosts_network_is_the_absence_of_a_namespace() {
        assert_eq!(network(&NetworkMode::Host), None);
        assert_eq!(network(&NetworkMode::None).unwrap().path(), &None);
        let joined = network(&NetworkMode::Join("/run/netns//a".into())).unwrap();
        assert_eq!(joined.path(), &Some(PathBuf::from("/run/netns/a")));
    }

    #[test]
    fn a_network_that_cannot_be_joined_is_refused() {
        for bad in ["", "a", "/a/../b", "/a\0"] {
            let mode = NetworkMode::Join(bad.into());
            assert!(
                matches!(
                    namespaces(&mode, CgroupVersion::V2),
                    Err(Error::NetworkPath { .. })
                ),
                "{bad:?}"
            );
        }
    }
}
