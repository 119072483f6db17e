//! Kernel parameters of the container's own namespaces.
//!
//! A parameter outside the container's namespaces would change the host, so parameters that are not known to belong to
//! a namespace are refused. A network namespace that is created for this container alone also gets Docker's two
//! parameters, because the kernel's defaults protect nothing there. An existing one keeps the parameters that its
//! creator has set.

use std::collections::HashMap;

use crate::config::{ContainerConfig, Host, NetworkMode};
use crate::error::Error;

/// Parameters of an IPC namespace, in addition to those below `fs.mqueue`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The first kernel with the parameter, major and minor.
const PORT_START: (u32, u32) = (4, 11);

/// The parameters; `None` if there are none.
pub(crate) fn sysctls(
    config: &ContainerConfig,
    host: &Host,
) -> Result<Option<HashMap<String, String>>, Error> {
    let mut sysctls = match config.network {
        NetworkMode::None => unprivileged(host),
        NetworkMode::Host | NetworkMode::Join(_) => HashMap::new(),
    };
    for (name, value) in &config.sysctls {
        if let Some(why) = objection(name, value, &config.network) {
            return Err(Error::Sysctl {
                name: name.clone(),
                why,
            });
        }
        sysctls.insert(name.clone(), value.clone());
    }
    Ok((!sysctls.is_empty()).then_some(sysctls))
}

/// Every user may listen on any port, and ping without a raw socket. The caller's parameters are added later and
/// override these.
fn unprivileged(host: &Host) -> HashMap<String, String> {
    let mut sysctls = HashMap::new();
    let mut set = |name: &str, value: &str| drop(sysctls.insert(name.to_owned(), value.to_owned()));
    if host.kernel >= PORT_START {
        set("net.ipv4.ip_unprivileged_port_start", "0");
    }
    // The kernel accepts only groups that exist in the host's user namespace.
    if !host.user_namespace {
        set("net.ipv4.ping_group_range", "0 2147483647");
    }
    sysctls
}

fn objection(name: &str, value: &str, network: &NetworkMode) -> Option<&'static str> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !name.bytes().all(known) || name.split('.').any(str::is_empty) {
        return Some("a name consists of words with dots between them");
    }
    if value.contains('\0') {
        return Some("its value contains a NUL byte");
    }
    if name.starts_with("net.") {
        return matches!(network, NetworkMode::Host).then_some("the container has the host's network");
    }
    match name {
        "kernel.hostname" => Some("the hostname is set by the field for it"),
        "kernel.domainname" => None,
        name if name.starts_with("fs.mqueue.") || IPC.contains(&name) => None,
        _ => Some("it is not a parameter of a namespace, so it would change the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kernel: (u32, u32), user_namespace: bool) -> Host {
        Host {
            arch: "x86_64".into(),
            kernel,
            cgroup: crate::config::CgroupVersion::V2,
            rootfs: "rootfs".into(),
            sensitive_paths: Vec::new(),
            user_namespace,
        }
    }

    fn made(names: &[&str], network: NetworkMode, host: &Host) -> Result<Vec<String>, Error> {
        let sysctls = names.iter().map(|&name| (name.to_owned(), "1".to_owned()));
        let config = ContainerConfig {
            sysctls: sysctls.collect(),
            network,
            ..ContainerConfig::default()
        };
        let sysctls = super::sysctls(&config, host)?.unwrap_or_default();
        let mut lines: Vec<_> = sysctls
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.sort();
        Ok(lines)
    }

    fn check(name: &str, network: NetworkMode) -> Result<Option<HashMap<String, String>>, Error> {
        let sysctls = [(name.to_owned(), "1".to_owned())].into();
        let config = ContainerConfig {
            sysctls,
            network,
            ..ContainerConfig::default()
        };
        super::sysctls(&config, &host((6, 1), false))
    }

    #[test]
    fn every_user_may_listen_and_ping_in_a_network_of_the_container_s_own_and_in_no_other() {
        let (port, ping) = (
            "net.ipv4.ip_unprivileged_port_start=0",
            "net.ipv4.ping_group_range=0 2147483647",
        );
        let new = host((6, 1), false);
        assert_eq!(made(&[], NetworkMode::None, &new).unwrap(), [port, ping]);
        for other in [NetworkMode::Host, NetworkMode::Join("/n".into())] {
            assert!(made(&[], other, &new).unwrap().is_empty());
        }
        assert_eq!(
            made(&[], NetworkMode::None, &host((4, 10), false)).unwrap(),
            [ping]
        );
        assert_eq!(made(&[], NetworkMode::None, &host((6, 1), true)).unwrap(), [port]);
        let own = made(&["net.ipv4.ip_unprivileged_port_start"], NetworkMode::None, &new);
        assert_eq!(own.unwrap(), ["net.ipv4.ip_unprivileged_port_start=1", ping]);
    }

    #[test]
    fn only_what_a_container_has_of_its_own_can_be_set() {
        for good in [
            "net.ipv4.ip_unprivileged_port_start",
            "kernel.shmmax",
            "fs.mqueue.msg_max",
        ] {
            assert!(
                check(good, NetworkMode::None)
                    .unwrap()
                    .unwrap()
                    .contains_key(good),
                "{good}"
            );
        }
        for bad in [
            "",
            "net",
            "net..a",
            "net/core",
            "vm.swappiness",
            "kernel.hostname",
            "kernel.pid_max",
        ] {
            assert!(check(bad, NetworkMode::None).is_err(), "{bad:?}");
        }
        assert!(check("net.core.somaxconn", NetworkMode::Host).is_err());
        assert!(check("net.core.somaxconn", NetworkMode::Join("/n".into())).is_ok());
    }
}
