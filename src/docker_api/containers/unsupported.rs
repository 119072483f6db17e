//! The options of a create that Docker has and this server does not. One that is given and is not its default is refused
//! by name; nothing that a client asks for is ignored.

use serde_json::Value;

use crate::docker_api::json::Object;
use crate::docker_api::refused::Refused;

/// Fields of the container, with the values that ask for nothing.
const OF_CONTAINER: [(&str, &[&str]); 3] = [("Domainname", &[]), ("MacAddress", &[]), ("OnBuild", &[])];

/// Fields of the host's part, with the values that ask for nothing.
const OF_HOST: [(&str, &[&str]); 34] = [
    ("BlkioDeviceReadBps", &[]),
    ("BlkioDeviceReadIOps", &[]),
    ("BlkioDeviceWriteBps", &[]),
    ("BlkioDeviceWriteIOps", &[]),
    ("BlkioWeight", &[]),
    ("BlkioWeightDevice", &[]),
    ("Cgroup", &[]),
    ("CgroupParent", &[]),
    ("CgroupnsMode", &["private"]),
    ("CpuCount", &[]),
    ("CpuPercent", &[]),
    ("CpuRealtimePeriod", &[]),
    ("CpuRealtimeRuntime", &[]),
    ("DeviceCgroupRules", &[]),
    ("DeviceRequests", &[]),
    ("Devices", &[]),
    ("Dns", &[]),
    ("DnsOptions", &[]),
    ("DnsSearch", &[]),
    ("IOMaximumBandwidth", &[]),
    ("IOMaximumIOps", &[]),
    ("IpcMode", &["private", "shareable"]),
    ("Isolation", &["default"]),
    ("Links", &[]),
    ("MaskedPaths", &[]),
    ("OomKillDisable", &[]),
    ("PidMode", &["private"]),
    ("Privileged", &[]),
    ("ReadonlyPaths", &[]),
    ("Runtime", &["runc"]),
    ("ShmSize", &[]),
    ("UTSMode", &[]),
    ("UsernsMode", &[]),
    ("VolumeDriver", &["local"]),
];

/// Docker's default size of `/dev/shm`, in bytes, which is the only one.
const SHM_SIZE: u64 = 64 << 20;

/// Refuses what is not served.
pub(super) fn check(container: &Object, host: &Object) -> Result<(), Refused> {
    for (given, fields, place) in [
        (container, &OF_CONTAINER[..], ""),
        (host, &OF_HOST[..], "HostConfig."),
    ] {
        for (name, defaults) in fields {
            let Some(value) = given.get(name) else { continue };
            if !is_default(name, value, defaults) {
                return Err(Refused::bad(format!(
                    "{place}{name} is not served by fnctr; leave it out"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses limits in the body of an update that are not served.
pub(super) fn check_update(body: &Object) -> Result<(), Refused> {
    for (name, defaults) in OF_HOST {
        let Some(value) = body.get(name) else { continue };
        if !is_default(name, value, defaults) {
            return Err(Refused::bad(format!(
                "{name} is not served by fnctr; leave it out"
            )));
        }
    }
    Ok(())
}

fn is_default(name: &str, value: &Value, defaults: &[&str]) -> bool {
    let is_named = value.as_str().is_some_and(|text| defaults.contains(&text));
    let is_own = match name {
        "ShmSize" => value.as_u64() == Some(SHM_SIZE),
        // An empty list is not the default: it would unmask everything.
        "MaskedPaths" | "ReadonlyPaths" => return value.is_null(),
        _ => false,
    };
    is_nothing(value) || is_named || is_own
}

/// Whether a value is the same as none.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(body: &str) -> Result<(), String> {
        let body = Object::of_body(body.as_bytes()).unwrap();
        let host = body.object("HostConfig").unwrap().unwrap_or_default();
        check(&body, &host).map_err(|refused| refused.message)
    }

    #[test]
    fn what_the_command_line_always_sends_asks_for_nothing() {
        let noise = r#"{"Tty":false,"Domainname":"","OnBuild":null,"HostConfig":{"ConsoleSize":[0,0],"OomKillDisable":false,
            "IpcMode":"","Isolation":"","Devices":[],"DeviceRequests":null,"BlkioDeviceReadBps":[],"ShmSize":0,
            "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"MaskedPaths":null,"Runtime":"runc","CpuShares":0}}"#;
        assert_eq!(checked(noise), Ok(()));
    }

    #[test]
    fn what_is_asked_for_and_not_there_is_refused_by_name() {
        for (body, names) in [
            (r#"{"macAddress":"02:42:ac:11:00:99"}"#, "MacAddress"),
            (r#"{"HostConfig":{"Privileged":true}}"#, "HostConfig.Privileged"),
            (r#"{"HostConfig":{"Dns":["1.1.1.1"]}}"#, "HostConfig.Dns"),
            (r#"{"HostConfig":{"ShmSize":1}}"#, "HostConfig.ShmSize"),
            (r#"{"HostConfig":{"MaskedPaths":[]}}"#, "HostConfig.MaskedPaths"),
            (r#"{"HostConfig":{"PidMode":"host"}}"#, "HostConfig.PidMode"),
        ] {
            let message = checked(body).unwrap_err();
            assert!(message.contains(names), "{body}: {message}");
        }
    }
}
