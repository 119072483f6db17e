//! Pages about the server itself.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use serde_json::json;

use super::answer::Answer;
use super::door::Door;
use super::refused::Refused;
use super::version::{NEWEST, OLDEST};
use crate::engine::State;

/// `GET /plugins`: there are none.
pub(super) fn plugins() -> Answer {
    Answer::ok(&json!([]))
}

/// The version of Docker whose answers are given. Clients compare it (Fn, Salt), so it comes first.
pub(super) const VERSION: &str = concat!("28.5.2-fnctr-", env!("CARGO_PKG_VERSION"));

/// `/_ping`. Clients that ask for BuildKit must not find it.
pub(super) fn ping(is_head: bool) -> Answer {
    let body = if is_head { "" } else { "OK" };
    Answer::text(StatusCode::OK, body)
        .with(CACHE_CONTROL, "no-cache, no-store, must-revalidate")
        .with(PRAGMA, "no-cache")
        .with(HeaderName::from_static("builder-version"), "1")
        .with(HeaderName::from_static("swarm"), "inactive")
}

/// `/version`.
pub(super) async fn version(door: &Arc<Door>) -> Result<Answer, Refused> {
    let uname = nix::sys::utsname::uname().map_err(|error| Refused::failed(error.to_string()))?;
    let kernel = uname.release().to_string_lossy().into_owned();
    let containerd = door.engine.server_version(&door.life).await;
    let containerd = containerd.map(|version| version.to_string()).unwrap_or_default();
    let (oldest, newest) = (OLDEST.to_string(), NEWEST.to_string());
    let details = json!({
        "ApiVersion": newest, "Arch": arch(), "BuildTime": "", "Experimental": "false", "GitCommit": "",
        "GoVersion": "", "KernelVersion": kernel, "MinAPIVersion": oldest, "Os": "linux",
    });
    Ok(Answer::ok(&json!({
        "Platform": { "Name": "fnctr" },
        "Components": [
            { "Name": "Engine", "Version": VERSION, "Details": details },
            { "Name": "fnctr", "Version": env!("CARGO_PKG_VERSION"), "Details": {} },
            { "Name": "containerd", "Version": containerd, "Details": {} },
        ],
        "Version": VERSION, "ApiVersion": newest, "MinAPIVersion": oldest, "GitCommit": "", "GoVersion": "",
        "Os": "linux", "Arch": arch(), "KernelVersion": kernel, "BuildTime": "",
    })))
}

/// The architecture in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/info`.
pub(super) async fn info(door: &Arc<Door>) -> Result<Answer, Refused> {
    let uname = nix::sys::utsname::uname().map_err(|error| Refused::failed(error.to_string()))?;
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let containers = door.server.containers();
    let states: Vec<_> = containers.iter().map(|served| served.look().state).collect();
    let count = |is: fn(&State) -> bool| states.iter().filter(|state| is(state)).count();
    let running = count(|state| matches!(state, State::Running));
    let paused = count(|state| matches!(state, State::Frozen));
    let images = door
        .engine
        .stored_images(&door.life)
        .await
        .map_or(0, |stored| stored.images.len());
    let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let is_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let driver = if door.engine.has_systemd_cgroups() {
        "systemd"
    } else {
        "cgroupfs"
    };
    let mut info = json!({
        "ID": text(uname.nodename()),
        "Containers": states.len(), "ContainersRunning": running, "ContainersPaused": paused,
        "ContainersStopped": states.len() - running - paused, "Images": images,
        "Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "none", "syslog"] },
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": true, "PidsLimit": true, "IPv4Forwarding": true, "Debug": false, "NFd": 0, "OomKillDisable": false,
        "NGoroutines": 0, "SystemTime": super::time::stamp(Some(crate::clock::now())), "LoggingDriver": door.default_log.driver,
        "CgroupDriver": driver, "CgroupVersion": if is_v2 { "2" } else { "1" }, "NEventsListener": 0,
    });
    // Two parts: the macro has a limit.
    let host = json!({
        "KernelVersion": text(uname.release()), "OperatingSystem": os_name(), "OSVersion": "", "OSType": "linux",
        "Architecture": std::env::consts::ARCH, "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": { "IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": [] },
        "NCPU": processors, "MemTotal": memory, "GenericResources": null, "DockerRootDir": "",
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "Name": text(uname.nodename()), "Labels": [],
        "ExperimentalBuild": false, "ServerVersion": VERSION,
        "Runtimes": { "runc": { "path": "runc" } }, "DefaultRuntime": "runc",
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null },
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "docker-init",
        "ContainerdCommit": { "ID": "" }, "RuncCommit": { "ID": "" }, "InitCommit": { "ID": "" },
        "SecurityOptions": ["name=seccomp,profile=builtin"], "CDISpecDirs": [], "Warnings": [],
    });
    if let (Some(info), serde_json::Value::Object(host)) = (info.as_object_mut(), host) {
        info.extend(host);
    }
    Ok(Answer::ok(&info))
}

/// The name of the operating system, for people (os-release(5)).
fn os_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// The refusal of a page that is not served: one that Docker has too is named, after what it is about was looked for.
pub(super) fn absent(door: &Door, method: &str, parts: &[&str]) -> Refused {
    const SWARM: [&str; 6] = ["swarm", "nodes", "services", "tasks", "secrets", "configs"];

    let missing = |id: &str| door.container(id).err();
    match (method, parts) {
        (_, [first, ..]) if SWARM.contains(first) => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
             to swarm and try again.",
        ),
        ("GET", ["plugins", name, "json"]) => Refused::missing(format!("plugin \"{name}\" not found")),
        ("POST", ["containers", id, what @ "update"])
        | ("GET", ["containers", id, what @ ("changes" | "export" | "archive")])
        | ("PUT" | "HEAD", ["containers", id, what @ "archive"]) => {
            missing(id).unwrap_or_else(|| Refused::not_served(what))
        }
        ("POST", ["build" | "session" | "grpc", ..]) => Refused::not_served("building images"),
        ("POST", ["commit"]) => Refused::not_served("commit"),
        ("POST", ["images", .., "push"]) => Refused::not_served("push"),
        ("GET", ["images", "search"]) => Refused::not_served("searching for images"),
        ("POST", ["auth"]) => Refused::not_served("login; give the credentials with each pull"),
        ("GET", ["distribution", .., "json"]) => Refused::not_served("/distribution"),
        ("GET", ["system", "df"]) => Refused::not_served("/system/df"),
        ("POST", ["networks", _, "connect" | "disconnect"]) => {
            Refused::not_served("the change of a container's networks; make it anew on the other one")
        }
        ("PUT", ["volumes", _]) => Refused::not_served("volumes of a cluster"),
        _ => Refused::no_page(),
    }
}
