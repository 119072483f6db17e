//! Containers that are kept after their end: created, started again and again, stopped, and found by later processes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fnctr::driver::Driver as _;
use serde_json::Value;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::cli::fnctr;
use crate::habits::{ok, refused};
use crate::patience::patient;
use crate::world::{Stage, ctx};

/// Counts its runs in the writable layer, and exits with the number.
const COUNTS: &str = "n=$(cat /n 2>/dev/null || echo 0); n=$((n + 1)); echo $n >/n; exit $n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(stage: &Stage, args: &[&str]) -> Output {
    fnctr(stage, args).output().expect("to run fnctr")
}

fn status(stage: &Stage, id: &str) -> String {
    let filter = format!("name={id}");
    ok(
        stage,
        &["ps", "-a", "--filter", &filter, "--format", "{{.Status}}"],
    )
    .trim()
    .to_owned()
}

fn inspected(stage: &Stage, id: &str) -> Value {
    serde_json::from_str(&ok(stage, &["--json", "inspect", id])).expect("JSON")
}

/// Tasks that containerd has, running or not.
fn tasks(stage: &Stage) -> Vec<String> {
    let listed = Command::new("ctr")
        .args(["--address", &stage.real.address().display().to_string()])
        .args(["--namespace", stage.real.namespace(), "tasks", "list", "--quiet"])
        .output()
        .expect("to run ctr");
    text(&listed.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_is_started_again_and_again_with_the_layer_that_it_had() {
    let Some(set) = Stage::set("what_was_created_is_started_again").await else {
        return;
    };
    let stage = &set;
    let words = [
        "create", "--name", "job", "--user", "0:0", "busybox", "sh", "-c", COUNTS,
    ];
    assert_eq!(ok(stage, &words), "job\n");
    assert_eq!(status(stage, "job"), "created");
    // As docker: what has never run is listed with -a alone.
    assert_eq!(ok(stage, &["ps", "-q"]), "");
    assert!(tasks(stage).is_empty());
    refused(stage, &["wait", "job"], 1, "has never run");
    refused(stage, &["kill", "job"], 1, "it is not running");
    refused(stage, &words, 1, "there is a container of this name");
    for n in ["1", "2", "3"] {
        assert_eq!(ok(stage, &["start", "job"]), "job\n");
        assert_eq!(ok(stage, &["wait", "job"]), format!("{n}\n"));
        assert_eq!(status(stage, "job"), format!("exited ({n})"));
    }
    let last = &inspected(stage, "job")["last_run"];
    assert_eq!(last["exit_code"], 3, "{last}");
    assert!(last["started"].as_str() < last["ended"].as_str(), "{last}");
    // systemd removes the cgroup, with the kernel's count of kills in it, before it can be read.
    let is_systemd = std::env::var_os("FNCTR_TEST_SYSTEMD").is_some();
    assert!(
        last["oom"] == false || is_systemd && last["oom"].is_null(),
        "{last}"
    );
    // Nothing of the run is left but what the record tells.
    assert!(tasks(stage).is_empty());
    assert_eq!(ok(stage, &["wait", "job"]), "3\n");
    assert_eq!(ok(stage, &["rm", "job"]), "job\n");
    refused(stage, &["start", "job"], 1, "no such container");
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_is_kept_and_a_restart_is_a_new_run() {
    let Some(set) = Stage::set("what_is_stopped_is_kept").await else {
        return;
    };
    let stage = &set;
    let started = |id: &str| {
        inspected(stage, id)["last_run"]["started"]
            .as_str()
            .map(str::to_owned)
    };
    let trap = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
    ok(
        stage,
        &["run", "-d", "--name", "web", "busybox", "sh", "-c", trap],
    );
    assert_eq!(ok(stage, &["start", "web"]), "web\n", "it runs already");
    let first = started("web").expect("a time");
    let pid = inspected(stage, "web")["pid"].clone();
    assert_eq!(ok(stage, &["stop", "web"]), "web\n");
    assert_eq!(status(stage, "web"), "exited (5)");
    assert!(tasks(stage).is_empty());
    assert_eq!(ok(stage, &["stop", "web"]), "web\n", "it is stopped already");
    assert_eq!(ok(stage, &["start", "web"]), "web\n");
    assert_eq!(status(stage, "web"), "running");
    let second = started("web").expect("a time");
    assert!(first < second, "{first} {second}");
    assert_ne!(pid, inspected(stage, "web")["pid"]);
    // A frozen one is thawed, so that it gets the signal.
    ok(stage, &["freeze", "web"]);
    assert_eq!(status(stage, "web"), "frozen");
    refused(
        stage,
        &["start", "web"],
        1,
        "container web is frozen: `fnctr thaw web`",
    );
    assert_eq!(ok(stage, &["restart", "web"]), "web\n");
    assert_eq!(status(stage, "web"), "running");
    assert!(second < started("web").expect("a time"));
    refused(stage, &["rm", "web"], 1, "web");
    ok(stage, &["kill", "web"]);
    assert_eq!(ok(stage, &["wait", "web"]), "137\n");
    ok(stage, &["restart", "web"]);
    assert_eq!(status(stage, "web"), "running");
    ok(stage, &["rm", "-f", "web"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_end_and_the_removal_can_be_waited_for() {
    let Some(set) = Stage::set("the_next_end_and_the_removal").await else {
        return;
    };
    let stage = &set;
    ok(
        stage,
        &[
            "create", "--name", "job", "--user", "0:0", "busybox", "sh", "-c", COUNTS,
        ],
    );
    ok(stage, &["create", "--name", "new", "busybox", "true"]);
    ok(stage, &["start", "job"]);
    assert_eq!(ok(stage, &["wait", "job"]), "1\n");
    let wait = |id: &str, condition| Beside::start(stage, &["wait", "--condition", condition, id]);
    let (next, removed) = (wait("job", "next-exit"), wait("job", "removed"));
    let (never, gone) = (wait("new", "removed"), wait("new", "next-exit"));
    // Until they are listening.
    tokio::time::sleep(Duration::from_secs(1)).await;
    ok(stage, &["start", "job"]);
    assert_eq!(next.hear(), "2");
    assert_eq!(next.end().0, Some(0));
    assert!(removed.lines.try_recv().is_err());
    ok(stage, &["rm", "job", "new"]);
    assert_eq!(removed.hear(), "2");
    assert_eq!(removed.end().0, Some(0));
    for (one, said) in [
        (never, "no exit code of it is known"),
        (gone, "was removed before it ended"),
    ] {
        let (code, _, err) = one.end();
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(said), "{err}");
    }
    // A removal that ends the run is an end, too, whose code is known.
    ok(stage, &["run", "-d", "--name", "runs", "busybox", "sleep", "600"]);
    let (next, removed) = (wait("runs", "next-exit"), wait("runs", "removed"));
    next.follows_events();
    removed.follows_events();
    ok(stage, &["rm", "-f", "runs"]);
    for one in [next, removed] {
        assert_eq!(one.hear(), "137");
        assert_eq!(one.end().0, Some(0));
    }
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_keeps_a_container_that_is_not_to_be_removed() {
    let Some(set) = Stage::set("run_keeps_a_container").await else {
        return;
    };
    let stage = &set;
    let words = [
        "run",
        "--rm=false",
        "--name",
        "kept",
        "--user",
        "0:0",
        "busybox",
        "sh",
        "-c",
    ];
    let said = run(
        stage,
        &[&words[..], &["echo said; echo more >&2; exit 3"]].concat(),
    );
    assert_eq!(said.status.code(), Some(3));
    assert_eq!(
        (text(&said.stdout), text(&said.stderr)),
        ("said\n".to_owned(), "more\n".to_owned())
    );
    assert_eq!(status(stage, "kept"), "exited (3)");
    assert!(tasks(stage).is_empty());
    ok(stage, &["start", "kept"]);
    assert_eq!(ok(stage, &["wait", "kept"]), "3\n");
    // As `docker container prune`: what has ended goes.
    ok(stage, &["container", "prune", "--force"]);
    assert_eq!(ok(stage, &["ps", "-aq"]), "");
    // What could not be started is not kept.
    refused(
        stage,
        &["run", "--rm=false", "--name", "gone", "busybox", "/nowhere"],
        127,
        "/nowhere",
    );
    assert_eq!(ok(stage, &["ps", "-aq"]), "");
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_platform_made_is_its_own_to_start() {
    let Some(set) = Stage::set("what_a_platform_made").await else {
        return;
    };
    let task = set.task("sleep 1000");
    let id = task.id.clone();
    let cookie = set
        .driver
        .create_cookie(&ctx(), std::sync::Arc::new(task))
        .await
        .expect("a cookie");
    assert!(!cookie.validate_image(&ctx()).await.expect("an image"));
    cookie.create_container(&ctx()).await.expect("a container");
    let running = cookie.run(&ctx()).await.expect("a run");
    for verb in ["restart", "stop"] {
        if verb == "restart" {
            refused(&set, &[verb, &id], 1, "it was not made to be kept");
            assert_eq!(status(&set, &id), "running");
        } else {
            ok(&set, &[verb, "--signal", "KILL", &id]);
        }
    }
    assert_eq!(running.wait(&ctx()).await.exit_code(), Some(137));
    refused(&set, &["start", &id], 1, "it was not made to be kept");
    cookie.close(&ctx()).await.expect("to close");
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_at_the_same_time_are_one_run() {
    let Some(set) = Stage::set("starts_at_the_same_time").await else {
        return;
    };
    let stage = &set;
    let script = "n=$(cat /n 2>/dev/null || echo 0); echo $((n + 1)) >/n; while :; do sleep 1; done";
    ok(
        stage,
        &[
            "create", "--name", "one", "--user", "0:0", "busybox", "sh", "-c", script,
        ],
    );
    for round in 1..=3 {
        let begun: Vec<Child> = (0..6)
            .map(|_| {
                let mut start = fnctr(stage, &["start", "one"]);
                start.stdout(Stdio::piped()).stderr(Stdio::piped());
                start.spawn().expect("to run fnctr")
            })
            .collect();
        for start in begun {
            let done = start.wait_with_output().expect("an end");
            assert!(done.status.success(), "round {round}: {}", text(&done.stderr));
        }
        assert_eq!(tasks(stage), ["one"]);
        let pid = inspected(stage, "one")["pid"].as_u64().expect("a pid");
        let until = Instant::now() + patient(Duration::from_secs(20));
        let counted = || std::fs::read_to_string(format!("/proc/{pid}/root/n")).unwrap_or_default();
        while counted().trim().is_empty() || counted().trim() == (round - 1).to_string() {
            assert!(Instant::now() < until, "round {round}: {:?}", counted());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(
            counted().trim(),
            round.to_string(),
            "one of them has run it again"
        );
        let stopped: Vec<_> = (0..3)
            .map(|_| {
                let mut stop = fnctr(stage, &["stop", "--signal", "KILL", "one"]);
                stop.stdout(Stdio::null()).stderr(Stdio::piped());
                stop.spawn().expect("to run fnctr")
            })
            .collect();
        for stop in stopped {
            let done = stop.wait_with_output().expect("an end");
            assert!(done.status.success(), "round {round}: {}", text(&done.stderr));
        }
        assert_eq!(status(stage, "one"), "exited (137)");
    }
    ok(stage, &["rm", "one"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_beside_a_removal_is_a_run_or_an_error_and_leaves_nothing() {
    let Some(set) = Stage::set("a_start_beside_a_removal").await else {
        return;
    };
    let stage = &set;
    let create = ["create", "--name", "one", "busybox", "sleep", "1000"];
    let begin = |words: &[&str]| {
        let mut command = fnctr(stage, words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("to run fnctr")
    };
    for round in 0..8_u64 {
        ok(stage, &create);
        let start = begin(&["start", "one"]);
        std::thread::sleep(Duration::from_millis(round * 12));
        let remove = match round % 2 {
            0 => begin(&["rm", "-f", "one"]),
            _ => begin(&["rm", "one"]),
        };
        let started = start.wait_with_output().expect("an end");
        let removed = remove.wait_with_output().expect("an end");
        let said = format!("{} / {}", text(&started.stderr), text(&removed.stderr));
        if round % 2 == 0 {
            assert!(removed.status.success(), "round {round}: {said}");
            assert_eq!(ok(stage, &["ps", "-aq"]), "", "round {round}: {said}");
            continue;
        }
        // Without force, a container that was started stays.
        assert!(
            started.status.success() != removed.status.success(),
            "round {round}: {said}"
        );
        if started.status.success() {
            assert_eq!(status(stage, "one"), "running", "round {round}: {said}");
            ok(stage, &["rm", "-f", "one"]);
        }
    }
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_the_container_as_it_was() {
    let Some(set) = Stage::set("a_start_that_fails").await else {
        return;
    };
    let stage = &set;
    let dir = stage.real.dir().join("mounted");
    std::fs::create_dir(&dir).expect("a directory");
    let volume = format!("{}:/d", dir.display());
    let words = [
        "create", "--name", "job", "--user", "0:0", "-v", &volume, "busybox", "sh", "-c",
    ];
    ok(stage, &[&words[..], &[COUNTS]].concat());
    let gone = || std::fs::remove_dir(&dir).expect("to remove it");
    gone();
    refused(stage, &["start", "job"], 1, &dir.display().to_string());
    assert_eq!(status(stage, "job"), "created");
    let why = inspected(stage, "job")["start_error"].clone();
    let why = why.as_str().expect("a reason");
    assert!(why.contains(&dir.display().to_string()), "{why}");
    std::fs::create_dir(&dir).expect("a directory");
    ok(stage, &["start", "job"]);
    assert_eq!(inspected(stage, "job")["start_error"], Value::Null);
    assert_eq!(ok(stage, &["wait", "job"]), "1\n");
    gone();
    refused(stage, &["start", "job"], 1, &dir.display().to_string());
    // How the last run went is still known.
    assert_eq!(status(stage, "job"), "exited (1)");
    assert!(tasks(stage).is_empty());
    std::fs::create_dir(&dir).expect("a directory");
    ok(stage, &["start", "job"]);
    assert_eq!(ok(stage, &["wait", "job"]), "2\n");
    ok(stage, &["rm", "job"]);
    gone();
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_killed_at_any_moment_can_be_repeated_and_leaves_nothing() {
    let Some(set) = Stage::set("a_start_that_is_killed").await else {
        return;
    };
    let stage = &set;
    ok(
        stage,
        &[
            "create", "--name", "job", "--user", "0:0", "busybox", "sh", "-c", COUNTS,
        ],
    );
    let began = Instant::now();
    ok(stage, &["start", "job"]);
    let usual = began.elapsed();
    assert_eq!(ok(stage, &["wait", "job"]), "1\n");
    let mut runs = 1;
    for moment in 0..16 {
        let mut start = fnctr(stage, &["start", "job"]);
        let mut start = start
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("to run fnctr");
        std::thread::sleep(usual * moment / 16);
        start.kill().expect("to kill it");
        start.wait().expect("an end");
        // Whatever the killed one has done: the next start runs it, or finds it running.
        let done = run(stage, &["start", "job"]);
        assert!(done.status.success(), "moment {moment}: {}", text(&done.stderr));
        let code: u32 = ok(stage, &["wait", "job"]).trim().parse().expect("a code");
        assert!(
            (runs + 1..=runs + 2).contains(&code),
            "moment {moment}: {code} after {runs}"
        );
        runs = code;
    }
    ok(stage, &["rm", "job"]);
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_whose_owner_was_killed_is_written_by_the_next_command() {
    let Some(set) = Stage::set("the_end_of_a_run_whose_owner").await else {
        return;
    };
    let stage = &set;
    let script = "echo up; until [ -e /go ]; do sleep 0.05; done; exit 6";
    let words = [
        "run",
        "--rm=false",
        "--name",
        "left",
        "--user",
        "0:0",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let mut owner = fnctr(stage, &words);
    let mut owner = owner.stdout(Stdio::piped()).spawn().expect("to run fnctr");
    let mut line = String::new();
    let mut out = BufReader::new(owner.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    owner.kill().expect("to kill it");
    owner.wait().expect("an end");
    assert_eq!(status(stage, "left"), "running, orphaned");
    let pid = inspected(stage, "left")["pid"].as_u64().expect("a pid");
    std::fs::write(format!("/proc/{pid}/root/go"), "").expect("to let it go");
    let until = Instant::now() + patient(Duration::from_secs(20));
    // The first command that finds it ended settles it: its task goes, and its code stays.
    while !(status(stage, "left") == "exited (6)" && tasks(stage).is_empty()) {
        assert!(
            Instant::now() < until,
            "{}, {:?}",
            status(stage, "left"),
            tasks(stage)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(inspected(stage, "left")["last_run"]["exit_code"], 6);
    ok(stage, &["start", "left"]);
    assert_eq!(ok(stage, &["wait", "left"]), "6\n");
    ok(stage, &["rm", "left"]);
    set.strike().await;
}
