//! Checks that this host allows the limits of setrlimit(2) that a plan asks for.

use fnctr_oci::{Rlimit, RlimitKind};

use crate::cgroup::{Ceilings, Rlimit as Of};

/// A limit above that of containerd, which starts the container and may not raise its own limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} of {wanted} is above this host's ceiling of {ceiling}; raise the limit of containerd's service, or ask for less"
)]
pub(super) struct AboveCeiling {
    limit: RlimitKind,
    wanted: u64,
    ceiling: u64,
}

/// Compares each hard limit with the ceiling of the process that starts the container.
pub(super) fn check(ceilings: &Ceilings, wanted: &[Rlimit]) -> Result<(), AboveCeiling> {
    for rlimit in wanted {
        if let Some(ceiling) = ceilings.ceiling(of(rlimit.kind))
            && rlimit.hard > ceiling
        {
            return Err(AboveCeiling {
                limit: rlimit.kind,
                wanted: rlimit.hard,
                ceiling,
            });
        }
    }
    Ok(())
}

fn of(kind: RlimitKind) -> Of {
    match kind {
        RlimitKind::AddressSpace => Of::As,
        RlimitKind::CoreSize => Of::Core,
        RlimitKind::CpuTime => Of::Cpu,
        RlimitKind::DataSize => Of::Data,
        RlimitKind::FileSize => Of::Fsize,
        RlimitKind::FileLocks => Of::Locks,
        RlimitKind::Nice => Of::Nice,
        RlimitKind::Processes => Of::Nproc,
        RlimitKind::ResidentSet => Of::Rss,
        RlimitKind::RealtimePriority => Of::Rtprio,
        RlimitKind::RealtimeTime => Of::Rttime,
        RlimitKind::Stack => Of::Stack,
        RlimitKind::OpenFiles => Of::Nofile,
        RlimitKind::LockedMemory => Of::Memlock,
        RlimitKind::PendingSignals => Of::Sigpending,
        RlimitKind::MessageQueue => Of::Msgqueue,
    }
}
