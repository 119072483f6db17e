//! Kernel parameters of the container's own namespaces.
//!
//! A parameter that is not of a namespace would change the host, so what is not known to be of one is refused.

use std::collections::HashMap;

use crate::config::{ContainerConfig, NetworkMode};
use crate::error::Error;

/// Parameters of an IPC namespace, beside those below `fs.mqueue`.
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

/// The parameters, or none.
pub(crate) fn sysctls(config: &ContainerConfig) -> Result<Option<HashMap<String, String>>, Error> {
    let mut sysctls = HashMap::new();
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

    fn check(name: &str, network: NetworkMode) -> Result<Option<HashMap<String, String>>, Error> {
        let sysctls = [(name.to_owned(), "1".to_owned())].into();
        super::sysctls(&ContainerConfig {
            sysctls,
            network,
            ..ContainerConfig::default()
        })
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
