//! Restart policies in Docker's terms. Pure.

use super::body::RestartBody;
use crate::docker_api::refused::Refused;
use crate::engine::RestartPolicy;

/// The policy that a client asks for; `is_removed` says whether the container is removed at its end.
///
/// # Errors
/// Status 400 in Docker's words.
pub(super) fn of(given: &RestartBody, is_removed: bool) -> Result<RestartPolicy, Refused> {
    let RestartBody {
        name,
        maximum_retry_count: count,
    } = given;
    let bad = |why: &str| Err(Refused::bad(format!("invalid restart policy: {why}")));
    let policy = match name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" if *count < 0 => return bad("maximum retry count cannot be negative"),
        "on-failure" => RestartPolicy::OnFailure {
            most: u32::try_from(*count).ok().filter(|most| *most > 0),
        },
        other => {
            return bad(&format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if *count != 0 && !matches!(policy, RestartPolicy::OnFailure { .. }) {
        return bad("maximum retry count can only be used with 'on-failure'");
    }
    if is_removed && policy != RestartPolicy::No {
        return Err(Refused::bad(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(policy)
}

/// A policy as it is shown.
pub(super) fn shown(policy: RestartPolicy) -> RestartBody {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { most } => ("on-failure", most.unwrap_or_default()),
    };
    RestartBody {
        name: name.to_owned(),
        maximum_retry_count: count.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, count: i64, is_removed: bool) -> Result<RestartPolicy, String> {
        let body = RestartBody {
            name: name.to_owned(),
            maximum_retry_count: count,
        };
        of(&body, is_removed).map_err(|refused| refused.message)
    }

    #[test]
    fn every_policy_is_read_and_shown_as_docker_has_it() {
        for (name, count) in [
            ("no", 0),
            ("always", 0),
            ("unless-stopped", 0),
            ("on-failure", 0),
            ("on-failure", 3),
        ] {
            let policy = read(name, count, false).unwrap();
            let body = shown(policy);
            assert_eq!((body.name.as_str(), body.maximum_retry_count), (name, count));
        }
        assert_eq!(read("", 0, true), Ok(RestartPolicy::No));
    }

    #[test]
    fn what_is_no_policy_is_refused_in_docker_s_words() {
        for (name, count, is_removed, says) in [
            ("sometimes", 0, false, "unknown policy 'sometimes'"),
            ("always", 1, false, "can only be used with 'on-failure'"),
            ("on-failure", -1, false, "cannot be negative"),
            ("always", 0, true, "can't create 'AutoRemove' container"),
        ] {
            let message = read(name, count, is_removed).unwrap_err();
            assert!(message.contains(says), "{name}: {message}");
        }
    }
}
