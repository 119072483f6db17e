//! The privileges of the process: capabilities, system calls, paths, AppArmor.

use oci_spec::runtime::{Capabilities as Set, Capability, LinuxCapabilities, LinuxSeccomp};

use crate::config::{Capabilities, Host, Seccomp, SecurityContext};
use crate::error::Error;
use crate::{baseline, seccomp as profile};

/// The capabilities that no process in the container can exceed.
pub(crate) type Bounding = Set;

/// Docker's 14 default capabilities.
const DOCKER: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The bounding set.
pub(crate) fn capabilities(wanted: &Capabilities) -> Result<Bounding, Error> {
    match wanted {
        Capabilities::None => Ok(Set::new()),
        Capabilities::Docker => Ok(Set::from(DOCKER)),
        Capabilities::Only(names) => names.iter().map(|name| capability(name)).collect(),
    }
}

/// Parses `CAP_CHOWN`, the only spelling that the kernel's manual and the spec use.
fn capability(name: &str) -> Result<Capability, Error> {
    name.strip_prefix("CAP_")
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| Error::UnknownCapability {
            name: name.to_owned(),
        })
}

/// As in Docker 28, no capability is inheritable or ambient. A user other than root has the capabilities that remain
/// after `execve`: none, except in the bounding set.
pub(crate) fn process_capabilities(bounding: &Bounding, uid: u32) -> LinuxCapabilities {
    let mut capabilities = baseline::no_capabilities();
    capabilities.set_bounding(Some(bounding.clone()));
    if uid == 0 {
        capabilities
            .set_effective(Some(bounding.clone()))
            .set_permitted(Some(bounding.clone()));
    }
    capabilities
}

/// The filter of system calls, if one is requested.
pub(crate) fn seccomp(
    wanted: &Seccomp,
    host: &Host,
    bounding: &Bounding,
) -> Result<Option<LinuxSeccomp>, Error> {
    match wanted {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default => profile::resolve(host, bounding).map(Some),
    }
}

/// The usual masked paths, and the sensitive paths of this host.
pub(crate) fn masked_paths(security: &SecurityContext, host: &Host) -> Option<Vec<String>> {
    let usual = baseline::MASKED_PATHS.map(str::to_owned);
    security
        .protect_paths
        .then(|| usual.into_iter().chain(host.sensitive_paths.clone()).collect())
}

/// The usual read-only paths.
pub(crate) fn readonly_paths(security: &SecurityContext) -> Option<Vec<String>> {
    security
        .protect_paths
        .then(|| baseline::READONLY_PATHS.map(str::to_owned).to_vec())
}

/// The AppArmor profile of the process, if one is requested.
pub(crate) fn apparmor_profile(security: &SecurityContext) -> Result<Option<String>, Error> {
    match security.apparmor_profile.as_deref() {
        // A runtime treats an empty name as no profile, which a caller that set one does not expect.
        Some("") => Err(Error::EmptyAppArmorProfile),
        profile => Ok(profile.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_has_capabilities_at_once() {
        let bounding = capabilities(&Capabilities::Docker).unwrap();
        assert_eq!(bounding.len(), 14);
        let root = process_capabilities(&bounding, 0);
        let user = process_capabilities(&bounding, 1000);
        for set in [
            root.effective(),
            root.permitted(),
            root.bounding(),
            user.bounding(),
        ] {
            assert_eq!(set.as_ref(), Some(&bounding));
        }
        for set in [
            user.effective(),
            user.permitted(),
            root.inheritable(),
            root.ambient(),
        ] {
            assert_eq!(set.as_ref(), Some(&Set::new()));
        }
    }

    #[test]
    fn a_capability_has_one_spelling() {
        let only = |name: &str| capabilities(&Capabilities::Only(vec![name.to_owned()]));
        assert_eq!(only("CAP_NET_ADMIN"), Ok(Set::from([Capability::NetAdmin])));
        for bad in [
            "",
            "CAP_",
            "NET_ADMIN",
            "cap_net_admin",
            "CAP_CAP_KILL",
            "CAP_EVERYTHING",
        ] {
            assert_eq!(only(bad), Err(Error::UnknownCapability { name: bad.to_owned() }));
        }
    }
}
