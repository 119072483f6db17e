//! The OCI runtime: the chosen one, or runc.

use std::path::Path;

use super::Check;
use super::programs::{Place, Program, put_on_path, short};

const NAME: &str = "runtime";
const INSTALL_RUNC: &str = "apt-get install -y runc";
const DEFAULT: &str = "leave --runtime out: fnctr then uses runc";

/// What was found of each runtime.
#[derive(Debug)]
pub(super) struct Runtimes {
    pub(super) runc: Program,
    pub(super) crun: Program,
    /// The runtime that the configuration names, if any.
    pub(super) chosen: Option<Program>,
}

/// Whether the runtime that will be used is installed and runs here: the `chosen` one, or runc. `running` is whether a
/// containerd that runs already looks for it.
pub(super) fn check(chosen: Option<&str>, found: &Runtimes, hybrid: bool, running: bool) -> Check {
    match (chosen, &found.chosen) {
        (Some(name), Some(program)) => named(name, program, hybrid, running),
        _ => default(&found.runc, &found.crun, hybrid, running),
    }
}

fn default(runc: &Program, crun: &Program, hybrid: bool, running: bool) -> Check {
    if runc.at == Place::OutOfSight {
        return Check::ok(
            NAME,
            "not looked for: containerd's own path cannot be seen from here",
        );
    }
    match (runc.version(), crun.version()) {
        (Some(runc), None) => Check::ok(NAME, format!("runc {}", short(runc))),
        (Some(runc), Some(crun)) => Check::ok(NAME, format!("runc {}, crun {}", short(runc), short(crun))),
        (None, _) if runc.is_installed() => broken("runc", runc, running),
        // crun 1.8 and later say "cgroups in hybrid mode not supported".
        (None, Some(crun)) if hybrid => {
            let found = format!(
                "only crun {}, which refuses hosts with hybrid cgroups",
                short(crun)
            );
            Check::bad(NAME, found, INSTALL_RUNC)
        }
        (None, Some(crun)) => {
            let found = format!("only crun {}, which must be chosen: --runtime crun", short(crun));
            Check::bad(NAME, found, INSTALL_RUNC)
        }
        (None, None) => Check::bad(NAME, "neither runc nor crun is installed", INSTALL_RUNC),
    }
}

fn named(name: &str, program: &Program, hybrid: bool, running: bool) -> Check {
    let shown = name.escape_debug();
    if name.contains('/') && Path::new(name).is_relative() {
        let found = format!("{shown} is neither a name nor an absolute path");
        return Check::bad(NAME, found, format!("--runtime \"$(realpath {shown})\""));
    }
    if program.at == Place::OutOfSight {
        let found = format!("{shown} was not looked for: containerd's own path cannot be seen from here");
        return Check::ok(NAME, found);
    }
    let Some(line) = program.version() else {
        return broken(name, program, running);
    };
    if hybrid && line.starts_with("crun ") {
        let found = format!("crun {} refuses hosts with hybrid cgroups", short(line));
        return Check::bad(NAME, found, DEFAULT);
    }
    Check::ok(NAME, format!("{shown} was chosen, and reports {:?}", line.trim()))
}

/// Reports what is wrong with a runtime that cannot be used.
fn broken(name: &str, program: &Program, running: bool) -> Check {
    let shown = name.escape_debug();
    let install = match name {
        "runc" | "crun" => format!("apt-get install -y --reinstall {name}"),
        _ => DEFAULT.to_owned(),
    };
    match &program.at {
        Place::OnPath(at) => Check::bad(
            NAME,
            format!("{} does not run: it does not print its version", at.display()),
            install,
        ),
        Place::OffPath(at) => Check::bad(
            NAME,
            format!("{} is not on containerd's PATH", at.display()),
            put_on_path(at, running),
        ),
        _ => Check::bad(NAME, format!("{shown} is not installed"), install),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const RUNC: &str = "runc version 1.1.5+ds1";
    const CRUN: &str = "crun version 1.8.1";

    fn at(place: Place, says: Option<&str>) -> Program {
        Program {
            at: place,
            says: says.map(str::to_owned),
        }
    }

    fn here(says: Option<&str>) -> Program {
        let place = match says {
            Some(_) => Place::OnPath("/usr/sbin/it".into()),
            None => Place::Missing,
        };
        at(place, says)
    }

    fn found(runc: Option<&str>, crun: Option<&str>) -> Runtimes {
        Runtimes {
            runc: here(runc),
            crun: here(crun),
            chosen: None,
        }
    }

    fn chosen(name: &str, program: Program, hybrid: bool) -> Check {
        let found = Runtimes {
            chosen: Some(program),
            ..found(Some(RUNC), None)
        };
        check(Some(name), &found, hybrid, false)
    }

    #[test]
    fn without_a_choice_it_is_runc_and_nothing_else_will_do() {
        let both = check(None, &found(Some(RUNC), Some(CRUN)), true, false);
        assert_eq!(
            (both.status, both.found.as_str()),
            (Status::Ok, "runc 1.1.5+ds1, crun 1.8.1")
        );
        for (crun, hybrid) in [(Some(CRUN), true), (Some(CRUN), false), (None, false)] {
            let check = check(None, &found(None, crun), hybrid, false);
            assert_eq!(
                (check.status, check.mend.as_deref()),
                (Status::Bad, Some(INSTALL_RUNC))
            );
        }
    }

    #[test]
    fn the_chosen_one_is_checked_though_runc_is_there() {
        let check = chosen("kata", here(None), false);
        assert_eq!(
            check.to_string(),
            format!("BAD   runtime       kata is not installed  →  {DEFAULT}")
        );
        let check = chosen("crun", here(None), false);
        assert_eq!(check.mend.as_deref(), Some("apt-get install -y --reinstall crun"));
        assert_eq!(chosen("crun", here(Some(CRUN)), true).status, Status::Bad);
        assert_eq!(chosen("crun", here(Some(CRUN)), false).status, Status::Ok);
        assert_eq!(chosen("/usr/sbin/it", here(Some(RUNC)), true).status, Status::Ok);
    }

    #[test]
    fn an_unusable_runtime_is_distinguished_from_a_missing_one() {
        let silent = at(Place::OnPath("/bin/false".into()), None);
        assert!(chosen("/bin/false", silent, false).found.contains("does not run"));
        let off = at(Place::OffPath("/opt/x/youki".into()), Some("youki 0.3.0"));
        assert!(
            chosen("youki", off, false)
                .mend
                .unwrap()
                .starts_with("export PATH=")
        );
        let check = chosen("./youki", here(Some(CRUN)), false);
        assert_eq!(check.mend.as_deref(), Some("--runtime \"$(realpath ./youki)\""));
        assert_eq!(chosen("x", at(Place::OutOfSight, None), false).status, Status::Ok);
    }
}
