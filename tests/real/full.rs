//! What needs no new file works where none can be made: no inodes left, or a file system that became read-only.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::cli::fnctr;
use crate::world::Stage;

/// A file system of the test's own.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, options: &str) -> Self {
        fs::create_dir_all(at).expect("a directory");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("a tmpfs");
        Self(at)
    }

    /// Makes files until there is no room for another.
    fn fill(&self) {
        let mut count = 0;
        while fs::File::create_new(self.0.join(format!("full-{count}"))).is_ok() {
            count += 1;
        }
    }

    fn read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, self.0, None::<&str>, flags, None::<&str>).expect("to be read-only");
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[track_caller]
fn ok(mut command: Command) -> String {
    let done = command.output().expect("to run fnctr");
    assert!(done.status.success(), "{command:?}\n{}", said(&done));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&[done.stdout.clone(), done.stderr.clone()].concat()).into_owned()
}

/// One line of the doctor.
fn check(mut doctor: Command, name: &str) -> Value {
    let done = doctor.output().expect("to run fnctr");
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let checks = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let found = checks.into_iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in\n{out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_frozen_killed_and_removed_where_no_file_can_be_made() {
    let Some(stage) = Stage::set("containers_are_frozen_killed_and_removed_where_no_file").await else {
        return;
    };
    let root = stage.real.dir().join("cli");
    let small = Small::mount(&root, "size=1m,nr_inodes=40");
    for id in ["a", "b", "c"] {
        ok(fnctr(
            &stage,
            &["run", "--detach", "--name", id, "busybox", "sleep", "600"],
        ));
    }
    drop(fs::remove_dir_all(root.join("fifos")));
    small.fill();
    let doctor = check(fnctr(&stage, &["--json", "doctor"]), "run dir");
    assert_eq!(doctor["status"], "bad", "{doctor}");
    let mend = doctor["mend"].as_str().expect("a remedy");
    assert_eq!(mend, format!("mount -o remount,nr_inodes=0 {}", root.display()));
    for command in [
        ["freeze", "a"].as_slice(),
        &["thaw", "a"],
        &["kill", "a"],
        &["rm", "--force", "a"],
    ] {
        ok(fnctr(&stage, command));
    }
    small.read_only();
    let doctor = check(fnctr(&stage, &["--json", "doctor"]), "run dir");
    assert_eq!(doctor["mend"], format!("mount -o remount,rw {}", root.display()));
    for command in [
        ["freeze", "b"].as_slice(),
        &["thaw", "b"],
        &["kill", "b"],
        &["rm", "--force", "b"],
    ] {
        ok(fnctr(&stage, command));
    }
    // A new container needs files, and says which.
    let refused = fnctr(&stage, &["run", "busybox", "true"])
        .output()
        .expect("to run fnctr");
    assert_eq!(refused.status.code(), Some(125));
    assert!(
        said(&refused).contains("Read-only file system"),
        "{}",
        said(&refused)
    );
    ok(fnctr(&stage, &["rm", "--force", "c"]));
    drop(small);
    stage.strike().await;
}

#[test]
fn a_private_containerd_that_runs_is_shared_where_no_file_can_be_made() {
    if !crate::real::available("a_private_containerd_that_runs_is_shared") {
        return;
    }
    let dir = tempfile::Builder::new()
        .prefix("fnctr-f")
        .tempdir()
        .expect("a directory");
    let root = dir.path().canonicalize().expect("a path").join("r");
    let small = Small::mount(&root, "size=200m,nr_inodes=4000,mode=700");
    let archive = crate::image::busybox(&root).display().to_string();
    let fnctr = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
        command.arg("--embedded").arg("--root").arg(&root).args(args);
        command.stdin(Stdio::null());
        command
    };
    ok(fnctr(&["load", &archive]));
    let mut run = fnctr(&[
        "run",
        "--name",
        "a",
        "busybox",
        "sh",
        "-c",
        "echo up; exec sleep 600",
    ]);
    let mut run = run
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("to run fnctr");
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(run.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
    small.fill();
    ok(fnctr(&["freeze", "a"]));
    ok(fnctr(&["thaw", "a"]));
    ok(fnctr(&["kill", "a"]));
    assert_eq!(run.wait().expect("to end").code(), Some(137));
    assert_eq!(crate::cli::private_containerd(&root), Vec::<i32>::new());
}
