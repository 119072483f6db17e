//! The rules of the house that no compiler checks: who may import whom, how long a file may be, and that the map in
//! `src/lib.rs` names every room. That no two files of a folder know each other is looked after in [`circles`]. A test that reads the source is ugly, but it is honest.

#![expect(
    clippy::expect_used,
    reason = "a test fails by a panic that says what it expected"
)]

mod circles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// No file has more lines than this before its tests.
const LONGEST: usize = 400;

/// What each room may import of ours, as `crate::X`. The foundation is open to all.
const MAY_IMPORT: [(&str, &[&str]); 37] = [
    ("context", &[]),
    ("teardown", &[]),
    ("tracked", &[]),
    ("pauses", &[]),
    ("process_identity", &[]),
    ("file_lock", &[]),
    ("metrics", &[]),
    ("mountinfo", &[]),
    ("failpoint", &[]),
    ("clock", &["failpoint"]),
    ("sys", &[]),
    ("ids", &[]),
    ("units", &[]),
    ("docker_syntax", &[]),
    ("compression", &[]),
    ("credentials", &[]),
    ("eviction", &[]),
    ("pool", &[]),
    ("driver", &[]),
    ("containerd", &[]),
    ("cgroup", &[]),
    ("stdio", &[]),
    ("quota", &[]),
    ("events", &[]),
    ("files", &[]),
    ("volume", &[]),
    ("dns", &[]),
    ("sandbox", &[]),
    ("image", &["containerd"]),
    (
        "engine",
        &[
            "containerd",
            "cgroup",
            "stdio",
            "image",
            "quota",
            "files",
            "volume",
            "dns",
            "sandbox",
            "events",
        ],
    ),
    (
        "containerd_driver",
        &[
            "driver", "engine", "embedded", "image", "stdio", "init", "sandbox",
        ],
    ),
    ("docker_driver", &["driver"]),
    ("docker_api", &["engine"]),
    ("embedded", &["cgroup"]),
    ("init", &[]),
    ("doctor", &["cgroup", "quota", "embedded", "init", "sandbox"]),
    (
        "cli",
        &[
            "driver",
            "engine",
            "containerd_driver",
            "containerd",
            "cgroup",
            "docker_api",
            "doctor",
            "embedded",
            "events",
            "files",
            "init",
            "sandbox",
        ],
    ),
];
const FOUNDATION: [&str; 21] = [
    "context",
    "teardown",
    "tracked",
    "pauses",
    "process_identity",
    "file_lock",
    "metrics",
    "mountinfo",
    "failpoint",
    "clock",
    "sys",
    "idle_memory",
    "ids",
    "units",
    "docker_syntax",
    "detach_keys",
    "dir_changes",
    "compression",
    "credentials",
    "eviction",
    "pool",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// Every production file with its text up to its tests.
fn production() -> BTreeMap<String, String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&top.join("src"), &mut files);
    sources(&top.join("oci/src"), &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let name = path
                .strip_prefix(top)
                .expect("below the top")
                .display()
                .to_string();
            let file = name.rsplit('/').next().unwrap_or_default();
            let test =
                ["tests.rs", "testing.rs", "fixtures.rs"].contains(&file) || file.ends_with("_tests.rs");
            let text = std::fs::read_to_string(&path).expect("a text");
            let text = text
                .split("\n#[cfg(test)]\nmod ")
                .next()
                .unwrap_or_default()
                .to_owned();
            (!test).then_some((name, text))
        })
        .collect()
}

fn room(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside
        .split('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs")
}

/// The rooms that a text imports, from `crate::room` anywhere in its code.
fn imports(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            line.match_indices("crate::")
                .map(move |(at, found)| &line[at + found.len()..])
        })
        .map(|rest| {
            rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default()
        })
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn no_room_imports_what_it_must_not_know() {
    let may: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let mut broken = Vec::new();
    for (file, text) in production() {
        let Some(allowed) = may.get(room(&file)) else {
            continue;
        };
        for found in imports(&text) {
            let own = found == room(&file) || FOUNDATION.contains(&found) || found == "chain";
            if !own && !allowed.contains(&found) {
                broken.push(format!("{file} imports crate::{found}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_gateway_names_grpc() {
    for (file, text) in production() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let names = code.filter(|line| line.contains("tonic::") || line.contains("containerd_client"));
        let named: Vec<_> = names.collect();
        assert!(
            named.is_empty() || file.starts_with("src/containerd/"),
            "{file}: {named:?}"
        );
    }
}

#[test]
fn the_hosts_clock_is_read_in_one_place() {
    // Built of two parts, so that this line is none of the places.
    let read = concat!("SystemTime", "::now()");
    let files = production().into_iter().filter(|(_, text)| text.contains(read));
    // A program of its own, whose time only fills a field that containerd does not use.
    let files = files.filter(|(file, _)| file != "src/bin/fnctr-shim/deletion.rs");
    let files: Vec<_> = files.map(|(file, _)| file).collect();
    assert_eq!(files, ["src/clock.rs"], "a test can set only that clock wrong");
}

/// The lint is denied for the whole workspace, so code of that kind needs a file that lifts it; one may.
#[test]
fn only_the_system_calls_are_unsafe() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(top.join("Cargo.toml")).expect("a manifest");
    // In two parts, so that this file does not find itself.
    let lint = concat!("unsafe", "_code");
    assert!(manifest.contains(&format!("{lint} = \"deny\"")));
    let mut files = Vec::new();
    for dir in ["src", "oci", "tests"] {
        sources(&top.join(dir), &mut files);
    }
    let lifting: Vec<_> = files
        .into_iter()
        .filter(|path| {
            let text = std::fs::read_to_string(path).expect("a text");
            let lines = text.lines().map(str::trim_start);
            lines
                .filter(|line| !line.starts_with("//") && !line.contains("forbid("))
                .any(|line| line.contains(lint))
        })
        .collect();
    assert_eq!(lifting, [top.join("src/sys.rs")]);
}

#[test]
fn only_the_registry_and_the_docker_api_name_http() {
    for (file, text) in production() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        // The gateway's channel needs hyper's idea of a stream, and nothing of HTTP.
        let names = code.filter(|line| {
            [
                "hyper::",
                "hyper_rustls",
                "hyper_util",
                "http_body_util",
                "rustls::",
            ]
            .iter()
            .any(|name| line.contains(name))
                && !line.contains("hyper_util::rt::TokioIo")
        });
        let named: Vec<_> = names.collect();
        assert!(
            named.is_empty()
                || file.starts_with("src/image/registry/")
                || file.starts_with("src/docker_api/"),
            "{file}: {named:?}"
        );
    }
}

#[test]
fn only_the_docker_driver_names_a_client_of_dockers_api() {
    for (file, text) in production() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named: Vec<_> = code.filter(|line| line.contains("bollard")).collect();
        assert!(
            named.is_empty() || file.starts_with("src/docker_driver/"),
            "{file}: {named:?}"
        );
    }
}

#[test]
fn every_file_says_first_why_it_exists_and_is_short() {
    for (file, text) in production() {
        assert!(
            text.starts_with("//! "),
            "{file} does not open with why it exists"
        );
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST,
            "{file} has {lines} lines before its tests: look for the second noun"
        );
    }
}

#[test]
fn the_map_names_every_room() {
    let map =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the map");
    let docs: String = map.lines().filter(|line| line.starts_with("//!")).collect();
    for file in production()
        .keys()
        .filter(|file| file.starts_with("src/") && file.matches('/').count() > 1)
    {
        assert!(
            docs.contains(room(file)),
            "the map in src/lib.rs does not name {}",
            room(file)
        );
    }
}

#[test]
fn every_task_belongs_to_a_tracker_that_somebody_holds() {
    for (file, text) in production() {
        let whole: String = text.split_whitespace().collect();
        assert!(
            !whole.contains("TaskTracker::new().spawn"),
            "{file}: nobody can wait for the tasks of a tracker that is dropped at once"
        );
    }
}
