//! How the health of a container is checked, as a create and an image say it, and as an inspection shows it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::body::HealthBody;
use crate::docker_api::refused::Refused;
use crate::docker_api::time::stamp;
use crate::engine::{Health, HealthCheck, ImageHealth};

/// The shell of an image that names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Shorter times are refused, as by Docker.
const SHORTEST: i64 = 1_000_000;

/// The check of a body, with what it leaves open from the image.
pub(super) fn merged(body: Option<&HealthBody>, image: Option<&ImageHealth>) -> Option<HealthBody> {
    let of_image = image.map(|image| HealthBody {
        test: image.test.clone(),
        interval: image.interval,
        timeout: image.timeout,
        start_period: image.start_period,
        start_interval: image.start_interval,
        retries: image.retries,
    });
    let Some(body) = body else {
        return of_image.filter(|image| !image.test.is_empty());
    };
    let image = of_image.unwrap_or_default();
    let or = |given: i64, of_image: i64| if given == 0 { of_image } else { given };
    Some(HealthBody {
        test: match body.test.is_empty() {
            true => image.test,
            false => body.test.clone(),
        },
        interval: or(body.interval, image.interval),
        timeout: or(body.timeout, image.timeout),
        start_period: or(body.start_period, image.start_period),
        start_interval: or(body.start_interval, image.start_interval),
        retries: or(body.retries, image.retries),
    })
}

/// Refuses times and numbers that cannot be meant.
pub(super) fn check(body: &HealthBody) -> Result<(), Refused> {
    let times = [
        ("Interval", body.interval),
        ("Timeout", body.timeout),
        ("StartPeriod", body.start_period),
        ("StartInterval", body.start_interval),
    ];
    if let Some((name, _)) = times.into_iter().find(|(_, time)| *time != 0 && *time < SHORTEST) {
        return Err(Refused::bad(format!(
            "{name} in Healthcheck cannot be less than 1ms"
        )));
    }
    if body.retries < 0 {
        return Err(Refused::bad("Retries in Healthcheck cannot be negative"));
    }
    command(&body.test).map(drop)
}

/// The program of a test; `None` if nothing is tested.
fn command(test: &[String]) -> Result<Option<Vec<String>>, Refused> {
    match test.split_first().map(|(kind, words)| (kind.as_str(), words)) {
        None | Some(("NONE", _)) => Ok(None),
        Some(("CMD", words)) if !words.is_empty() => Ok(Some(words.to_vec())),
        Some(("CMD-SHELL", [line, ..])) => {
            let shell = SHELL.map(str::to_owned).into_iter();
            Ok(Some(shell.chain([line.clone()]).collect()))
        }
        Some((kind @ ("CMD" | "CMD-SHELL"), _)) => Err(Refused::bad(format!(
            "Healthcheck.Test: there is no command after {kind:?}"
        ))),
        Some((kind, _)) => Err(Refused::bad(format!(
            "Healthcheck.Test: {kind:?} is not a kind of test; there are CMD, CMD-SHELL and NONE"
        ))),
    }
}

/// The check of a plan; `None` if nothing is tested, or the image's test is of no kind that there is.
pub(super) fn plan(body: Option<&HealthBody>) -> Option<HealthCheck> {
    let body = body?;
    let command = command(&body.test).ok()??;
    let time = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
    Some(HealthCheck {
        command,
        interval: time(body.interval),
        timeout: time(body.timeout),
        retries: u32::try_from(body.retries).unwrap_or(u32::MAX),
        start_period: time(body.start_period),
        start_interval: time(body.start_interval),
    })
}

/// The field `State.Health` of an inspection.
pub(super) fn shown(health: &Health) -> Value {
    let log = health.probes.iter().map(|probe| {
        json!({
            "Start": stamp(Some(probe.started_at)), "End": stamp(Some(probe.ended_at)), "ExitCode": probe.code,
            "Output": probe.output,
        })
    });
    json!({
        "Status": health.status.name(), "FailingStreak": health.failures, "Log": log.collect::<Vec<_>>(),
    })
}

/// The field `Config.Healthcheck` of an inspection: what is not set is left out, as by Docker.
pub(super) fn config(body: &HealthBody) -> Value {
    let mut shown = Map::new();
    if !body.test.is_empty() {
        shown.insert("Test".to_owned(), json!(body.test));
    }
    for (name, value) in [
        ("Interval", body.interval),
        ("Timeout", body.timeout),
        ("StartPeriod", body.start_period),
        ("StartInterval", body.start_interval),
        ("Retries", body.retries),
    ] {
        if value != 0 {
            shown.insert(name.to_owned(), json!(value));
        }
    }
    shown.into()
}

/// The word in a list, for people.
pub(super) fn sentence(health: &Health) -> String {
    match health.status.name() {
        "starting" => "health: starting".to_owned(),
        status => status.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(test: &[&str]) -> HealthBody {
        HealthBody {
            test: test.iter().map(ToString::to_string).collect(),
            ..HealthBody::default()
        }
    }

    #[test]
    fn what_a_body_leaves_open_is_the_image_s() {
        let image = ImageHealth {
            test: vec!["CMD-SHELL".to_owned(), "true".to_owned()],
            interval: 5,
            retries: 7,
            ..ImageHealth::default()
        };
        assert_eq!(merged(None, None), None);
        assert_eq!(merged(None, Some(&image)).unwrap().interval, 5);
        let quicker = HealthBody {
            interval: 1_000_000,
            ..HealthBody::default()
        };
        let both = merged(Some(&quicker), Some(&image)).unwrap();
        assert_eq!(
            (both.test, both.interval, both.retries),
            (image.test.clone(), 1_000_000, 7)
        );
        // The image's check is switched off.
        let none = merged(Some(&body(&["NONE"])), Some(&image)).unwrap();
        assert_eq!(plan(Some(&none)), None);
        let odd = ImageHealth {
            test: vec!["FOO".to_owned()],
            ..ImageHealth::default()
        };
        assert_eq!(plan(merged(None, Some(&odd)).as_ref()), None);
    }

    #[test]
    fn a_test_is_a_program_or_a_line_for_the_shell() {
        let words = |test: &[&str]| command(&body(test).test).map_err(|refused| refused.message);
        let owned = |words: &[&str]| Ok(Some(words.iter().map(ToString::to_string).collect()));
        assert_eq!(words(&["CMD", "true", "x"]), owned(&["true", "x"]));
        assert_eq!(
            words(&["CMD-SHELL", "a && b"]),
            owned(&["/bin/sh", "-c", "a && b"])
        );
        assert_eq!(words(&[]), Ok(None));
        for bad in [&["FOO"][..], &["CMD"], &["CMD-SHELL"]] {
            assert!(words(bad).unwrap_err().starts_with("Healthcheck.Test"), "{bad:?}");
        }
        let short = HealthBody {
            timeout: 1,
            ..body(&["CMD", "true"])
        };
        assert_eq!(
            check(&short).unwrap_err().message,
            "Timeout in Healthcheck cannot be less than 1ms"
        );
    }
}
