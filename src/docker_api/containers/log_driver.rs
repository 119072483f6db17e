//! Where the output goes beside those who are attached: nowhere (`none`, the default), or to a syslog server.

use super::body::LogConfig;
use crate::docker_api::refused::Refused;
use crate::engine::Endpoint;

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

/// The server that the output goes to, if it does. `id` is the tag if none is given.
pub(super) fn syslog(log: &LogConfig, id: &str) -> Result<Option<SyslogConfig>, Refused> {
    match log.driver.as_str() {
        "" | "none" => return Ok(None),
        "syslog" => {}
        known @ ("json-file" | "local" | "journald" | "gelf" | "fluentd" | "awslogs" | "splunk"
        | "gcplogs" | "etwlogs") => {
            return Err(Refused::bad(format!(
                "HostConfig.LogConfig: the logging driver {known} is not served by fnctr; there are none and syslog"
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
    fn there_are_none_and_syslog_and_the_rest_is_refused_by_name() {
        assert_eq!(asked("", &[]), Ok(None));
        assert_eq!(asked("none", &[]), Ok(None));
        let found = asked("syslog", &[("syslog-address", "tcp://127.0.0.1:514")])
            .unwrap()
            .unwrap();
        assert_eq!(found.tag, "0123456789ab");
        for (driver, options, says) in [
            ("json-file", &[][..], "json-file"),
            ("nosuch", &[], "no log driver named 'nosuch'"),
            ("syslog", &[("syslog-format", "x")], "Invalid syslog format"),
            ("syslog", &[("foo", "x")], "unknown log opt 'foo'"),
            ("syslog", &[("syslog-address", "x")], "syslog-address"),
        ] {
            let message = asked(driver, options).unwrap_err().message;
            assert!(message.contains(says), "{driver}: {message}");
        }
    }
}
