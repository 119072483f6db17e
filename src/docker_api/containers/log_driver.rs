//! Where the output goes beside those who are attached: to files that can be read later (`json-file`), to a syslog server, or
//! nowhere (`none`).

use std::collections::BTreeMap;

use super::body::LogConfig;
use crate::docker_api::default_log::DefaultLog;
use crate::docker_api::refused::Refused;
use crate::engine::{Endpoint, LogOptions};

/// The options of the driver `syslog`.
const OPTIONS: [&str; 4] = ["syslog-address", "syslog-facility", "syslog-format", "tag"];
/// Formats of messages that are as good as ours, which is that of RFC 5424.
const FORMATS: [&str; 4] = ["", "rfc5424", "rfc5424micro", "rfc3164"];

/// A syslog server, and the tag of the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyslogConfig {
    pub(super) endpoint: Endpoint,
    pub(super) tag: String,
}

/// The driver of containers whose makers name none.
///
/// # Errors
/// Why no container can have it, or its options.
pub(crate) fn default_log(driver: &str, options: BTreeMap<String, String>) -> Result<DefaultLog, String> {
    let driver = driver.to_owned();
    let log = LogConfig { driver, options };
    check(&log).map_err(|refused| refused.message)?;
    let LogConfig { driver, options } = log;
    Ok(DefaultLog { driver, options })
}

/// What a container has that asks for this: options of the default driver are added.
pub(super) fn complete(asked: &mut LogConfig, default: &DefaultLog) {
    if asked.driver.is_empty() {
        asked.driver.clone_from(&default.driver);
    }
    if asked.driver == default.driver {
        for (name, value) in &default.options {
            asked.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Refuses a driver and options that no container can have.
pub(super) fn check(log: &LogConfig) -> Result<(), Refused> {
    let none = BTreeMap::new();
    json_file(log, &none, &none)?;
    syslog(log, "").map(drop)
}

/// The options of the log, if the output goes to files. `labels` and `env` are those of the container.
pub(super) fn json_file(
    log: &LogConfig,
    labels: &BTreeMap<String, String>,
    env: &BTreeMap<String, String>,
) -> Result<Option<LogOptions>, Refused> {
    if log.driver != "json-file" {
        return Ok(None);
    }
    let options = LogOptions::parse(&log.options, labels, env);
    options.map(Some).map_err(|error| Refused::bad(error.to_string()))
}

/// The server that the output goes to, if it does. `id` is the tag if none is given.
pub(super) fn syslog(log: &LogConfig, id: &str) -> Result<Option<SyslogConfig>, Refused> {
    match log.driver.as_str() {
        "" | "none" | "json-file" => return Ok(None),
        "syslog" => {}
        known
        @ ("local" | "journald" | "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs" | "etwlogs") => {
            return Err(Refused::bad(format!(
                "HostConfig.LogConfig: the logging driver {known} is not served by fnctr; there are json-file, none and syslog"
            )));
        }
        unknown => {
            return Err(Refused::bad(format!(
                "logger: no log driver named '{unknown}' is registered"
            )));
        }
    }
    let option = |name: &str| log.options.get(name).map_or("", String::as_str);
    if let Some(unknown) = log.options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
        return Err(Refused::bad(format!(
            "unknown log opt '{unknown}' for syslog log driver"
        )));
    }
    if !FORMATS.contains(&option("syslog-format")) {
        return Err(Refused::bad("Invalid syslog format"));
    }
    if !["", "user"].contains(&option("syslog-facility")) {
        return Err(Refused::bad(
            "HostConfig.LogConfig: syslog-facility is not served by fnctr, which uses user; leave it out",
        ));
    }
    let address = match option("syslog-address") {
        "" => "unix:///dev/log",
        address => address,
    };
    let endpoint = Endpoint::parse(address).map_err(|error| {
        Refused::bad(format!(
            "HostConfig.LogConfig: syslog-address: {}",
            crate::chain(&error)
        ))
    })?;
    let tag = match option("tag") {
        "" => id.chars().take(12).collect(),
        tag => tag.to_owned(),
    };
    Ok(Some(SyslogConfig { endpoint, tag }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(driver: &str, options: &[(&str, &str)]) -> Result<Option<SyslogConfig>, Refused> {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let log = LogConfig {
            driver: driver.to_owned(),
            options: options.collect(),
        };
        syslog(&log, "0123456789abcdef")
    }

    #[test]
    fn drivers_are_known_by_name_and_the_rest_is_refused() {
        for silent in ["", "none", "json-file"] {
            assert_eq!(asked(silent, &[]), Ok(None));
        }
        let found = asked("syslog", &[("syslog-address", "tcp://127.0.0.1:514")])
            .unwrap()
            .unwrap();
        assert_eq!(found.tag, "0123456789ab");
        for (driver, options, says) in [
            ("local", &[][..], "local"),
            ("nosuch", &[], "no log driver named 'nosuch'"),
            ("syslog", &[("syslog-format", "x")], "Invalid syslog format"),
            ("syslog", &[("foo", "x")], "unknown log opt 'foo'"),
            ("syslog", &[("syslog-address", "x")], "syslog-address"),
        ] {
            let message = asked(driver, options).unwrap_err().message;
            assert!(message.contains(says), "{driver}: {message}");
        }
    }

    #[test]
    fn a_container_that_names_no_driver_has_the_default_and_its_options() {
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            pairs.collect()
        };
        let default = default_log("json-file", options(&[("max-size", "1m"), ("max-file", "2")])).unwrap();
        let complete = |driver: &str, given: &[(&str, &str)]| {
            let mut log = LogConfig {
                driver: driver.to_owned(),
                options: options(given),
            };
            super::complete(&mut log, &default);
            (log.driver, log.options)
        };
        let both = options(&[("max-size", "3m"), ("max-file", "2")]);
        assert_eq!(
            complete("", &[("max-size", "3m")]),
            ("json-file".to_owned(), both.clone())
        );
        assert_eq!(
            complete("json-file", &[("max-size", "3m")]),
            ("json-file".to_owned(), both)
        );
        assert_eq!(complete("none", &[]), ("none".to_owned(), options(&[])));
        for (driver, given, says) in [
            ("json-file", &[("max-size", "x")][..], "max-size"),
            ("none", &[], ""),
            ("gelf", &[], "gelf"),
        ] {
            match default_log(driver, options(given)) {
                Ok(_) => assert_eq!(driver, "none"),
                Err(error) => assert!(error.contains(says), "{error}"),
            }
        }
    }
}
