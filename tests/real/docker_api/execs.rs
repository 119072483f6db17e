//! Execs: additional processes in containers that run.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Docker, output, say, with_body};
use crate::cli::fnctr;
use crate::patience::patient;
use crate::world::Stage;

/// Creates an exec, and returns its id.
#[track_caller]
fn created(docker: &Docker, container: &str, body: &Value) -> String {
    let said = docker.post(&format!("/containers/{container}/exec"), body);
    assert_eq!(said.status, 201, "{said:?}");
    said.json()["Id"].as_str().expect("an id").to_owned()
}

/// An exec whose output is attached.
#[track_caller]
fn of(docker: &Docker, container: &str, command: &[&str]) -> String {
    created(
        docker,
        container,
        &json!({ "Cmd": command, "AttachStdout": true, "AttachStderr": true }),
    )
}

/// Starts an exec, and returns the connection behind the head of the answer.
#[track_caller]
fn started(docker: &Docker, id: &str) -> UnixStream {
    docker.upgraded(&format!("/exec/{id}/start"), r#"{"Detach":false,"Tty":false}"#)
}

fn inspected(docker: &Docker, id: &str) -> Value {
    docker.get(&format!("/exec/{id}/json")).json()
}

/// Runs a command to its end: its output, its error output, and its exit code at the moment that the output has ended.
#[track_caller]
pub(super) fn ran(docker: &Docker, container: &str, command: &[&str]) -> (String, String, Value) {
    let id = of(docker, container, command);
    let (out, err) = output(started(docker, &id));
    (out, err, inspected(docker, &id)["ExitCode"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_has_streams_and_a_code_that_is_known_when_they_end() {
    let Some(stage) = Stage::set("docker_exec").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create(
        "c1",
        json!({ "Cmd": ["sleep", "1000"], "Env": ["A=1", "B=2"], "WorkingDir": "/tmp", "HostConfig": { "Init": true },
            "Labels": { "command": "a label of the user" } }),
    );
    let refused = docker.post("/containers/c1/exec", &json!({ "Cmd": ["true"] }));
    assert_eq!(
        (refused.status, refused.message()),
        (409, format!("container {id} is not running"))
    );
    docker.done("POST", "/containers/c1/start");

    let script = "echo out; echo err >&2; pwd; exit 9";
    let exec = of(&docker, "c1", &["sh", "-c", script]);
    let before = inspected(&docker, &exec);
    assert_eq!(
        (
            &before["Running"],
            &before["ExitCode"],
            &before["Pid"],
            &before["ContainerID"]
        ),
        (&json!(false), &Value::Null, &json!(0), &json!(id)),
        "{before}"
    );
    assert_eq!(before["ProcessConfig"]["entrypoint"], "sh");
    assert_eq!(before["ProcessConfig"]["arguments"], json!(["-c", script]));
    let (out, err) = output(started(&docker, &exec));
    assert_eq!((out.as_str(), err.as_str()), ("out\n/tmp\n", "err\n"));
    let after = inspected(&docker, &exec);
    assert_eq!(
        (&after["Running"], &after["ExitCode"]),
        (&json!(false), &json!(9)),
        "{after}"
    );
    let again = docker.raw(&with_body(&format!("/exec/{exec}/start"), r#"{"Detach":true}"#));
    assert_eq!(
        (again.status, again.message().contains("has already run")),
        (409, true),
        "{again:?}"
    );
    let (out, _) = output(started(&docker, &exec));
    assert_eq!(out, format!("exec command {exec} has already run\r\n"));

    // Many at once, each with its own code.
    let script = |code| format!("echo {code}; exit {code}");
    let execs: Vec<_> = (0..8)
        .map(|code| of(&docker, "c1", &["sh", "-c", &script(code)]))
        .collect();
    let streams: Vec<_> = execs.iter().map(|exec| started(&docker, exec)).collect();
    let ended: Vec<_> = streams.into_iter().map(output).collect();
    let codes: Vec<_> = execs
        .iter()
        .map(|exec| inspected(&docker, exec)["ExitCode"].clone())
        .collect();
    assert_eq!(
        ended.iter().map(|(out, _)| out.trim()).collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4", "5", "6", "7"]
    );
    assert_eq!(json!(codes), json!([0, 1, 2, 3, 4, 5, 6, 7]));

    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs() + 1;
    let filters =
        "%7B%22container%22%3A%5B%22c1%22%5D%2C%22event%22%3A%5B%22exec_start%22%2C%22exec_die%22%5D%7D";
    let events = docker
        .get(&format!("/events?since=0&until={now}&filters={filters}"))
        .text();
    let (first, all) = (events.lines().collect::<Vec<_>>(), 2 * 9);
    assert_eq!(first.len(), all, "{events}");
    let (started, ended) = (first[0], first[1]);
    assert!(
        started.contains("\"Action\":\"exec_start: sh -c echo out;") && started.contains(&exec),
        "{started}"
    );
    assert!(
        events.lines().all(|event| event.contains("a label of the user")),
        "{events}"
    );
    assert!(
        ended.contains("\"Action\":\"exec_die\"") && ended.contains("\"exitCode\":\"9\""),
        "{ended}"
    );

    let listed = docker.get("/containers/c1/json").json();
    assert_eq!(listed["ExecIDs"], Value::Null, "{listed}");
    docker.done("DELETE", "/containers/c1?force=1");
    assert_eq!(docker.get(&format!("/exec/{exec}/json")).status, 404);
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_reads_its_input_to_the_end_and_has_its_user_variables_and_directory() {
    let Some(stage) = Stage::set("docker_exec_options").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create(
        "c1",
        json!({ "Cmd": ["sleep", "1000"], "Env": ["A=1", "B=2"], "HostConfig": { "Init": true } }),
    );
    docker.done("POST", "/containers/c1/start");
    let all = json!({ "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Cmd": ["cat"] });
    let exec = created(&docker, "c1", &all);
    let mut stream = started(&docker, &exec);
    let long = "x".repeat(300_000);
    let mut writer = stream.try_clone().expect("a second one");
    let text = long.clone();
    let fed = std::thread::spawn(move || say(&mut writer, &text));
    let wait = patient(Duration::from_secs(60));
    stream.set_read_timeout(Some(wait)).expect("a limit");
    let (out, _) = output(stream.try_clone().expect("a third one"));
    fed.join().expect("to feed");
    assert_eq!(out.len(), long.len());
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    assert_eq!(inspected(&docker, &exec)["ExitCode"], 0);

    let options = json!({
        "Cmd": ["sh", "-c", "id -u; id -g; pwd; echo $A,$B,$C"], "AttachStdout": true,
        "User": "7:8", "WorkingDir": "/tmp", "Env": ["A=5", "C=6"],
    });
    let exec = created(&docker, "c1", &options);
    let (out, _) = output(started(&docker, &exec));
    assert_eq!(out, "7\n8\n/tmp\n5,2,6\n");

    // Without attached output, the end of the connection is the end of the process all the same.
    let exec = created(
        &docker,
        "c1",
        &json!({ "Cmd": ["sh", "-c", "echo unseen; exit 3"] }),
    );
    assert_eq!(output(started(&docker, &exec)), (String::new(), String::new()));
    assert_eq!(inspected(&docker, &exec)["ExitCode"], 3);

    let detached = created(
        &docker,
        "c1",
        &json!({ "Cmd": ["sh", "-c", "echo made >/tmp/made"] }),
    );
    let said = docker.post(&format!("/exec/{detached}/start"), &json!({ "Detach": true }));
    assert_eq!((said.status, said.body.len()), (200, 0), "{said:?}");
    assert!(
        said.head.to_lowercase().contains("content-length: 0"),
        "{}",
        said.head
    );
    let (out, _, _) = ran(
        &docker,
        "c1",
        &[
            "sh",
            "-c",
            "while ! [ -s /tmp/made ]; do sleep 0.1; done; cat /tmp/made",
        ],
    );
    assert_eq!(out, "made\n");
    docker.done("DELETE", "/containers/c1?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_executed_is_told_and_leaves_nothing() {
    let Some(stage) = Stage::set("docker_exec_refused").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create(
        "c1",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "Init": true } }),
    );
    docker.done("POST", "/containers/c1/start");
    for (body, status, says) in [
        (json!({}), 400, "No exec command specified"),
        (json!({ "Cmd": [""] }), 400, ""),
        (
            json!({ "Cmd": ["true"], "User": "nosuch" }),
            400,
            "unable to find user nosuch: no matching entries in passwd file",
        ),
        (json!({ "Cmd": ["true"], "WorkingDir": "tmp" }), 400, "absolute"),
        (json!({ "Cmd": ["true"], "Env": ["=x"] }), 400, ""),
        (json!({ "Cmd": ["true"], "Privileged": true }), 400, "Privileged"),
        (json!({ "Cmd": "true" }), 400, "Cmd"),
    ] {
        let said = docker.post("/containers/c1/exec", &body);
        assert_eq!(said.status, status, "{body}: {said:?}");
        assert!(said.message().contains(says), "{body}: {}", said.message());
    }
    assert_eq!(
        docker
            .post("/containers/nosuch/exec", &json!({ "Cmd": ["true"] }))
            .status,
        404
    );
    assert_eq!(docker.post("/exec/nosuch/start", &json!({})).status, 404);

    for (program, code, says) in [
        ("nosuch", 127, "nosuch"),
        ("/etc/hosts", 126, "permission denied"),
    ] {
        let exec = of(&docker, "c1", &[program]);
        let (out, err) = output(started(&docker, &exec));
        assert!(
            out.contains("OCI runtime exec failed: ") && out.contains(says) && out.ends_with("\r\n"),
            "{out:?}"
        );
        assert_eq!(
            (err.as_str(), &inspected(&docker, &exec)["ExitCode"]),
            ("", &json!(code))
        );
        let exec = created(&docker, "c1", &json!({ "Cmd": [program] }));
        let said = docker.post(&format!("/exec/{exec}/start"), &json!({ "Detach": true }));
        assert_eq!(said.status, 400, "{said:?}");
        assert_eq!(inspected(&docker, &exec)["ExitCode"], code);
    }

    let planned = of(&docker, "c1", &["true"]);
    docker.done("POST", "/containers/c1/pause");
    let paused = |name: &str| format!("Container {name} is paused, unpause the container before exec");
    let said = docker.post("/containers/c1/exec", &json!({ "Cmd": ["true"] }));
    assert_eq!((said.status, said.message()), (409, paused("c1")));
    let said = docker.post(&format!("/exec/{planned}/start"), &json!({ "Detach": true }));
    assert_eq!((said.status, said.message()), (409, paused(&id)));
    let (out, _) = output(started(&docker, &planned));
    assert_eq!(out, format!("{}\r\n", paused(&id)));
    docker.done("POST", "/containers/c1/unpause");
    // It was not used up.
    output(started(&docker, &planned));
    assert_eq!(inspected(&docker, &planned)["ExitCode"], 0);

    // It is removed after the client has seen the end.
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(20));
    while let left = exec_dirs(&stage, &id)
        && !left.is_empty()
    {
        assert!(tokio::time::Instant::now() < until, "{left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    docker.done("DELETE", "/containers/c1?force=1");
    docker.end();
    stage.strike().await;
}

/// The directories of execs that are left of a container.
fn exec_dirs(stage: &Stage, id: &str) -> Vec<String> {
    let dir = stage
        .real
        .dir()
        .join("cli/fifos")
        .join(stage.real.namespace())
        .join(id);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|name| name.starts_with("exec-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_outlives_its_client_and_ends_with_its_container() {
    let Some(stage) = Stage::set("docker_exec_ends").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create(
        "c1",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "Init": true } }),
    );
    docker.done("POST", "/containers/c1/start");
    let exec = of(&docker, "c1", &["sh", "-c", "echo on; sleep 1000"]);
    let mut client = started(&docker, &exec);
    let wait = patient(Duration::from_secs(60));
    client.set_read_timeout(Some(wait)).expect("a limit");
    client.read_exact(&mut [0; 11]).expect("its output");
    drop(client);
    let running = inspected(&docker, &exec);
    assert_eq!(running["Running"], true, "{running}");
    let listed = docker.get("/containers/c1/json").json();
    assert_eq!(listed["ExecIDs"], json!([exec]));

    // A process that is left behind with the streams does not hold the answer up.
    let (out, _, code) = ran(&docker, "c1", &["sh", "-c", "sleep 1000 & echo done"]);
    assert_eq!((out.as_str(), code), ("done\n", json!(0)));

    let exec = of(&docker, "c1", &["sh", "-c", "echo on; exec sleep 1000"]);
    let mut client = started(&docker, &exec);
    client.set_read_timeout(Some(wait)).expect("a limit");
    client.read_exact(&mut [0; 11]).expect("its output");
    docker.done("POST", "/containers/c1/kill");
    assert_eq!(output(client), (String::new(), String::new()));
    assert_eq!(inspected(&docker, &exec)["Running"], false);
    docker.done("DELETE", "/containers/c1?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_in_a_terminal_has_its_size_and_outlives_the_end_of_its_input() {
    let Some(stage) = Stage::set("docker_exec_tty").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create(
        "c1",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "Init": true } }),
    );
    docker.done("POST", "/containers/c1/start");
    let wait = patient(Duration::from_secs(60));
    let until = |stream: &mut UnixStream, text: &str| {
        stream.set_read_timeout(Some(wait)).expect("a limit");
        let mut read = String::new();
        let mut byte = [0];
        while !read.contains(text) {
            assert_eq!(stream.read(&mut byte).expect("more"), 1, "{read:?}");
            read.push(char::from(byte[0]));
        }
        read
    };
    let sized = created(
        &docker,
        "c1",
        &json!({ "Cmd": ["stty", "size"], "Tty": true, "AttachStdout": true, "ConsoleSize": [33, 77] }),
    );
    let mut stream = docker.upgraded(
        &format!("/exec/{sized}/start"),
        r#"{"Tty":true,"ConsoleSize":[34,78]}"#,
    );
    until(&mut stream, "34 78\r\n");
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    assert_eq!(inspected(&docker, &sized)["ExitCode"], 0);

    let shell = created(
        &docker,
        "c1",
        &json!({ "Cmd": ["sh"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true }),
    );
    let mut stream = docker.upgraded(&format!("/exec/{shell}/start"), r#"{"Tty":true}"#);
    docker.done("POST", &format!("/exec/{shell}/resize?h=40&w=120"));
    stream
        .write_all(b"stty size; test -t 2 && echo $TERM\n")
        .expect("to type");
    until(&mut stream, "40 120\r\nxterm\r\n");
    stream.write_all(b"sleep 1; exit 5\n").expect("to type");
    stream.shutdown(std::net::Shutdown::Write).expect("to end");
    stream.read_to_end(&mut Vec::new()).expect("the end");
    assert_eq!(inspected(&docker, &shell)["ExitCode"], 5);
    let late = docker.ask("POST", &format!("/exec/{shell}/resize?h=1&w=1"));
    assert_eq!(late.status, 409, "{late:?}");
    for query in ["h=x&w=1", "h=1", "h=70000&w=1"] {
        assert_eq!(
            docker
                .ask("POST", &format!("/exec/{shell}/resize?{query}"))
                .status,
            400,
            "{query}"
        );
    }
    docker.done("DELETE", "/containers/c1?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_executes_too_beside_a_server_and_exits_with_the_code() {
    let Some(stage) = Stage::set("docker_exec_command").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    docker.create(
        "c1",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "Init": true } }),
    );
    docker.done("POST", "/containers/c1/start");
    let ran = |options: &[&str], command: &[&str]| {
        let args = [&["exec"], options, &["c1"], command].concat();
        let done = fnctr(&stage, &args).output().expect("to run fnctr");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let script = "echo $A $B; pwd; id -u; echo err >&2; exit 5";
    let options = ["-e", "A=1", "--env=B=2", "-w", "/tmp", "-u", "7:8"];
    let (code, out, err) = ran(&options, &["sh", "-c", script]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (Some(5), "1 2\n/tmp\n7\n", "err\n")
    );
    for (program, code, says) in [
        ("nosuch", 127, "nosuch"),
        ("/etc/hosts", 126, "permission denied"),
    ] {
        let (ended, out, err) = ran(&[], &[program]);
        assert_eq!(
            (ended, out.as_str(), err.contains(says)),
            (Some(code), "", true),
            "{err}"
        );
    }
    assert_eq!(
        ran(&["-d"], &["sh", "-c", "echo made >/tmp/made"]),
        (Some(0), String::new(), String::new())
    );
    let (_, out, _) = ran(
        &[],
        &[
            "sh",
            "-c",
            "while ! [ -s /tmp/made ]; do sleep 0.1; done; cat /tmp/made",
        ],
    );
    assert_eq!(out, "made\n");
    docker.done("POST", "/containers/c1/pause");
    let (code, _, err) = ran(&[], &["true"]);
    assert_eq!(
        (code, err.contains("it is frozen; thaw it first")),
        (Some(125), true),
        "{err}"
    );
    docker.done("POST", "/containers/c1/unpause");
    docker.done("DELETE", "/containers/c1?force=1");
    let (code, _, err) = ran(&[], &["true"]);
    assert_eq!(
        (code, err.contains("no such container")),
        (Some(125), true),
        "{err}"
    );
    docker.end();
    stage.strike().await;
}
