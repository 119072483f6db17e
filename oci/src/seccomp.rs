//! Docker's default filter of system calls, resolved for one host and one set of capabilities.
//!
//! The profile is data (`seccomp/default.json`, see the README beside it). Its rules have conditions: an architecture,
//! a capability in the bounding set, a minimum kernel version. The filter consists of the rules whose conditions hold.
//! The runtime skips system calls that its libseccomp does not know.

use std::sync::LazyLock;

use oci_spec::runtime::{Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::Deserialize;

use crate::config::Host;
use crate::error::Error;
use crate::security::Bounding;

#[expect(
    clippy::expect_used,
    reason = "the text is part of this crate, and tests parse it"
)]
static PROFILE: LazyLock<Profile> = LazyLock::new(|| {
    serde_json::from_str(include_str!("seccomp/default.json")).expect("the embedded seccomp profile is valid")
});

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: u32,
    arch_map: Vec<Architectures>,
    syscalls: Vec<Rule>,
}

/// The other architectures whose programs a kernel of this architecture executes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Architectures {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(flatten)]
    syscall: LinuxSyscall,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Condition {
    arches: Vec<String>,
    caps: Vec<Capability>,
    min_kernel: Option<Kernel>,
}

/// A kernel version such as `4.8`.
#[derive(Deserialize, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
struct Kernel(u32, u32);

impl TryFrom<String> for Kernel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers = text
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        numbers
            .map(|(major, minor)| Self(major, minor))
            .ok_or_else(|| format!("{text:?} is not a kernel version"))
    }
}

/// The filter for this host and these capabilities.
pub(crate) fn resolve(host: &Host, bounding: &Bounding) -> Result<LinuxSeccomp, Error> {
    let (name, arch) = architecture(&host.arch)?;
    let case = Case {
        arch: name,
        kernel: Kernel(host.kernel.0, host.kernel.1),
        bounding,
    };
    let syscalls = PROFILE
        .syscalls
        .iter()
        .filter(|rule| case.applies(rule))
        .map(|rule| rule.syscall.clone());
    let mut filter = LinuxSeccomp::default();
    filter
        .set_default_action(PROFILE.default_action)
        .set_default_errno_ret(Some(PROFILE.default_errno_ret))
        .set_architectures(architectures(arch))
        .set_syscalls(Some(syscalls.collect()));
    Ok(filter)
}

/// The values with which the conditions of the rules are compared.
struct Case<'a> {
    arch: &'a str,
    kernel: Kernel,
    bounding: &'a Bounding,
}

impl Case<'_> {
    /// A rule applies if all its includes hold and none of its excludes does.
    fn applies(&self, rule: &Rule) -> bool {
        let Rule {
            includes, excludes, ..
        } = rule;
        let needed = (includes.arches.is_empty() || self.is_one_of(&includes.arches))
            && includes.caps.iter().all(|cap| self.bounding.contains(cap))
            && includes.min_kernel.as_ref().is_none_or(|min| self.kernel >= *min);
        let dropped = self.is_one_of(&excludes.arches)
            || excludes.caps.iter().any(|cap| self.bounding.contains(cap))
            || excludes
                .min_kernel
                .as_ref()
                .is_some_and(|min| self.kernel >= *min);
        needed && !dropped
    }

    fn is_one_of(&self, arches: &[String]) -> bool {
        arches.iter().any(|arch| arch == self.arch)
    }
}

/// The host's architecture, as the profile's conditions name it and as the filter names it.
fn architecture(arch: &str) -> Result<(&'static str, Arch), Error> {
    Ok(match arch {
        "x86_64" => ("amd64", Arch::ScmpArchX86_64),
        "x86" => ("x86", Arch::ScmpArchX86),
        "aarch64" => ("arm64", Arch::ScmpArchAarch64),
        "arm" => ("arm", Arch::ScmpArchArm),
        "riscv64" => ("riscv64", Arch::ScmpArchRiscv64),
        "s390x" => ("s390x", Arch::ScmpArchS390x),
        // Rust uses one name for both byte orders; no current distribution is big-endian.
        "powerpc64" | "powerpc64le" => ("ppc64le", Arch::ScmpArchPpc64le),
        "loongarch64" => ("loong64", Arch::ScmpArchLoongarch64),
        _ => {
            return Err(Error::UnknownArch {
                arch: arch.to_owned(),
            });
        }
    })
}

/// The architecture and those that run on it. `None` if the profile has no entry; the runtime then uses its own
/// architecture.
fn architectures(arch: Arch) -> Option<Vec<Arch>> {
    let entry = PROFILE.arch_map.iter().find(|entry| entry.architecture == arch)?;
    Some(
        std::iter::once(arch)
            .chain(entry.sub_architectures.iter().flatten().copied())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use oci_spec::runtime::LinuxSeccompOperator;

    use super::*;
    use crate::config::CgroupVersion;

    fn filter(arch: &str, kernel: (u32, u32), caps: &[Capability]) -> LinuxSeccomp {
        let host = Host {
            arch: arch.into(),
            kernel,
            cgroup: CgroupVersion::V2,
            rootfs: "rootfs".into(),
            sensitive_paths: vec![],
            user_namespace: false,
        };
        resolve(&host, &caps.iter().copied().collect()).unwrap()
    }

    fn rules<'a>(filter: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
        filter
            .syscalls()
            .iter()
            .flatten()
            .filter(|rule| rule.names().iter().any(|n| n == name))
            .collect()
    }

    /// Whether a rule allows the call with any arguments.
    fn allows(filter: &LinuxSeccomp, name: &str) -> bool {
        let plain = |rule: &&LinuxSyscall| {
            rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().iter().flatten().count() == 0
        };
        rules(filter, name).iter().any(plain)
    }

    #[test]
    fn the_profile_has_the_size_of_dockers() {
        assert_eq!(PROFILE.syscalls.len(), 31);
        assert_eq!(PROFILE.syscalls[0].syscall.names().len(), 361);
        let names: BTreeSet<_> = PROFILE
            .syscalls
            .iter()
            .flat_map(|rule| rule.syscall.names())
            .collect();
        assert_eq!(names.len(), 426);
        assert_eq!(PROFILE.default_action, LinuxSeccompAction::ScmpActErrno);
        assert_eq!(PROFILE.default_errno_ret, 1);
    }

    #[test]
    fn dangerous_calls_are_never_allowed() {
        let all: Vec<Capability> = PROFILE
            .syscalls
            .iter()
            .flat_map(|rule| rule.includes.caps.clone())
            .collect();
        let filter = filter("x86_64", (6, 12), &all);
        for name in [
            "kexec_load",
            "io_uring_setup",
            "keyctl",
            "add_key",
            "request_key",
            "userfaultfd",
            "swapon",
        ] {
            assert!(rules(&filter, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_capability_brings_its_calls() {
        let none = filter("x86_64", (6, 12), &[]);
        for (cap, name) in [
            (Capability::SysAdmin, "mount"),
            (Capability::SysAdmin, "clone3"),
            (Capability::SysBoot, "reboot"),
            (Capability::SysChroot, "chroot"),
            (Capability::SysModule, "init_module"),
            (Capability::SysPtrace, "kcmp"),
            (Capability::SysTime, "clock_settime64"),
            (Capability::SysNice, "set_mempolicy"),
            (Capability::DacReadSearch, "open_by_handle_at"),
            (Capability::Syslog, "syslog"),
            (Capability::Bpf, "bpf"),
            (Capability::Perfmon, "perf_event_open"),
        ] {
            assert!(!allows(&none, name), "{name} without {cap:?}");
            assert!(
                allows(&filter("x86_64", (6, 12), &[cap]), name),
                "{name} with {cap:?}"
            );
        }
    }

    #[test]
    fn clone_makes_no_namespace_without_the_right() {
        let none = filter("x86_64", (6, 12), &[]);
        let [clone] = rules(&none, "clone")[..] else {
            panic!("one rule")
        };
        let arg = clone.args().as_ref().unwrap()[0];
        assert_eq!(
            (arg.index(), arg.value(), arg.op()),
            (0, 0x7e02_0000, LinuxSeccompOperator::ScmpCmpMaskedEq)
        );
        let [clone3] = rules(&none, "clone3")[..] else {
            panic!("one rule")
        };
        assert_eq!(
            (clone3.action(), clone3.errno_ret()),
            (LinuxSeccompAction::ScmpActErrno, Some(38))
        );
        let s390 = filter("s390x", (6, 12), &[]);
        assert_eq!(rules(&s390, "clone")[0].args().as_ref().unwrap()[0].index(), 1);
        assert_eq!(rules(&s390, "clone").len(), 1);
    }

    #[test]
    fn a_kernel_before_4_8_has_no_ptrace() {
        for (kernel, allowed) in [
            ((3, 19), false),
            ((4, 7), false),
            ((4, 8), true),
            ((4, 19), true),
            ((10, 0), true),
        ] {
            assert_eq!(
                allows(&filter("x86_64", kernel, &[]), "ptrace"),
                allowed,
                "{kernel:?}"
            );
        }
    }

    #[test]
    fn an_architecture_has_its_calls_and_its_relatives() {
        let x86 = filter("x86_64", (6, 12), &[]);
        assert!(allows(&x86, "arch_prctl") && !allows(&x86, "set_tls"));
        let relatives = vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
        assert_eq!(x86.architectures(), &Some(relatives));
        let arm = filter("aarch64", (6, 12), &[]);
        assert!(!allows(&arm, "arch_prctl") && allows(&arm, "set_tls"));
        assert_eq!(
            arm.architectures(),
            &Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm])
        );
        assert_eq!(
            filter("riscv64", (6, 12), &[]).architectures(),
            &Some(vec![Arch::ScmpArchRiscv64])
        );
        assert_eq!(filter("powerpc64", (6, 12), &[]).architectures(), &None);
    }

    #[test]
    fn sockets_and_personalities_depend_on_their_argument() {
        let none = filter("x86_64", (6, 12), &[]);
        let [socket] = rules(&none, "socket")[..] else {
            panic!("one rule")
        };
        let arg = socket.args().as_ref().unwrap()[0];
        assert_eq!(
            (arg.value(), arg.op()),
            (40, LinuxSeccompOperator::ScmpCmpNe),
            "AF_VSOCK"
        );
        let values = rules(&none, "personality")
            .iter()
            .map(|r| r.args().as_ref().unwrap()[0].value())
            .collect::<Vec<_>>();
        assert_eq!(values, [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff]);
    }

    #[test]
    fn an_unknown_architecture_is_refused() {
        assert!(matches!(architecture("z80"), Err(Error::UnknownArch { .. })));
    }
}
