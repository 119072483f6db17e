//! The programs that functions need: containerd, its shim and an init. The OCI runtime has its own file.

use std::path::{Path, PathBuf};

use super::Check;
use crate::init::InitMissing;

/// The oldest containerd that is supported.
const OLDEST: (u32, u32) = (1, 6);

/// Where a program is, for the process that looks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On the search path.
    OnPath(PathBuf),
    /// On this host, but not on the search path.
    OffPath(PathBuf),
    /// Not found.
    Missing,
    /// Unknown: this process cannot see the search path of the other process.
    OutOfSight,
}

/// A program, and the version that it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) at: Place,
    /// The first line that it prints with `--version`, if it succeeds.
    pub(super) says: Option<String>,
}

impl Program {
    pub(super) fn is_installed(&self) -> bool {
        matches!(self.at, Place::OnPath(_) | Place::OffPath(_))
    }

    /// The version line, if the program is on the search path and runs.
    pub(super) fn version(&self) -> Option<&str> {
        match self.at {
            Place::OnPath(_) => self.says.as_deref(),
            _ => None,
        }
    }
}

/// Returns the command that lets a containerd find a program: one that this shell starts, or one that runs already.
pub(super) fn put_on_path(program: &Path, running: bool) -> String {
    let dir = program.parent().unwrap_or(program).display();
    if running {
        format!("ln -s {} /usr/local/sbin/", program.display())
    } else {
        format!("export PATH=\"${{PATH:+$PATH:}}{dir}\"")
    }
}

/// Returns the first two numbers of the first word that looks like a version: `v1.7.24` is 1.7.
pub(super) fn version(line: &str) -> Option<(u32, u32)> {
    line.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        let major = parts.next()?.parse().ok()?;
        let minor: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
        Some((major, minor.parse().ok()?))
    })
}

/// Returns the first word of a version line that looks like a version, without a leading `v`.
pub(super) fn short(line: &str) -> &str {
    let word = line.split_whitespace().find(|word| version(word).is_some());
    word.unwrap_or(line).trim_start_matches('v')
}

/// Checks the installed containerd. If a containerd `serves` already, none needs to be installed where this process
/// looks.
pub(super) fn containerd(program: &Program, serves: bool) -> Check {
    const NAME: &str = "containerd";
    const INSTALL: &str = "apt-get install -y containerd";
    const AGAIN: &str = "apt-get install -y --reinstall containerd";
    let line = match (&program.at, &program.says) {
        (Place::OnPath(_), Some(line)) => line,
        _ if serves => return Check::ok(NAME, "one serves already, so none needs to be installed"),
        (Place::OnPath(at), None) => {
            let found = format!("{} cannot be executed", at.display());
            return Check::bad(NAME, found, AGAIN);
        }
        (Place::OffPath(at), _) => {
            let found = format!("{} is not on PATH", at.display());
            return Check::bad(NAME, found, put_on_path(at, false));
        }
        _ => return Check::bad(NAME, "it is not installed", INSTALL),
    };
    let brief = short(line);
    match version(line) {
        Some(version) if version >= OLDEST => Check::ok(NAME, format!("{brief} is installed")),
        Some(_) => {
            let found = format!("{brief} is too old: 1.6 or newer is required");
            Check::bad(NAME, found, INSTALL)
        }
        None => Check::warn(NAME, format!("its version {line:?} is unknown"), AGAIN),
    }
}

/// Checks the shim, which containerd starts for each function. `running` is whether a containerd that runs already
/// looks for it.
pub(super) fn shim(place: &Place, containerd_is_installed: bool, running: bool) -> Check {
    const NAME: &str = "shim";
    match place {
        Place::OnPath(at) => Check::ok(NAME, at.display().to_string()),
        Place::OutOfSight => Check::ok(
            NAME,
            "not looked for: containerd's own path cannot be seen from here",
        ),
        Place::OffPath(at) => Check::bad(
            NAME,
            format!("{} is not on containerd's PATH", at.display()),
            put_on_path(at, running),
        ),
        Place::Missing => Check::bad(
            NAME,
            "containerd-shim-runc-v2 is not installed",
            // Without --reinstall, an installed package stays as it is.
            if containerd_is_installed {
                "apt-get install -y --reinstall containerd"
            } else {
                "apt-get install -y containerd"
            },
        ),
    }
}

/// The address of a containerd, and the source of that address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) address: &'a Path,
    /// Whether `CONTAINERD_ADDRESS` names it, and not the command line.
    pub(super) by_environment: bool,
}

/// The state of the socket at the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Answers,
    Silent,
    Forbidden,
    Missing,
}

/// Checks the socket of the containerd that will be used.
pub(super) fn socket(named: Named<'_>, socket: Socket) -> Check {
    const NAME: &str = "socket";
    let at = named.address.display();
    let mend = if named.by_environment {
        "unset CONTAINERD_ADDRESS"
    } else {
        "leave --address out: fnctr then uses the system's containerd, or starts its own"
    };
    match socket {
        Socket::Answers => Check::ok(NAME, format!("a server answers on {at}")),
        Socket::Silent => Check::bad(NAME, format!("no process answers on {at}"), mend),
        Socket::Missing => Check::bad(NAME, format!("{at} does not exist"), mend),
        Socket::Forbidden => Check::bad(NAME, format!("this user may not use {at}"), "sudo fnctr doctor"),
    }
}

/// Checks the init for containers. `configured` is whether the configuration names one.
pub(super) fn init(found: Result<PathBuf, InitMissing>, configured: bool) -> Check {
    const NAME: &str = "init";
    let install = if configured {
        "apt-get install -y tini, and leave --init-path out"
    } else {
        "apt-get install -y tini"
    };
    match found {
        Ok(path) => Check::ok(NAME, format!("{}, statically linked", path.display())),
        Err(InitMissing::NotFound) => Check::bad(NAME, "there is none for PID 1 of functions", install),
        Err(InitMissing::Dynamic { path }) => Check::bad(
            NAME,
            format!("{} needs libraries that images may not have", path.display()),
            install,
        ),
        Err(InitMissing::Unusable { path, cause }) => Check::bad(
            NAME,
            format!("the configured {} cannot be used: {cause}", path.display()),
            install,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn the_versions_that_packages_print_are_read() {
        for (line, expected, brief) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
                (1, 6),
                "1.6.20~ds1",
            ),
            (
                "containerd containerd.io 1.7.24 88bf19b2105c8b17560993bee28a01ddc2f97182",
                (1, 7),
                "1.7.24",
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.1.9 x",
                (2, 1),
                "2.1.9",
            ),
            ("runc version 1.1.5+ds1", (1, 1), "1.1.5+ds1"),
            ("crun version 1.8.1", (1, 8), "1.8.1"),
        ] {
            assert_eq!(version(line), Some(expected), "{line}");
            assert_eq!(short(line), brief);
        }
    }

    fn program(at: Place, says: Option<&str>) -> Program {
        Program {
            at,
            says: says.map(str::to_owned),
        }
    }

    fn mended(check: Check) -> (Status, String) {
        (check.status, check.mend.unwrap_or_default())
    }

    #[test]
    fn a_containerd_that_does_not_do_is_bad_and_mended_by_what_is_wrong_with_it() {
        let at = || Place::OnPath("/usr/bin/containerd".into());
        let off = || Place::OffPath("/usr/bin/containerd".into());
        for (program, mend) in [
            (program(Place::Missing, None), "apt-get install -y containerd"),
            (
                program(
                    at(),
                    Some("containerd github.com/containerd/containerd 1.4.13~ds1"),
                ),
                "apt-get install -y containerd",
            ),
            (program(at(), None), "apt-get install -y --reinstall containerd"),
            (
                program(off(), Some("containerd x v2.1.9")),
                r#"export PATH="${PATH:+$PATH:}/usr/bin""#,
            ),
        ] {
            assert_eq!(
                mended(containerd(&program, false)),
                (Status::Bad, mend.to_owned())
            );
        }
        let new = program(at(), Some("containerd x v2.1.9"));
        assert_eq!(containerd(&new, false).status, Status::Ok);
        let absent = program(Place::Missing, None);
        assert_eq!(containerd(&absent, true).status, Status::Ok, "one serves");
    }

    #[test]
    fn a_missing_shim_is_bad_and_its_package_is_installed_again() {
        let missing = |installed| mended(shim(&Place::Missing, installed, false));
        let (status, mend) = missing(true);
        assert_eq!(status, Status::Bad);
        assert_eq!(mend, "apt-get install -y --reinstall containerd");
        assert_eq!(missing(false).1, "apt-get install -y containerd");
        let off = Place::OffPath("/opt/c/containerd-shim-runc-v2".into());
        assert!(mended(shim(&off, true, false)).1.starts_with("export PATH="));
        assert_eq!(
            mended(shim(&off, true, true)).1,
            "ln -s /opt/c/containerd-shim-runc-v2 /usr/local/sbin/"
        );
    }

    #[test]
    fn an_address_that_points_nowhere_is_mended_where_it_was_given() {
        let named = |by_environment| Named {
            address: Path::new("/run/c.sock"),
            by_environment,
        };
        assert_eq!(socket(named(true), Socket::Answers).status, Status::Ok);
        assert_eq!(
            socket(named(true), Socket::Silent).found,
            "no process answers on /run/c.sock"
        );
        let check = socket(named(true), Socket::Missing);
        assert_eq!(check.found, "/run/c.sock does not exist");
        assert_eq!(
            mended(check),
            (Status::Bad, "unset CONTAINERD_ADDRESS".to_owned())
        );
        assert!(
            mended(socket(named(false), Socket::Missing))
                .1
                .contains("--address")
        );
        assert!(
            mended(socket(named(true), Socket::Forbidden))
                .1
                .starts_with("sudo")
        );
    }

    #[test]
    fn a_missing_init_is_mended_by_its_package_and_a_wrong_one_by_not_naming_it() {
        assert_eq!(
            mended(init(Err(InitMissing::NotFound), false)),
            (Status::Bad, "apt-get install -y tini".to_owned())
        );
        let path = PathBuf::from("/opt/init");
        let (_, mend) = mended(init(Err(InitMissing::Dynamic { path }), true));
        assert!(mend.ends_with("leave --init-path out"), "{mend}");
    }
}
