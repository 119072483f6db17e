//! The command from outside: exit codes, JSON, and one sentence when something is wrong.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::world::Stage;

pub(crate) fn fnctr(stage: &Stage, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
    command
        .arg("--address")
        .arg(stage.real.address())
        .args(["--namespace", stage.real.namespace()])
        .args(["--cgroup-parent", crate::world::cgroup_parent()])
        .arg("--root")
        .arg(stage.real.dir().join("cli"));
    if std::env::var_os("FNCTR_TEST_SYSTEMD").is_some() {
        command.args(["--cgroup-driver", "systemd"]);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(stage: &Stage, args: &[&str]) -> Output {
    fnctr(stage, args).output().expect("to run fnctr")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn run_exits_with_the_functions_code_and_says_why_otherwise() {
    let Some(stage) = Stage::set("run_exits_with_the_functions_code").await else {
        return;
    };
    let cases: &[(&[&str], i32, &str, &str)] = &[
        (
            &["run", "busybox", "echo", "hello  world"],
            0,
            "hello  world\n",
            "",
        ),
        (
            &["run", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"],
            7,
            "out\n",
            "err\n",
        ),
        (
            &["run", "--timeout", "300ms", "busybox", "sleep", "60"],
            124,
            "",
            "it had not ended after 300ms",
        ),
        (
            &["run", "--memory", "16m", "busybox", "tail", "/dev/zero"],
            137,
            "",
            "out of memory: the container's own limit of 16m was hit",
        ),
        (&["run", "busybox", "nosuch"], 127, "", "\"nosuch\" was not found"),
        (&["run", "nobody/home", "true"], 125, "", "nobody/home"),
        (&["run", "--memory", "lots", "busybox", "true"], 125, "", "lots"),
        (
            &[
                "run",
                "-e",
                "A=1",
                "-e",
                "B=2 3",
                "busybox",
                "sh",
                "-c",
                "echo $A $B",
            ],
            0,
            "1 2 3\n",
            "",
        ),
    ];
    for (args, code, stdout, stderr) in cases {
        let done = run(&stage, args);
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert_eq!(done.status.code(), Some(*code), "{args:?}\n{out}\n{err}");
        assert_eq!(out, *stdout, "{args:?}\n{err}");
        assert!(err.contains(stderr), "{args:?}: {err}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_json_ends_with_one_object() {
    let Some(stage) = Stage::set("run_json_ends_with_one_object").await else {
        return;
    };
    let done = run(
        &stage,
        &["--json", "run", "busybox", "sh", "-c", "echo out; exit 3"],
    );
    let out = text(&done.stdout);
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(out.lines().next(), Some("out"));
    assert_eq!(last["status"], "error");
    assert_eq!(last["exit_code"], 3);
    assert_eq!(last["oom"], false);
    assert_eq!(last["error"], "container exit code 3");
    for phase in ["validate", "create", "run", "wait", "close"] {
        assert!(last["ms"][phase].is_number(), "{last}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_container_is_listed_frozen_thawed_killed_and_removed() {
    let Some(stage) = Stage::set("a_detached_container").await else {
        return;
    };
    let ok = |args: &[&str]| {
        let done = run(&stage, args);
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        text(&done.stdout)
    };
    let state = || {
        let line = ok(&["--json", "ps", "--all"]);
        let row: Value = serde_json::from_str(line.lines().next().unwrap_or("null")).expect("JSON");
        row["state"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(
        ok(&["run", "--detach", "--name", "d1", "busybox", "sleep", "60"]),
        "d1\n"
    );
    assert_eq!(state(), "running");
    assert!(ok(&["freeze", "d1"]).starts_with("froze d1 in"));
    assert_eq!(state(), "frozen");
    ok(&["freeze", "d1"]);
    assert!(ok(&["thaw", "d1"]).starts_with("thawed d1 in"));
    assert_eq!(state(), "running");
    let inspected: Value = serde_json::from_str(&ok(&["inspect", "d1"])).expect("JSON");
    assert_eq!(inspected["command"], "sleep 60");
    assert_eq!(inspected["spec"]["process"]["user"]["uid"], 1000);
    let refused = run(&stage, &["rm", "d1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("--force"),
        "{}",
        text(&refused.stderr)
    );
    ok(&["freeze", "d1"]);
    ok(&["kill", "d1"]);
    for _ in 0..100 {
        if state() == "exited" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(state(), "exited");
    assert_eq!(ok(&["rm", "d1"]), "d1\n");
    assert_eq!(state(), "none");
    assert_eq!(run(&stage, &["rm", "d1"]).status.code(), Some(1));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_passed_on_to_its_end() {
    use std::io::Write as _;

    let Some(stage) = Stage::set("standard_input_is_passed_on").await else {
        return;
    };
    let mut child = fnctr(&stage, &["run", "-i", "busybox", "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("to run fnctr");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&vec![b'x'; 1 << 20]).expect("to write");
    drop(stdin);
    let done = child.wait_with_output().expect("to end");
    assert_eq!(text(&done.stdout).trim(), "1048576");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_function() {
    use std::io::{BufRead as _, BufReader};

    let Some(stage) = Stage::set("a_reader_that_goes_away").await else {
        return;
    };
    let mut child = fnctr(&stage, &["run", "busybox", "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("to run fnctr");
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "y\n");
    drop(reader);
    // 128 + SIGPIPE, as a shell tells it of any program.
    assert_eq!(child.wait().expect("to end").code(), Some(141));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signals_at_once_are_one_wish_and_leave_nothing() {
    use nix::sys::signal::{Signal, kill};

    let Some(stage) = Stage::set("two_signals_at_once").await else {
        return;
    };
    let mut child = fnctr(&stage, &["run", "--name", "d1", "busybox", "sleep", "60"])
        .spawn()
        .expect("to run fnctr");
    for _ in 0..200 {
        if text(&run(&stage, &["--json", "ps"]).stdout).contains("running") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGTERM).expect("to signal");
    kill(pid, Signal::SIGINT).expect("to signal");
    let code = child.wait().expect("to end").code();
    assert!(matches!(code, Some(143 | 130)), "{code:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_the_image_is_the_functions() {
    let Some(stage) = Stage::set("what_follows_the_image").await else {
        return;
    };
    let done = run(&stage, &["run", "busybox", "echo", "-d", "--json", "--", "-i"]);
    assert_eq!(text(&done.stdout), "-d --json -- -i\n");
    let refused = run(&stage, &["--json", "run", "--memory", "lots", "busybox"]);
    let value: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(value["kind"], "usage");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_benchmarks_print_their_figures() {
    let Some(stage) = Stage::set("the_benchmarks_print_their_figures").await else {
        return;
    };
    let json = |args: &[&str]| -> Value {
        let done = run(&stage, args);
        assert!(
            done.status.success(),
            "{args:?}: {}{}",
            text(&done.stdout),
            text(&done.stderr)
        );
        serde_json::from_slice(&done.stdout).expect("JSON")
    };
    let freeze = json(&["--json", "bench", "freeze", "--rounds", "10", "--procs", "3"]);
    for kind in [
        "freeze",
        "thaw",
        "raw_freeze",
        "raw_thaw",
        "pause_rpc",
        "resume_rpc",
    ] {
        assert!(
            freeze[kind]["p50_us"].as_f64().is_some_and(|us| us > 0.0),
            "{freeze}"
        );
        assert!(freeze[kind]["p99_us"].is_number(), "{freeze}");
    }
    let life = json(&["--json", "bench", "lifecycle", "--rounds", "3", "--parallel", "5"]);
    // On a machine where the reply to Tasks/Wait is slow, Tasks/Get is asked beside it.
    let kinds = life["rpcs"].as_object().expect("calls").keys();
    assert_eq!(kinds.filter(|kind| *kind != "Tasks/Get").count(), 9, "{life}");
    for kind in ["total", "rpc_sum", "overhead"] {
        assert!(life[kind]["p50_ms"].is_number(), "{life}");
    }
    assert_eq!(life["parallel"]["containers"], 5);
    let idle = json(&["--json", "bench", "idle", "--containers", "2", "--seconds", "1"]);
    let rows = idle["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3, "{idle}");
    for row in rows {
        assert!(
            row["cpu_percent"].is_number() && row["life_ms"]["p50"].is_number(),
            "{idle}"
        );
    }
    stage.strike().await;
}

/// The process ids of the containerd that keeps its configuration below a directory.
pub(crate) fn private_containerd(root: &std::path::Path) -> Vec<i32> {
    let config = root.join("containerd.toml").display().to_string();
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words
                .first()
                .is_some_and(|program| program.ends_with(b"containerd"))
                && words.contains(&config.as_bytes())
        })
        .collect()
}

#[test]
fn a_private_containerd_that_dies_is_started_again_under_a_running_function() {
    use nix::sys::signal::{Signal, kill};

    if !crate::real::available("a_private_containerd_that_dies") {
        return;
    }
    let root = tempfile::Builder::new()
        .prefix("fnctr-e")
        .tempdir()
        .expect("a directory");
    let path = root.path().canonicalize().expect("a path");
    let archive = crate::image::busybox(&path);
    let fnctr = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
        command
            .arg("--embedded")
            .arg("--root")
            .arg(&path)
            .args(["--cgroup-parent", "/fnctr-e"])
            .args(args);
        command.stdin(Stdio::null());
        command
    };
    let loaded = fnctr(&["load", &archive.display().to_string()])
        .output()
        .expect("to run fnctr");
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    let mut child = fnctr(&[
        "run",
        "busybox",
        "sh",
        "-c",
        "sleep 0.5; echo started; sleep 3; exit 7",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .expect("to run fnctr");
    // By then fnctr has its answer to the start, and waits.
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
    for pid in private_containerd(&path) {
        kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("to kill");
    }
    assert_eq!(child.wait().expect("to end").code(), Some(7));
    assert_eq!(private_containerd(&path), Vec::<i32>::new());
    remove_cgroups("/fnctr-e");
}

/// Removes the empty parents of containers' cgroups.
pub(crate) fn remove_cgroups(parent: &str) {
    let top = std::path::Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).into_iter().flatten().flatten();
    for hierarchy in hierarchies.map(|entry| entry.path()).chain([top.to_owned()]) {
        let parent = hierarchy.join(parent.trim_start_matches('/'));
        drop(std::fs::remove_dir(parent.join("fnctr")));
        drop(std::fs::remove_dir(parent));
    }
}

/// A command on a private containerd of its own, with the test image in it.
pub(crate) fn private(path: &std::path::Path) -> impl Fn(&[&str]) -> Command {
    let archive = crate::image::busybox(path);
    let path = path.to_owned();
    let parent = format!("/fnctr-e{}", std::process::id());
    let fnctr = move |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
        command.arg("--embedded").arg("--root").arg(&path);
        command.args(["--cgroup-parent", &parent]).args(args);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let loaded = fnctr(&["load", &archive.display().to_string()]).output();
    let loaded = loaded.expect("to run fnctr");
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    fnctr
}

#[test]
fn what_a_killed_run_has_begun_is_removed_by_its_name_and_the_name_is_free() {
    if !crate::real::available("what_a_killed_run_has_begun") {
        return;
    }
    let root = tempfile::Builder::new().prefix("fnctr-e").tempdir();
    let root = root.expect("a directory");
    let path = root.path().canonicalize().expect("a path");
    let fnctr = private(&path);
    let parent = format!("fnctr-e{}", std::process::id());
    let cgroups = || -> Vec<_> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
        let below = [parent.clone(), format!("unified/{parent}")];
        let tops = hierarchies.map(|hierarchy| hierarchy.path().join(&parent));
        let all = tops.chain(below.map(|dir| std::path::Path::new("/sys/fs/cgroup").join(dir)));
        all.map(|dir| dir.join("fnctr/v"))
            .filter(|dir| dir.is_dir())
            .collect()
    };
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let until =
            tokio::time::Instant::now() + crate::patience::patient(std::time::Duration::from_secs(30));
        while !done() {
            assert!(tokio::time::Instant::now() < until, "{what}");
            std::thread::yield_now();
        }
    };
    for round in 0..5 {
        let run = ["run", "-d", "--name", "v", "busybox", "sleep", "1000"];
        let mut child = fnctr(&run).stdout(Stdio::null()).spawn().expect("to run fnctr");
        wait("a cgroup", &|| !cgroups().is_empty());
        child.kill().expect("to kill");
        child.wait().expect("to end");
        let removed = fnctr(&["rm", "-f", "v"]).output().expect("to run fnctr");
        assert!(removed.status.success(), "{round}: {}", text(&removed.stderr));
        assert_eq!(cgroups(), Vec::<std::path::PathBuf>::new(), "{round}");
        let shims = crate::real::shims(&path.join("containerd.sock"));
        assert!(shims.is_empty(), "{round}: {shims:?}");
        assert_eq!(private_containerd(&path), Vec::<i32>::new());
        assert_eq!(crate::real::mounts_under(&path), Vec::<std::path::PathBuf>::new());
        let again = fnctr(&["run", "--name", "v", "busybox", "true"]).output();
        let again = again.expect("to run fnctr");
        assert!(again.status.success(), "{round}: {}", text(&again.stderr));
    }
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    for dir in hierarchies.map(|hierarchy| hierarchy.path().join(&parent)) {
        assert!(!dir.join("fnctr").exists(), "{}", dir.display());
        drop(std::fs::remove_dir(dir));
    }
}
