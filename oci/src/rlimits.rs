//! Limits of `setrlimit(2)`. The runtime checks whether the host has a lower ceiling.

use std::fmt;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::config::{Rlimit, RlimitKind};
use crate::error::Error;

/// `RLIM_INFINITY`.
const UNLIMITED: u64 = u64::MAX;

/// The runtime starts the process under this limit, while it has ten files of its own open (runc 1.1 with a seccomp
/// filter).
const OPEN_FILES_MIN: u64 = 11;

/// The limits in the requested order; `None` if there are none.
pub(crate) fn rlimits(wanted: &[Rlimit]) -> Result<Option<Vec<PosixRlimit>>, Error> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for limit in wanted {
        let kind = limit.kind;
        check(kind, limit.soft)?;
        check(kind, limit.hard)?;
        if limit.soft > limit.hard {
            return Err(Error::RlimitOrder {
                kind,
                soft: limit.soft,
                hard: limit.hard,
            });
        }
        if limits.iter().any(|earlier| earlier.typ() == typ(kind)) {
            return Err(Error::DuplicateRlimit { kind });
        }
        limits.push(posix(limit));
    }
    Ok((!limits.is_empty()).then_some(limits))
}

#[expect(
    clippy::expect_used,
    reason = "every field has a default, so there is nothing to miss"
)]
fn posix(limit: &Rlimit) -> PosixRlimit {
    PosixRlimitBuilder::default()
        .typ(typ(limit.kind))
        .soft(limit.soft)
        .hard(limit.hard)
        .build()
        .expect("an rlimit has no required field")
}

fn check(kind: RlimitKind, value: u64) -> Result<(), Error> {
    let why = match (kind, value) {
        // The kernel compares the value with the sysctl fs.nr_open, which is always finite.
        (RlimitKind::OpenFiles, UNLIMITED) => "the number of open files cannot be unlimited",
        (RlimitKind::OpenFiles, ..OPEN_FILES_MIN) => {
            "the OCI runtime needs ten open files to start the process, so 11 is the least"
        }
        (_, UNLIMITED) => return Ok(()),
        (_, value) if i64::try_from(value).is_err() => "it is above 9223372036854775807",
        _ => return Ok(()),
    };
    Err(Error::RlimitValue { kind, value, why })
}

fn typ(kind: RlimitKind) -> PosixRlimitType {
    match kind {
        RlimitKind::AddressSpace => PosixRlimitType::RlimitAs,
        RlimitKind::CoreSize => PosixRlimitType::RlimitCore,
        RlimitKind::CpuTime => PosixRlimitType::RlimitCpu,
        RlimitKind::DataSize => PosixRlimitType::RlimitData,
        RlimitKind::FileSize => PosixRlimitType::RlimitFsize,
        RlimitKind::FileLocks => PosixRlimitType::RlimitLocks,
        RlimitKind::Nice => PosixRlimitType::RlimitNice,
        RlimitKind::Processes => PosixRlimitType::RlimitNproc,
        RlimitKind::ResidentSet => PosixRlimitType::RlimitRss,
        RlimitKind::RealtimePriority => PosixRlimitType::RlimitRtprio,
        RlimitKind::RealtimeTime => PosixRlimitType::RlimitRttime,
        RlimitKind::Stack => PosixRlimitType::RlimitStack,
        RlimitKind::OpenFiles => PosixRlimitType::RlimitNofile,
        RlimitKind::LockedMemory => PosixRlimitType::RlimitMemlock,
        RlimitKind::PendingSignals => PosixRlimitType::RlimitSigpending,
        RlimitKind::MessageQueue => PosixRlimitType::RlimitMsgqueue,
    }
}

impl fmt::Display for RlimitKind {
    /// The manual's name: `RLIMIT_NOFILE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        typ(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: RlimitKind, soft: u64, hard: u64) -> Result<Option<Vec<PosixRlimit>>, Error> {
        rlimits(&[Rlimit { kind, soft, hard }])
    }

    #[test]
    fn a_limit_keeps_its_values() {
        let limits = one(RlimitKind::PendingSignals, 10, 20).unwrap().unwrap();
        assert_eq!(
            serde_json::to_value(limits).unwrap(),
            serde_json::json!([{ "type": "RLIMIT_SIGPENDING", "soft": 10, "hard": 20 }])
        );
        assert_eq!(rlimits(&[]), Ok(None));
        assert!(one(RlimitKind::LockedMemory, UNLIMITED, UNLIMITED).is_ok());
        assert!(one(RlimitKind::OpenFiles, 11, i64::MAX.unsigned_abs()).is_ok());
        assert!(one(RlimitKind::PendingSignals, 0, 0).is_ok());
        assert!(one(RlimitKind::CoreSize, 0, UNLIMITED).is_ok());
        assert_eq!(RlimitKind::Processes.to_string(), "RLIMIT_NPROC");
    }

    #[test]
    fn an_impossible_limit_is_refused_by_name() {
        let above = i64::MAX.unsigned_abs() + 1;
        let why = one(RlimitKind::MessageQueue, 1, above).unwrap_err().to_string();
        assert!(
            why.contains("RLIMIT_MSGQUEUE") && why.contains(&above.to_string()),
            "{why}"
        );
        assert!(one(RlimitKind::OpenFiles, 1, UNLIMITED).is_err());
        assert_eq!(
            one(RlimitKind::OpenFiles, 22, 21),
            Err(Error::RlimitOrder {
                kind: RlimitKind::OpenFiles,
                soft: 22,
                hard: 21
            })
        );
        let twice = Rlimit {
            kind: RlimitKind::OpenFiles,
            soft: 100,
            hard: 100,
        };
        for few in [0, 1, 10] {
            let why = one(RlimitKind::OpenFiles, few, 100).unwrap_err().to_string();
            assert!(
                why.contains("RLIMIT_NOFILE") && why.contains("11 is the least"),
                "{why}"
            );
        }
        assert_eq!(
            rlimits(&[twice.clone(), twice]),
            Err(Error::DuplicateRlimit {
                kind: RlimitKind::OpenFiles
            })
        );
    }
}
