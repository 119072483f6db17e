//! Files that are copied from containers and to them, while they run and while they do not.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

use super::execs::ran;
use super::wire::{Docker, Said};
use crate::cli::fnctr;
use crate::world::Stage;

/// A tar archive of files, each with its name and text.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o640);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_000_000_000);
        header.set_size(text.len() as u64);
        out.append_data(&mut header, name, text.as_bytes())
            .expect("an entry");
    }
    out.into_inner().expect("an archive")
}

#[track_caller]
fn put(docker: &Docker, query: &str, archive: &[u8]) -> Said {
    let head = format!(
        "PUT /containers/box/archive?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    docker.raw(&[head.as_bytes(), archive].concat())
}

/// The names in an archive, and the text of each file.
#[track_caller]
fn got(docker: &Docker, path: &str) -> Vec<(String, String)> {
    let said = docker.get(&format!("/containers/box/archive?path={path}"));
    assert_eq!(said.status, 200, "{said:?}");
    let mut archive = tar::Archive::new(&*said.body);
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).expect("its text");
        (name, String::from_utf8_lossy(&text).into_owned())
    });
    entries.collect()
}

fn stat(docker: &Docker, path: &str) -> Value {
    let said = docker.ask("HEAD", &format!("/containers/box/archive?path={path}"));
    assert_eq!(said.status, 200, "{said:?}");
    let text = said.header("x-docker-container-path-stat");
    let json = base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base 64");
    serde_json::from_slice(&json).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_before_the_first_run_while_it_runs_and_after_its_end() {
    let Some(stage) = Stage::set("docker_copies").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let shared = stage.real.dir().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    docker.create(
        "box",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": {
            "Binds": [format!("{}:/shared", shared.display())], "Tmpfs": { "/fast": "" } } }),
    );
    // Never started.
    assert_eq!(
        put(
            &docker,
            "path=/",
            &archive(&[("in/one", "1"), ("shared/two", "2")])
        )
        .status,
        200
    );
    assert_eq!(
        std::fs::read_to_string(shared.join("two")).expect("it is there"),
        "2"
    );
    let one = ("in/one".to_owned(), "1".to_owned());
    let dir = ("in/".to_owned(), String::new());
    assert_eq!(got(&docker, "/in"), [dir.clone(), one.clone()]);
    assert_eq!(got(&docker, "/shared/two"), [("two".to_owned(), "2".to_owned())]);
    docker.done("POST", "/containers/box/start");
    let (out, ..) = ran(
        &docker,
        "box",
        &["sh", "-c", "cat /in/one /shared/two; stat -c %u:%a /in/one"],
    );
    assert_eq!(out, "121000:640\n");
    // While it runs, and frozen, with what is mounted into it.
    assert_eq!(
        put(&docker, "path=/fast", &archive(&[("three", "3")])).status,
        200
    );
    ran(
        &docker,
        "box",
        &["sh", "-c", "ln -s /in/one /link; ln -s ../../../../etc /up"],
    );
    docker.done("POST", "/containers/box/pause");
    assert_eq!(
        got(&docker, "/fast/three"),
        [("three".to_owned(), "3".to_owned())]
    );
    assert_eq!(got(&docker, "/in"), [dir, one]);
    docker.done("POST", "/containers/box/unpause");
    let seen = stat(&docker, "/link");
    assert_eq!(
        (&seen["name"], &seen["linkTarget"]),
        (&json!("link"), &json!("/in/one"))
    );
    assert_eq!(stat(&docker, "/up/")["mode"].as_u64().expect("a mode") >> 31, 1);
    for (method, path, status, says) in [
        (
            "GET",
            "/containers/box/archive?path=/none",
            404,
            "Could not find the file /none in container box",
        ),
        ("GET", "/containers/none/archive?path=/", 404, "No such container"),
        ("GET", "/containers/box/archive", 400, "path"),
    ] {
        let said = docker.ask(method, path);
        assert_eq!(said.status, status, "{path}: {said:?}");
        assert!(said.message().contains(says), "{path}: {}", said.message());
    }
    for (query, packed, status, says) in [
        (
            "path=/none",
            archive(&[("x", "")]),
            404,
            "Could not find the file /none",
        ),
        ("path=/in/one", archive(&[("x", "")]), 400, "not a directory"),
        (
            "path=/&noOverwriteDirNonDir=true",
            archive(&[("in", "")]),
            400,
            "cannot overwrite directory",
        ),
        ("path=/in", vec![7; 3000], 400, "archive cannot be read"),
    ] {
        let said = put(&docker, query, &packed);
        assert_eq!(said.status, status, "{query}: {said:?}");
        assert!(said.message().contains(says), "{query}: {}", said.message());
    }
    // The root file system alone, with names that are relative.
    let exported = docker.get("/containers/box/export");
    let mut tree = tar::Archive::new(&*exported.body);
    let names: Vec<_> = tree
        .entries()
        .expect("an archive")
        .map(|entry| String::from_utf8_lossy(&entry.expect("an entry").path_bytes()).into_owned())
        .collect();
    assert!(names.iter().all(|name| name.starts_with("./")), "{names:?}");
    assert!(names.contains(&"./in/one".to_owned()) && !names.contains(&"./shared/two".to_owned()));
    docker.done("POST", "/containers/box/stop?t=0");
    assert_eq!(put(&docker, "path=/in", &archive(&[("four", "4")])).status, 200);
    assert_eq!(got(&docker, "/in/four")[0].1, "4");
    let names: Vec<_> = got(&docker, "/").into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"/in/four".to_owned()) && names.contains(&"/shared/two".to_owned()));
    docker.done("POST", "/containers/box/start");
    assert_eq!(ran(&docker, "box", &["cat", "/in/four"]).0, "4");
    docker.done("DELETE", "/containers/box?force=1");
    docker.end();
    std::fs::remove_dir_all(&shared).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_copies_as_docker_s_does() {
    let Some(stage) = Stage::set("cp").await else {
        return;
    };
    let here = stage.real.dir().join("here");
    std::fs::create_dir_all(here.join("conf/sub")).expect("directories");
    std::fs::write(here.join("conf/sub/a"), "a").expect("a file");
    let ok = |args: &[&str]| {
        let done = fnctr(&stage, args)
            .current_dir(&here)
            .output()
            .expect("to run fnctr");
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let refused = |args: &[&str]| {
        let done = fnctr(&stage, args)
            .current_dir(&here)
            .output()
            .expect("to run fnctr");
        assert!(!done.status.success(), "{args:?}: {done:?}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    ok(&[
        "create",
        "--name",
        "box",
        "--read-only",
        "--user",
        "1000:1000",
        "busybox",
        "sleep",
        "1000",
    ]);
    // The root is read-only for whoever writes.
    assert!(refused(&["cp", "conf", "box:/etc"]).contains("mounted read-only"));
    ok(&["rm", "box"]);
    ok(&["create", "--name", "box", "busybox", "sleep", "1000"]);
    ok(&["cp", "conf", "box:/etc/new"]);
    ok(&["cp", "-a", "conf/.", "box:/etc"]);
    ok(&["start", "box"]);
    let shown = ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "cat /etc/new/sub/a /etc/sub/a; stat -c %u /etc/sub/a",
    ]);
    assert_eq!(shown, "aa1000\n");
    ok(&["cp", "box:/etc/new", "."]);
    ok(&["cp", "box:/etc/new/sub/a", "b"]);
    assert_eq!(
        std::fs::read_to_string(here.join("new/sub/a")).expect("it is there"),
        "a"
    );
    assert_eq!(std::fs::read_to_string(here.join("b")).expect("it is there"), "a");
    let piped = fnctr(&stage, &["cp", "box:/etc/new", "-"])
        .output()
        .expect("to run fnctr");
    let mut archive = tar::Archive::new(&*piped.stdout);
    assert_eq!(archive.entries().expect("an archive").count(), 3);
    for (args, says) in [
        (&["cp", "box:/none", "."][..], "no \"/none\""),
        (&["cp", "none", "box:/"], "no \""),
        (&["cp", "box:/etc/new", "b"], "which is a file"),
        (&["cp", "box:/etc/new/sub/a", "nowhere/"], "there is no directory"),
        (&["cp", "a", "b"], "CONTAINER:PATH"),
        (&["cp", "box:/a", "box:/b"], "between two containers"),
    ] {
        let said = refused(args);
        assert!(said.contains(says), "{args:?}: {said}");
    }
    ok(&["rm", "-f", "box"]);
    assert!(!Path::new(&here).join("nowhere").exists());
    std::fs::remove_dir_all(&here).expect("to clean up");
    stage.strike().await;
}
