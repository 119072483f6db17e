//! How the cgroups of functions are made on this host, and why.

use super::Check;
use crate::cgroup::{Choice, Refused};

/// Reports the result of the configured cgroup driver and cgroup parent.
pub(super) fn check(chosen: Result<Choice, Refused>) -> Check {
    const NAME: &str = "cgroups by";
    match chosen {
        Ok(Choice { systemd, why }) => {
            let name = if systemd { "systemd" } else { "cgroupfs" };
            Check::ok(NAME, format!("{name}, because {why}"))
        }
        Err(refused) => {
            let mend = match refused {
                Refused::NoSystemd { .. } => "--cgroup-driver probe",
                Refused::ParentIsPath { .. } | Refused::ParentIsSlice { .. } => "leave --cgroup-parent out",
            };
            Check::bad(NAME, refused.to_string(), mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn the_choice_is_reported_with_its_reason() {
        let check = |systemd| check(Ok(Choice { systemd, why: "so" }));
        assert_eq!(check(true).found, "systemd, because so");
        assert_eq!(check(false).found, "cgroupfs, because so");
    }

    #[test]
    fn a_choice_that_cannot_be_followed_is_bad_and_mended_by_what_was_given() {
        let refused = check(Err(Refused::NoSystemd { why: "there is none" }));
        assert_eq!(
            (refused.status, refused.mend.as_deref()),
            (Status::Bad, Some("--cgroup-driver probe"))
        );
        let parent = "/x".to_owned();
        let refused = check(Err(Refused::ParentIsPath { parent }));
        assert!(refused.mend.unwrap().contains("--cgroup-parent"));
    }
}
