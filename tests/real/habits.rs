//! What somebody who knows docker types: it works, or is refused by name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cli::fnctr;
use crate::world::Stage;

/// The exit code, what was printed, and what was said.
#[derive(Debug, PartialEq, Eq)]
struct Done(i32, String, String);

impl Done {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("no signal");
        Self(code, text(&output.stdout), text(&output.stderr))
    }
}

fn run(stage: &Stage, args: &[&str]) -> Done {
    Done::of(&fnctr(stage, args).output().expect("to run fnctr"))
}

#[track_caller]
pub(crate) fn ok(stage: &Stage, args: &[&str]) -> String {
    let Done(code, out, err) = run(stage, args);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out
}

#[track_caller]
pub(crate) fn refused(stage: &Stage, args: &[&str], code: i32, said: &str) {
    let done = run(stage, args);
    assert!(
        done.0 == code && done.1.is_empty() && done.2.contains(said),
        "{args:?}: {done:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_run_are_those_of_docker_or_are_refused_by_name() {
    let Some(set) = Stage::set("options_of_run_are_those_of_docker").await else {
        return;
    };
    let stage = &set;
    // Short ones may be joined, with their values and with each other.
    let env = "echo $A-$B; ulimit -n; cat /proc/self/cgroup >/dev/null";
    assert_eq!(
        ok(
            stage,
            &[
                "run",
                "--rm",
                "-m64m",
                "-eA=1",
                "-eB=2",
                "--ulimit",
                "nofile=100:200",
                "busybox",
                "sh",
                "-c",
                env
            ]
        ),
        "1-2\n100\n"
    );
    // What follows the image is the function's, whatever it looks like.
    assert_eq!(
        ok(stage, &["run", "busybox", "echo", "--memory", "-m64m", "--json"]),
        "--memory -m64m --json\n"
    );
    refused(
        stage,
        &["run", "--privileged", "busybox", "true"],
        125,
        "`fnctr run` has no --privileged: ",
    );
    refused(
        stage,
        &["--runtime", "/bin/true", "run", "busybox", "true"],
        125,
        "\"/bin/true\" reported neither a process nor an error: it is not an OCI runtime",
    );
    refused(stage, &["diff", "web"], 2, "there is no `fnctr diff`: ");
    refused(stage, &["run", "-m", "64", "busybox"], 125, "write 64m");
    refused(stage, &["run", "-z", "busybox", "true"], 125, "'-z'");
    refused(
        stage,
        &["run", "-it", "busybox", "sh"],
        125,
        "-i with --tty (-t) needs a terminal on standard input",
    );
    refused(stage, &["run", "--memory", "64m"], 125, "run needs an image");
    refused(
        stage,
        &["run", "-v", "data:/data:shared", "busybox", "true"],
        125,
        "\"shared\" is not an option of a volume",
    );
    refused(
        stage,
        &["run", "--ulimit", "files=1", "busybox", "true"],
        125,
        "\"files\" is not a limit",
    );
    refused(
        stage,
        &["run", "--label", "io.fnctr.engine=1", "busybox"],
        125,
        "only fnctr gives",
    );
    refused(stage, &["run", "-d", "--rm", "busybox", "true"], 125, "--rm");

    let who = "id -u; id -g; hostname; grep -c db.local /etc/hosts; stat -c %a /run/t; touch /run/t/x && echo wrote";
    let words = [
        "run",
        "--user",
        "7:8",
        "--hostname",
        "box",
        "--add-host",
        "db.local:10.9.8.7",
        "--tmpfs",
        "/run/t:size=1m,mode=1770,uid=7",
        "--read-only",
        "--tmpfs",
        "/tmp:size=64m,exec",
        "busybox",
        "sh",
        "-c",
        who,
    ];
    assert_eq!(ok(stage, &words), "7\n8\nbox\n1\n1770\nwrote\n");
    let hosts = ok(
        stage,
        &[
            "run",
            "--add-host",
            "db.local:10.9.8.7",
            "busybox",
            "grep",
            "db.local",
            "/etc/hosts",
        ],
    );
    assert_eq!(hosts, "10.9.8.7\tdb.local\n");
    let exec = "cp /bin/busybox /tmp/echo && /tmp/echo ran";
    assert_eq!(
        ok(
            stage,
            &[
                "run",
                "--read-only",
                "--tmpfs",
                "/tmp:exec",
                "busybox",
                "sh",
                "-c",
                exec
            ]
        ),
        "ran\n"
    );
    assert_eq!(
        ok(stage, &["run", "--entrypoint", "/bin/echo", "busybox", "a", "b"]),
        "a b\n"
    );
    assert_eq!(
        ok(stage, &["run", "--init=false", "busybox", "sh", "-c", "echo $$"]),
        "1\n"
    );
    assert_ne!(
        ok(stage, &["run", "--init", "busybox", "sh", "-c", "echo $$"]),
        "1\n"
    );
    let here = stage.real.dir().join("here");
    std::fs::create_dir(&here).expect("to make it");
    std::fs::write(here.join("f"), "in\n").expect("to write it");
    let mounted = format!("{}:/h:ro", here.display());
    assert_eq!(
        ok(
            stage,
            &[
                "run",
                "-v",
                &mounted,
                "busybox",
                "sh",
                "-c",
                "cat /h/f; touch /h/g 2>/dev/null || echo ro"
            ]
        ),
        "in\nro\n"
    );

    // The file names the container, and what it names is not overwritten.
    let cid = stage.real.dir().join("cid");
    let cid = cid.to_str().expect("text");
    ok(
        stage,
        &["run", "--cidfile", cid, "--name", "c1", "busybox", "true"],
    );
    assert_eq!(std::fs::read_to_string(cid).expect("to read it"), "c1");
    refused(
        stage,
        &["run", "--cidfile", cid, "busybox", "true"],
        125,
        "exists: another container may be running",
    );
    let other = stage.real.dir().join("other");
    let other = other.to_str().expect("text");
    refused(
        stage,
        &["run", "--cidfile", other, "busybox", "nosuch"],
        127,
        "nosuch",
    );
    assert!(!std::path::Path::new(other).exists());

    let id = ok(stage, &["images", "--quiet"]);
    assert_eq!(ok(stage, &["run", id.trim(), "echo", "by id"]), "by id\n");
    let whole = ok(stage, &["images", "--quiet", "--no-trunc"]);
    assert_eq!(ok(stage, &["run", whole.trim(), "echo", "by id"]), "by id\n");
    assert!(ok(stage, &["ps", "--all", "--quiet"]).is_empty());
    std::fs::remove_dir_all(&here).expect("to remove it");
    std::fs::remove_file(cid).expect("to remove it");
    set.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_executed_is_126_and_what_is_not_there_127() {
    let Some(stage) = Stage::set("what_cannot_be_executed").await else {
        return;
    };
    let run = |args: &[&str]| run(&stage, args).0;
    assert_eq!(run(&["run", "busybox", "nosuch"]), 127);
    assert_eq!(run(&["run", "busybox", "/bin/nosuch"]), 127);
    assert_eq!(run(&["run", "busybox", "/etc"]), 126);
    assert_eq!(run(&["run", "busybox", "/etc/passwd"]), 126);
    assert_eq!(run(&["run", "busybox", "sh", "-c", "exit 126"]), 126);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_not_utf8_are_refused_by_name() {
    let Some(stage) = Stage::set("words_that_are_not_utf8").await else {
        return;
    };
    let broken = || std::ffi::OsString::from_vec(b"\xe9t\xe9".to_vec());
    let with = |args: &[&str], then: std::ffi::OsString| {
        let mut command = fnctr(&stage, args);
        command.arg(then);
        Done::of(&command.output().expect("to run fnctr"))
    };
    let done = with(&["run", "busybox", "echo"], broken());
    assert!(
        done.0 == 125 && done.2.contains("argument 2 of the command"),
        "{done:?}"
    );
    let done = with(&["run", "--workdir"], broken());
    assert!(
        done.0 == 125 && done.2.contains("\\xE9t\\xE9\" is not UTF-8"),
        "{done:?}"
    );
    let done = with(&["inspect"], broken());
    assert!(done.0 == 2 && done.2.contains("is not UTF-8"), "{done:?}");
    // A file may be called anything.
    let done = with(&["load"], broken());
    assert!(done.0 == 1 && done.2.contains("No such file"), "{done:?}");
    let mut command = fnctr(&stage, &["run", "-e", "WRONG", "busybox", "true"]);
    let done = Done::of(&command.env("WRONG", broken()).output().expect("to run fnctr"));
    assert!(
        done.0 == 125 && done.2.contains("variable WRONG is not UTF-8"),
        "{done:?}"
    );
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_formatted_and_what_has_ended_is_pruned() {
    let Some(stage) = Stage::set("lists_are_filtered").await else {
        return;
    };
    let ok = |args: &[&str]| ok(&stage, args);
    ok(&[
        "run", "-d", "--name", "runs", "-l", "team=red", "busybox", "sleep", "600",
    ]);
    ok(&[
        "run",
        "-d",
        "--name",
        "ended",
        "-l",
        "team=blue",
        "busybox",
        "sh",
        "-c",
        "exit 3",
    ]);
    let gone = crate::patience::patient(Duration::from_secs(20));
    let until = tokio::time::Instant::now() + gone;
    while !ok(&["ps", "-a", "--format", "{{.ID}} {{.Status}}"]).contains("ended exited (3)") {
        assert!(tokio::time::Instant::now() < until, "it has not ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ok(&["ps", "-q"]), "runs\n");
    assert_eq!(ok(&["ps", "-aq"]), "ended\nruns\n");
    assert_eq!(ok(&["ps", "-aq", "-f", "label=team=blue"]), "ended\n");
    assert_eq!(ok(&["ps", "-q", "--filter", "status=exited"]), "ended\n");
    assert_eq!(
        ok(&["ps", "-q", "--filter", "name=run", "--filter", "ancestor=busybox"]),
        "runs\n"
    );
    assert_eq!(ok(&["ps", "-q", "--filter", "ancestor=other"]), "");
    assert_eq!(
        ok(&[
            "container",
            "ls",
            "--format",
            "table {{.Names}}\\t{{.State}}\\t{{.Label \"team\"}}"
        ]),
        "NAMES  STATE    team\nruns   running  red\n"
    );
    let long = "true; ".repeat(20) + "sleep 600";
    ok(&["run", "-d", "--name", "long", "busybox", "sh", "-c", &long]);
    assert!(ok(&["ps", "--no-trunc"]).contains(&long) && !ok(&["ps"]).contains(&long));
    let id = ok(&["images", "-q"]);
    let listed = ok(&[
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.ID}}",
        "--filter",
        "reference=busy*",
    ]);
    assert_eq!(listed, format!("busybox:latest {id}"));
    assert_eq!(ok(&["image", "ls", "-q", "--filter", "reference=other"]), "");
    refused(
        &stage,
        &["ps", "--filter", "size=1"],
        1,
        "--filter has no \"size\"",
    );
    refused(&stage, &["ps", "--format", "{{.Size}}"], 1, "{{.Size}}");

    // Nothing goes without a yes, and nothing that runs goes at all.
    let Done(code, out, err) = run(&stage, &["container", "prune"]);
    assert!(
        code == 1 && out.is_empty() && err.contains("[y/N]") && err.contains("not yes"),
        "{out}{err}"
    );
    let mut asked = fnctr(&stage, &["container", "prune"]);
    let mut asked = asked
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("to run fnctr");
    asked
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"y\n")
        .expect("to answer");
    let out = asked.wait_with_output().expect("an end").stdout;
    assert_eq!(String::from_utf8_lossy(&out), "ended\n");
    refused(&stage, &["rm", "--all", "runs"], 2, "--all");
    assert_eq!(run(&stage, &["rm", "--all"]).0, 1, "they run");
    assert_eq!(ok(&["rm", "--all", "--force"]), "long\nruns\n");
    assert_eq!(ok(&["container", "prune", "-f"]), "");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_stopped_and_waited_for_by_name_several_at_once() {
    let Some(stage) = Stage::set("containers_are_stopped").await else {
        return;
    };
    let ok = |args: &[&str]| ok(&stage, args);
    let dir = tempfile::tempdir().expect("a directory");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), everybody).expect("to open it");
    let volume = format!("{}:/d:rw,z", dir.path().display());
    ok(&["run", "-d", "--name", "heeds", "busybox", "sleep", "600"]);
    let deaf = "trap '' TERM; touch /d/ready; while :; do sleep 0.1; done";
    ok(&[
        "run", "-d", "--name", "deaf", "-v", &volume, "busybox", "sh", "-c", deaf,
    ]);
    let until = tokio::time::Instant::now() + crate::patience::patient(Duration::from_secs(20));
    while !dir.path().join("ready").exists() {
        assert!(tokio::time::Instant::now() < until, "it never came to its trap");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused(
        &stage,
        &["run", "--name", "deaf", "busybox", "true"],
        125,
        "there is a container of this name",
    );
    // A signal reaches what is frozen, which is thawed first.
    ok(&["pause", "heeds", "deaf"]);
    refused(&stage, &["rm", "heeds"], 1, "is frozen: stop it first");
    assert_eq!(ok(&["stop", "--timeout", "1s", "heeds", "deaf"]), "heeds\ndeaf\n");
    assert_eq!(ok(&["wait", "heeds", "deaf"]), "143\n137\n");
    // As it is already.
    assert_eq!(ok(&["container", "stop", "heeds"]), "heeds\n");
    let done = run(&stage, &["wait", "nobody", "heeds"]);
    assert!(
        done.0 == 1 && done.1 == "143\n" && done.2.contains("no such container"),
        "{done:?}"
    );
    refused(
        &stage,
        &["run", "--name", "deaf", "busybox", "true"],
        125,
        "there is a container of this name",
    );
    assert_eq!(ok(&["rm", "-v", "heeds", "deaf"]), "heeds\ndeaf\n");
    stage.strike().await;
}

/// A function that says when it can take signals, and what it does at SIGTERM.
fn listening(stage: &Stage, more: &[&str], at_term: &str) -> std::process::Child {
    let script = format!("trap '{at_term}' TERM; echo ready; while :; do sleep 0.1; done");
    let mut args = vec!["run"];
    args.extend(more);
    args.extend(["busybox", "sh", "-c", &script]);
    let mut command = fnctr(stage, &args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("to run fnctr");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_passed_on_with_time_to_end_and_the_second_kills() {
    let Some(stage) = Stage::set("signals_are_passed_on").await else {
        return;
    };
    let send = |child: &std::process::Child, signal| {
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("to send it");
    };
    let code = |mut child: std::process::Child| child.wait().expect("an end").code();
    // A handler has its time, and its exit code is the function's.
    let child = listening(&stage, &[], "sleep 1; exit 9");
    send(&child, Signal::SIGTERM);
    assert_eq!(code(child), Some(9));
    // Who does not listen is killed.
    let child = listening(&stage, &["--stop-timeout", "500ms"], "");
    send(&child, Signal::SIGTERM);
    assert_eq!(code(child), Some(137));
    let child = listening(&stage, &["--stop-timeout", "1h"], "");
    send(&child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_secs(1));
    send(&child, Signal::SIGINT);
    assert_eq!(code(child), Some(137));
    // A limit of time asks first.
    let child = listening(&stage, &["--timeout", "2s"], "echo bye >&2; exit 0");
    let done = child.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(124), "{said}");
    assert!(
        said.contains("bye\n") && said.contains("had not ended after 2s"),
        "{said}"
    );
    let child = listening(&stage, &["--timeout", "2s", "--stop-timeout", "500ms"], "");
    assert_eq!(code(child), Some(124));
    stage.strike().await;
}

#[test]
fn help_completions_and_manual_are_there_without_a_host() {
    let fnctr = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
        let output = command.args(args).env("FNCTR_CONFIG", "").output();
        Done::of(&output.expect("to run fnctr"))
    };
    let Done(code, help, _) = fnctr(&["run", "--help"]);
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("no {text}: {help}"));
    assert_eq!(code, 0);
    assert!(at("--memory") < at("Global options:") && at("Global options:") < at("--embedded"));
    assert!(at("--embedded") < at("Exit codes:") && help.contains("[env: FNCTR_ROOT]"));
    for shell in ["bash", "zsh", "fish"] {
        let Done(code, script, _) = fnctr(&["completion", shell]);
        assert!(code == 0 && script.contains("stop-timeout"), "{shell}");
    }
    let Done(code, manual, _) = fnctr(&["man"]);
    assert!(code == 0 && manual.contains(".TH fnctr 1"), "{manual}");
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(fnctr(&["man", "--dir", dir.path().to_str().expect("text")]).0, 0);
    assert!(dir.path().join("fnctr-run.1").exists());
    assert!(fnctr(&["--version"]).1.starts_with("fnctr 0."));
    let wrong = dir.path().join("config.toml");
    std::fs::write(&wrong, "rot = \"/x\"\n").expect("to write it");
    let done = fnctr(&["--config", wrong.to_str().expect("text"), "network", "ls"]);
    assert!(done.0 == 2 && done.2.contains("there is no \"rot\""), "{done:?}");
    let done = fnctr(&[
        "--json",
        "--config",
        wrong.to_str().expect("text"),
        "network",
        "ls",
    ]);
    let value: Value = serde_json::from_str(&done.1).expect("JSON");
    assert_eq!(value["kind"], "usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gets_another_name_and_shows_its_processes() {
    let Some(set) = Stage::set("rename_and_top").await else {
        return;
    };
    let stage = &set;
    ok(stage, &["run", "-d", "--name", "old", "busybox", "sleep", "1234"]);
    assert_eq!(ok(stage, &["rename", "old", "new_1"]), "new_1\n");
    assert_eq!(ok(stage, &["ps", "--format", "{{.Names}}"]), "new_1\n");
    let shown = ok(stage, &["top", "new_1"]);
    assert!(
        shown.starts_with("UID") && shown.contains("sleep 1234"),
        "{shown}"
    );
    let shown = ok(stage, &["--json", "top", "new_1", "-o", "pid,args"]);
    assert!(
        shown.lines().all(|line| line.starts_with("{\"COMMAND\":")),
        "{shown}"
    );
    refused(stage, &["top", "new_1", "-o", "args"], 1, "no column PID");
    refused(stage, &["rename", "new_1", "a b"], 2, "container name");
    ok(stage, &["run", "-d", "--name", "other", "busybox", "sleep", "1"]);
    refused(stage, &["rename", "new_1", "other"], 1, "name");
    ok(stage, &["rm", "-f", "new_1", "other"]);
    set.strike().await;
}
