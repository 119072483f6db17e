//! What this process may do, from its own `/proc/self/status` and `/proc/self/limits`.

use super::Check;
use super::remedies::MOUNT_PROC;

/// Capabilities without which a function's container cannot be made, by their number in capability.h.
const NEEDED: [(u32, &str); 11] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (12, "NET_ADMIN"),
    (18, "SYS_CHROOT"),
    (21, "SYS_ADMIN"),
    (27, "MKNOD"),
];

const SYS_RESOURCE: u32 = 24;

/// Each running function takes about a dozen descriptors (pipes, FIFOs, cgroup files, its process).
const PER_FUNCTION: u64 = 12;
const FEW_FILES: u64 = 4096;

/// With fewer than this, not even one function runs: fnctr itself, its calls to containerd and the function need files.
const TOO_FEW_FILES: u64 = 64;

/// The value of a line `Name:\tvalue`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn effective(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff")?, 16).ok()
}

/// Returns a row of `/proc/self/limits`: the soft and the hard limit, of which `None` is unlimited.
fn limit(limits: &str, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut columns = row.split_whitespace();
    let mut next = || Some(columns.next()?.parse().ok());
    Some((next()?, next()?))
}

fn has_sys_resource(status: &str) -> bool {
    effective(status).is_some_and(|has| has >> SYS_RESOURCE & 1 == 1)
}

/// The effective user id.
fn user(status: &str) -> Option<&str> {
    // Real, effective, saved and file-system user id.
    field(status, "Uid")?.split_whitespace().nth(1)
}

/// Reports that `/proc` is missing, which all other checks here read.
pub(super) fn no_proc() -> Check {
    let found = "it is not mounted, so nothing can be checked, and no function can run";
    Check::bad("/proc", found, MOUNT_PROC)
}

/// Whether this process runs as root.
pub(super) fn root(status: &str) -> Check {
    const NAME: &str = "root";
    match user(status) {
        Some("0") => Check::ok(NAME, "this process is"),
        Some(uid) => Check::bad(
            NAME,
            format!("this process has user id {uid}"),
            "sudo fnctr doctor",
        ),
        None => Check::warn(NAME, "/proc/self/status does not show it", MOUNT_PROC),
    }
}

/// Whether this process has the capabilities that containers need.
pub(super) fn capabilities(status: &str) -> Check {
    const NAME: &str = "capabilities";
    let Some(has) = effective(status) else {
        return Check::warn(NAME, "/proc/self/status does not show it", MOUNT_PROC);
    };
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(number, _)| has >> number & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return Check::ok(NAME, "all that containers need");
    }
    let mend = match user(status) {
        Some("0") => {
            "start it with them: docker run --privileged, or no CapabilityBoundingSet= in the systemd unit"
        }
        _ => "sudo fnctr doctor",
    };
    Check::bad(NAME, format!("this process lacks {}", missing.join(", ")), mend)
}

/// Whether a function may get higher limits than the process that starts it: a running containerd (`is_server`), or
/// this process.
pub(super) fn rlimits(status: &str, limits: &str, is_server: bool) -> Check {
    const NAME: &str = "rlimits";
    if effective(status).is_none() || limits.is_empty() {
        return Check::warn(NAME, "/proc does not show them", MOUNT_PROC);
    }
    if has_sys_resource(status) {
        return Check::ok(NAME, "SYS_RESOURCE is there, so a function may have any");
    }
    let ceiling = |name| match limit(limits, name) {
        Some((_, Some(hard))) => hard.to_string(),
        Some((_, None)) => "unlimited".to_owned(),
        None => "unknown".to_owned(),
    };
    let found = format!(
        "{} no SYS_RESOURCE: a function may have at most {} open files, {} bytes of locked memory, {} pending signals \
         and {} bytes of message queues",
        if is_server {
            "containerd has"
        } else {
            "this process has"
        },
        ceiling("Max open files"),
        ceiling("Max locked memory"),
        ceiling("Max pending signals"),
        ceiling("Max msgqueue size"),
    );
    let mend = if user(status) != Some("0") {
        "sudo fnctr doctor"
    } else if is_server {
        "systemctl edit containerd: under [Service] LimitNOFILE=, LimitMEMLOCK=, LimitSIGPENDING=, LimitMSGQUEUE=; then \
         systemctl restart containerd"
    } else {
        "if that is too little, start it with more: docker run --cap-add SYS_RESOURCE, or LimitNOFILE= and the like in \
         the systemd unit"
    };
    Check::warn(NAME, found, mend)
}

/// Whether this process may open enough files for many functions.
pub(super) fn open_files(status: &str, limits: &str) -> Check {
    const NAME: &str = "open files";
    let (soft, hard) = match limit(limits, "Max open files") {
        Some((None, _)) => return Check::ok(NAME, "unlimited"),
        Some((Some(soft), _)) if soft >= FEW_FILES => {
            return Check::ok(NAME, format!("{soft} for this process"));
        }
        Some((Some(soft), hard)) => (soft, hard),
        None => return Check::warn(NAME, "/proc/self/limits does not show them", MOUNT_PROC),
    };
    let mend = match hard {
        None => "ulimit -n 65536".to_owned(),
        Some(hard) if hard >= FEW_FILES => format!("ulimit -n {hard}"),
        // A process with SYS_RESOURCE may raise the hard limit too.
        Some(_) if has_sys_resource(status) => "ulimit -n 65536".to_owned(),
        Some(_) => {
            "start it with more: docker run --ulimit nofile=65536, or LimitNOFILE=65536 in the systemd unit"
                .to_owned()
        }
    };
    if soft < TOO_FEW_FILES {
        let found = format!("{soft} for this process, too few for one function");
        return Check::bad(NAME, found, mend);
    }
    let found = format!(
        "{soft} for this process, enough for about {} functions at once",
        soft.saturating_sub(TOO_FEW_FILES) / PER_FUNCTION + 1
    );
    Check::warn(NAME, found, mend)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const LIMITS: &str = include_str!("../../fixtures/doctor/limits");

    fn status(uid: u32, capabilities: u64) -> String {
        format!("Name:\tfnctr\nUid:\t1000\t{uid}\t0\t0\nCapPrm:\t0\nCapEff:\t{capabilities:016x}\n")
    }

    #[test]
    fn it_is_the_effective_user_that_counts() {
        assert_eq!(root(&status(0, 0)).status, Status::Ok);
        let check = root(&status(1000, 0));
        assert_eq!(check.status, Status::Bad);
        assert!(check.found.ends_with("1000"), "{check}");
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(capabilities(&status(0, 0x1ff_feff_ffff)).status, Status::Ok);
        // Docker's default 14, which many containers have that are to start other containers.
        let check = capabilities(&status(0, 0xa804_25fb));
        assert_eq!(check.status, Status::Bad);
        assert_eq!(check.found, "this process lacks NET_ADMIN, SYS_ADMIN");
        let as_user = capabilities(&status(1000, 0));
        assert_eq!(as_user.mend.as_deref(), Some("sudo fnctr doctor"));
    }

    #[test]
    fn without_the_power_to_raise_them_the_ceilings_are_reported() {
        assert_eq!(rlimits(&status(0, u64::MAX), LIMITS, true).status, Status::Ok);
        let without = status(0, !(1 << SYS_RESOURCE));
        let check = rlimits(&without, LIMITS, true);
        assert_eq!(check.status, Status::Warn);
        assert!(
            check
                .found
                .contains("20000 open files, 8388608 bytes of locked memory"),
            "{check}"
        );
        assert!(check.mend.unwrap().starts_with("systemctl edit containerd"));
        let check = rlimits(&without, LIMITS, false);
        assert!(!check.mend.unwrap().contains("systemctl"), "none runs yet");
    }

    #[test]
    fn open_files_have_the_remedy_of_who_may_raise_them_and_too_few_are_bad() {
        let (weak, strong) = (status(0, 0), status(0, u64::MAX));
        let check = |status: &str, soft: &str, hard: &str| {
            let row = format!("Max open files            {soft}                 {hard}              files\n");
            open_files(status, &row)
        };
        assert_eq!(open_files(&weak, LIMITS).status, Status::Ok);
        assert_eq!(check(&weak, "unlimited", "unlimited").status, Status::Ok);
        let few = check(&weak, "1024", "524288");
        assert_eq!(
            (few.status, few.mend.as_deref()),
            (Status::Warn, Some("ulimit -n 524288"))
        );
        for (soft, expected) in [("64", Status::Warn), ("63", Status::Bad), ("20", Status::Bad)] {
            assert_eq!(check(&weak, soft, soft).status, expected, "{soft}");
        }
        assert_eq!(
            check(&strong, "20", "20").mend.as_deref(),
            Some("ulimit -n 65536")
        );
        assert!(
            check(&weak, "20", "20")
                .mend
                .unwrap()
                .contains("LimitNOFILE=65536")
        );
    }
}
