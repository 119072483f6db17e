//! The namespaces that a container does not share with the host, and the network that it joins.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::config::{CgroupVersion, Host, NetworkMode};
use crate::error::Error;
use crate::paths;

/// The first kernel with cgroup namespaces, major and minor (cgroup_namespaces(7)).
const CGROUP_NAMESPACES: (u32, u32) = (4, 6);

/// The namespaces of mounts, hostname, processes, IPC and cgroups are always the container's own. In a cgroup namespace
/// the container's own cgroup is the root of `/sys/fs/cgroup` and of `/proc/self/cgroup`, so the function finds its own
/// limits and no others. Docker creates a cgroup namespace only on cgroup v2. On v1 the OCI runtime then bind-mounts
/// each hierarchy, which takes longer than a mount in a namespace, and `/proc/self/cgroup` reveals the cgroup's path on
/// the host. A kernel without cgroup namespaces has v1 and the bind mounts.
pub(crate) fn namespaces(network: &NetworkMode, host: &Host) -> Result<Vec<LinuxNamespace>, Error> {
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
    if host.cgroup == CgroupVersion::V2 || host.kernel >= CGROUP_NAMESPACES {
        namespaces.push(namespace(LinuxNamespaceType::Cgroup, None));
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

    fn host(cgroup: CgroupVersion, kernel: (u32, u32)) -> Host {
        Host {
            arch: "x86_64".into(),
            kernel,
            cgroup,
            rootfs: "rootfs".into(),
            sensitive_paths: Vec::new(),
            user_namespace: false,
        }
    }

    fn network(mode: &NetworkMode) -> Option<LinuxNamespace> {
        let namespaces = namespaces(mode, &host(CgroupVersion::V1, (6, 1))).unwrap();
        namespaces
            .into_iter()
            .find(|ns| ns.typ() == LinuxNamespaceType::Network)
    }

    #[test]
    fn a_container_sees_its_own_cgroup_alone_wherever_the_kernel_can_do_that() {
        let has = |cgroup, kernel| {
            let namespaces = namespaces(&NetworkMode::None, &host(cgroup, kernel)).unwrap();
            let mut kinds = namespaces.iter().map(LinuxNamespace::typ);
            kinds.any(|kind| kind == LinuxNamespaceType::Cgroup)
        };
        assert!(has(CgroupVersion::V2, (5, 10)));
        assert!(has(CgroupVersion::V1, (4, 6)));
        assert!(!has(CgroupVersion::V1, (4, 5)));
        // An unreadable version counts as the oldest, but a host with only cgroup v2 always has cgroup namespaces.
        assert!(has(CgroupVersion::V2, (0, 0)));
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
                    namespaces(&mode, &host(CgroupVersion::V2, (6, 1))),
                    Err(Error::NetworkPath { .. })
                ),
                "{bad:?}"
            );
        }
    }
}
