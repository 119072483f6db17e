//! The notation of Docker's options that both the command line and the API read: limits, tmpfs, signals. An error is the
//! whole sentence about the option's value.

use fnctr_oci::{Mount, Rlimit, RlimitKind, TmpfsAccess};

use crate::ByteSize;

/// Docker's names for limits.
const ULIMITS: [(&str, RlimitKind); 16] = [
    ("as", RlimitKind::AddressSpace),
    ("core", RlimitKind::CoreSize),
    ("cpu", RlimitKind::CpuTime),
    ("data", RlimitKind::DataSize),
    ("fsize", RlimitKind::FileSize),
    ("locks", RlimitKind::FileLocks),
    ("memlock", RlimitKind::LockedMemory),
    ("msgqueue", RlimitKind::MessageQueue),
    ("nice", RlimitKind::Nice),
    ("nofile", RlimitKind::OpenFiles),
    ("nproc", RlimitKind::Processes),
    ("rss", RlimitKind::ResidentSet),
    ("rtprio", RlimitKind::RealtimePriority),
    ("rttime", RlimitKind::RealtimeTime),
    ("sigpending", RlimitKind::PendingSignals),
    ("stack", RlimitKind::Stack),
];

/// Parses `NAME=SOFT[:HARD]`.
pub(crate) fn ulimit(text: &str) -> Result<Rlimit, String> {
    let bad = || format!("{text:?} is not a limit, such as nofile=1024 or nofile=1024:2048");
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let known = ULIMITS.iter().find(|(known, _)| *known == name);
    let Some((_, kind)) = known else {
        let names = ULIMITS.map(|(name, _)| name).join(", ");
        return Err(format!("{name:?} is not a limit; there are {names}"));
    };
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        number => number.parse().map_err(|_| bad()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Ok(Rlimit {
        kind: *kind,
        soft: value(soft)?,
        hard: value(hard)?,
    })
}

/// Parses `PATH[:OPTION,...]`.
pub(crate) fn tmpfs(text: &str) -> Result<Mount, String> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err(format!("{path:?} is not an absolute path in the container"));
    }
    let (mut size, mut inodes, mut access) = (None, None, TmpfsAccess::default());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let bad = || format!("the option {option:?} of the tmpfs at {path} cannot be read");
        let number = |text: &str| text.parse().map_err(|_| bad());
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => size = Some(value.parse::<ByteSize>().map_err(|_| bad())?.0),
            ("nr_inodes", value) => inodes = Some(value.parse::<u64>().map_err(|_| bad())?),
            ("mode", value) => access.mode = u32::from_str_radix(value, 8).map_err(|_| bad())?,
            ("uid", value) => access.uid = Some(number(value)?),
            ("gid", value) => access.gid = Some(number(value)?),
            ("ro", "") => access.readonly = true,
            ("rw", "") => access.readonly = false,
            ("exec", "") => access.exec = true,
            ("noexec", "") => access.exec = false,
            // These are always set.
            ("nosuid" | "nodev", "") => {}
            _ => {
                return Err(format!(
                    "the option {option:?} of the tmpfs at {path} is not supported; there are size, nr_inodes, mode, uid, \
                     gid, ro, rw, exec, noexec, nosuid and nodev"
                ));
            }
        }
    }
    Ok(Mount::Tmpfs {
        destination: path.into(),
        size,
        inodes,
        access,
    })
}

/// Parses a signal such as `TERM`, `SIGTERM`, `term` or `15`.
pub(crate) fn signal(text: &str) -> Result<u32, String> {
    use nix::sys::signal::Signal;

    let unknown = || format!("{text:?} is not a signal, such as TERM or 15");
    if let Ok(number) = text.parse::<u32>() {
        // Accept numbers without a name too: real-time signals have only numbers.
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    let signal: Signal = name.parse().map_err(|_| unknown())?;
    u32::try_from(signal as i32).map_err(|_| unknown())
}
