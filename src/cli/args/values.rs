//! Parses the values of options as users write them. Pure, except that relative paths depend on the working directory.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::detach_keys::DetachKeys;
pub(in crate::cli) use crate::docker_syntax::{signal, tmpfs, ulimit};
use crate::engine::{Platform, RestartPolicy};
use crate::{ByteSize, ContainerName};

/// Parses `10s`, `1500ms`, `2m` or `1h`. A bare number is in seconds.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time, such as 10s or 500ms");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let ms = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    ms.map(Duration::from_millis).ok_or_else(bad)
}

/// A moment: a duration before now, seconds since 1970 with or without a fraction, or RFC 3339 in UTC.
pub(in crate::cli) fn time(text: &str) -> Result<SystemTime, String> {
    let bad = || {
        format!(
            "{text:?} is not a time, such as 10m (ago), 1767225600 (seconds since 1970) or 2026-01-01T00:00:00Z"
        )
    };
    if let Ok(seconds) = text.parse::<f64>() {
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
        return UNIX_EPOCH.checked_add(since).ok_or_else(bad);
    }
    if let Ok(ago) = duration(text) {
        return clock::now().checked_sub(ago).ok_or_else(bad);
    }
    let stamp = text.parse::<prost_types::Timestamp>().map_err(|_| bad())?;
    SystemTime::try_from(stamp).map_err(|_| bad())
}

/// Parses a memory limit. A bare number is in bytes; a small one is refused, because megabytes were probably meant.
pub(in crate::cli) fn memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    match text.bytes().all(|b| b.is_ascii_digit()) && (1..1 << 16).contains(&size.0) {
        true => Err(format!("{text} is {text} bytes; write {text}m for megabytes")),
        false => Ok(size),
    }
}

/// Parses `SOURCE:DEST`, and makes the source absolute.
pub(in crate::cli) fn pair(text: &str) -> Result<(PathBuf, String), String> {
    let bad = || format!("{text:?} must be SOURCE:DEST, with DEST an absolute path in the container");
    let (source, dest) = text.rsplit_once(':').ok_or_else(bad)?;
    if source.is_empty() || !dest.starts_with('/') {
        return Err(bad());
    }
    let source = std::path::absolute(source).map_err(|error| format!("{text:?}: {error}"))?;
    Ok((source, dest.to_owned()))
}

/// Parses `NAME:IP` or `NAME=IP`. An IPv6 address may be in brackets.
pub(in crate::cli) fn added_host(text: &str) -> Result<(String, IpAddr), String> {
    let bad = || format!("{text:?} is not a name and its address, such as db:10.0.0.5");
    let (name, address) = text.split_once(['=', ':']).ok_or_else(bad)?;
    if address == "host-gateway" {
        return Err("host-gateway is not supported: give the address".to_owned());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(address).parse().map_err(|_| bad())?;
    match name.is_empty() {
        true => Err(bad()),
        false => Ok((name.to_owned(), address)),
    }
}

/// A name that a container can have.
pub(in crate::cli) fn container_name(text: &str) -> Result<ContainerName, String> {
    ContainerName::new(text).map_err(|error| error.to_string())
}

/// A restart policy, as docker writes it.
pub(in crate::cli) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text
        .split_once(':')
        .map_or((text, None), |(name, count)| (name, Some(count)));
    match (name, count) {
        ("no", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Ok(RestartPolicy::OnFailure { most: None }),
        ("on-failure", Some(count)) => match count.parse() {
            Ok(most) => Ok(RestartPolicy::OnFailure {
                most: Some(most).filter(|most| *most > 0),
            }),
            Err(_) => Err(format!("{count:?} is no number of restarts")),
        },
        _ => Err(format!(
            "{text:?} is none of no, always, unless-stopped, on-failure and on-failure:N"
        )),
    }
}

/// Keys such as `ctrl-p,ctrl-q`.
pub(in crate::cli) fn detach_keys(text: &str) -> Result<DetachKeys, String> {
    DetachKeys::parse(text).ok_or_else(|| {
        "keys are single characters or ctrl- and one of a-z @ [ \\ ] ^ _, with commas between them: ctrl-p,ctrl-q".to_owned()
    })
}

/// Parses `NAME=VALUE`.
pub(in crate::cli) fn named(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))
}

/// Parses `NAME[=VALUE]`.
pub(in crate::cli) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(format!("{text:?} has no name"));
    }
    if name.starts_with(crate::engine::label::OWN) {
        return Err(format!(
            "{name:?} is a name that only fnctr gives: {}* are its own labels",
            crate::engine::label::OWN
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses a platform such as `linux/arm/v7`.
pub(in crate::cli) fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use fnctr_oci::{Mount, Rlimit, RlimitKind, TmpfsAccess};

    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "1d", "-1s", "99999999999999999h", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_source_may_hold_colons_and_a_destination_must_be_absolute() {
        assert_eq!(pair("/a:b:/c").unwrap(), ("/a:b".into(), "/c".to_owned()));
        for bad in ["/a", ":/a", "/a:b", ""] {
            assert!(pair(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_have_the_names_of_docker() {
        let limit = |kind, soft, hard| Ok(Rlimit { kind, soft, hard });
        assert_eq!(ulimit("nofile=10:20"), limit(RlimitKind::OpenFiles, 10, 20));
        assert_eq!(ulimit("core=0"), limit(RlimitKind::CoreSize, 0, 0));
        let unlimited = limit(RlimitKind::LockedMemory, u64::MAX, u64::MAX);
        assert_eq!(ulimit("memlock=-1:unlimited"), unlimited);
        for bad in ["nofile", "nofile=", "nofile=a", "nofile=1:", "files=1", "=1", ""] {
            assert!(ulimit(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tmpfs_has_the_options_of_docker() {
        let mount = |size, inodes, access| {
            Ok(Mount::Tmpfs {
                destination: "/run".into(),
                size,
                inodes,
                access,
            })
        };
        assert_eq!(tmpfs("/run"), mount(None, None, TmpfsAccess::default()));
        let access = TmpfsAccess {
            mode: 0o750,
            uid: Some(1),
            gid: Some(2),
            exec: true,
            readonly: true,
        };
        let all = tmpfs("/run:rw,ro,nosuid,nodev,exec,size=65536k,nr_inodes=10,mode=0750,uid=1,gid=2");
        assert_eq!(all, mount(Some(64 << 20), Some(10), access));
        for bad in [
            "",
            "run",
            "/run:suid",
            "/run:size=50%",
            "/run:mode=9",
            "/run:ro=1",
            "/run:uid=-1",
        ] {
            assert!(tmpfs(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_has_a_name_and_an_address() {
        let host = |text: &str| added_host(text).map(|(name, address)| format!("{name} {address}"));
        assert_eq!(host("db:10.0.0.5").unwrap(), "db 10.0.0.5");
        assert_eq!(host("db=10.0.0.5").unwrap(), "db 10.0.0.5");
        assert_eq!(host("db:fd00::1").unwrap(), "db fd00::1");
        assert_eq!(host("db:[fd00::1]").unwrap(), "db fd00::1");
        for bad in ["db", "db:", ":10.0.0.5", "db:10.0.0", "db:host-gateway"] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_label_of_the_engine_is_refused() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a"), Ok(("a".to_owned(), String::new())));
        assert!(label("=b").is_err() && label("io.fnctr.engine=1").is_err());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(signal(text), Ok(15), "{text}");
        }
        for bad in ["", "0", "-9", "999", "SIGNOPE", "TERM "] {
            assert!(signal(bad).is_err(), "{bad:?}");
        }
    }
}
