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

impl Capabilities {
    /// Whether there is one that is none of Docker's default capabilities. Names that are unknown count as such.
    #[must_use]
    pub fn exceed_docker(&self) -> bool {
        match self {
            Self::None | Self::Docker => false,
            Self::Only(names) => !names
                .iter()
                .all(|name| capability(name).is_ok_and(|one| DOCKER.contains(&one))),
        }
    }

    /// Docker's default capabilities, with some added and some dropped. Names are accepted in any case, with or without
    /// `CAP_`, and `ALL` for all of them. A capability that is added and dropped is dropped, unless all are dropped.
    ///
    /// # Errors
    /// [`Error::UnknownCapability`] with the name as it was given.
    pub fn docker_with(add: &[String], drop: &[String]) -> Result<Self, Error> {
        if add.is_empty() && drop.is_empty() {
            return Ok(Self::Docker);
        }
        let is_all = |name: &String| name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL");
        let named = |names: &[String]| {
            let names = names.iter().filter(|name| !is_all(name));
            let found = names.map(|name| {
                let upper = name.to_ascii_uppercase();
                let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
                bare.parse()
                    .map_err(|_| Error::UnknownCapability { name: name.clone() })
            });
            found.collect::<Result<Set, Error>>()
        };
        let (added, dropped) = (named(add)?, named(drop)?);
        let set: Set = match (add.iter().any(is_all), drop.iter().any(is_all)) {
            (true, _) => Set::from_iter(every()).difference(&dropped).copied().collect(),
            (false, true) => added,
            (false, false) => {
                let kept: Set = Set::from(DOCKER).difference(&dropped).copied().collect();
                kept.union(&added).copied().collect()
            }
        };
        let mut names: Vec<_> = set.iter().map(|capability| format!("CAP_{capability}")).collect();
        names.sort();
        Ok(match names.is_empty() {
            true => Self::None,
            false => Self::Only(names),
        })
    }
}

/// Every capability (linux/capability.h, 0 to 40).
fn every() -> impl Iterator<Item = Capability> {
    use Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
    .into_iter()
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

#[cfg(test)]
mod docker_with_tests {
    use super::*;

    fn with(add: &[&str], drop: &[&str]) -> Result<Capabilities, Error> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Capabilities::docker_with(&owned(add), &owned(drop))
    }

    fn names(of: Capabilities) -> Vec<String> {
        match of {
            Capabilities::Only(names) => names,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn capabilities_are_added_to_docker_s_and_dropped_from_them_in_any_spelling() {
        assert_eq!(with(&[], &[]), Ok(Capabilities::Docker));
        assert_eq!(with(&[], &["all"]), Ok(Capabilities::None));
        assert_eq!(
            names(with(&["net_admin", "CAP_SYS_TIME"], &["ALL"]).unwrap()),
            ["CAP_NET_ADMIN", "CAP_SYS_TIME"]
        );
        let fewer = names(with(&[], &["Cap_Chown", "kill"]).unwrap());
        assert!(
            fewer.len() == 12 && !fewer.contains(&"CAP_CHOWN".to_owned()),
            "{fewer:?}"
        );
        assert_eq!(names(with(&["ALL"], &["SYS_ADMIN"]).unwrap()).len(), 40);
        assert_eq!(
            with(&["NOSUCH"], &[]),
            Err(Error::UnknownCapability {
                name: "NOSUCH".to_owned()
            })
        );
    }

    #[test]
    fn what_exceeds_docker_s_capabilities_is_known() {
        for (add, drop, exceeds) in [
            (&[][..], &[][..], false),
            (&[], &["ALL"], false),
            (&[], &["CHOWN"], false),
            (&["NET_ADMIN"], &[], true),
            (&["NET_ADMIN"], &["ALL"], true),
            (&["KILL"], &["ALL"], false),
        ] {
            assert_eq!(
                with(add, drop).unwrap().exceed_docker(),
                exceeds,
                "{add:?} {drop:?}"
            );
        }
        assert!(Capabilities::Only(vec!["nonsense".to_owned()]).exceed_docker());
    }

    #[test]
    fn what_is_made_is_what_a_spec_can_have() {
        for wanted in [
            with(&["ALL"], &[]),
            with(&[], &["kill"]),
            with(&["bpf"], &["all"]),
        ] {
            let Ok(Capabilities::Only(names)) = wanted else {
                panic!("{wanted:?}")
            };
            assert_eq!(
                capabilities(&Capabilities::Only(names.clone())).unwrap().len(),
                names.len()
            );
        }
    }
}
