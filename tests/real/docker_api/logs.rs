//! The output that is kept of containers.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Docker, output};
use crate::patience::patient;
use crate::world::Stage;

/// What a page of logs shows: the output, the error output, and the head of the answer.
#[track_caller]
fn logged(docker: &Docker, name: &str, query: &str) -> (String, String, String) {
    let said = docker.get(&format!("/containers/{name}/logs?{query}"));
    assert_eq!(said.status, 200, "{said:?}");
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let body = said.body.clone();
    std::thread::spawn(move || std::io::Write::write_all(&mut theirs, &body));
    let (out, err) = output(ours);
    (out, err, said.head)
}

fn waited(docker: &Docker, name: &str) -> Value {
    docker.ask("POST", &format!("/containers/{name}/wait")).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_kept_as_docker_keeps_it_and_read_by_every_condition() {
    let Some(stage) = Stage::set("docker_logs").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let script = "echo 'a <b>'; sleep 0.05; echo err >&2; sleep 0.05; printf 'c\\n\\n\\tno newline'";
    let log = json!({ "Type": "json-file", "Config": { "labels": "team", "env": "KIND" } });
    let body = json!({
        "Cmd": ["sh", "-c", script], "Labels": { "team": "red" }, "Env": ["KIND=job", "OTHER=1"],
        "HostConfig": { "LogConfig": log },
    });
    let id = docker.create("l1", body);
    let (out, err, _) = logged(&docker, "l1", "stdout=1&stderr=1&follow=1");
    assert_eq!((out.as_str(), err.as_str()), ("", ""), "it was not started");
    docker.done("POST", "/containers/l1/start");
    assert_eq!(waited(&docker, "l1")["StatusCode"], 0);

    let seen = docker.get("/containers/l1/json").json();
    assert_eq!(seen["HostConfig"]["LogConfig"], log);
    let path = seen["LogPath"].as_str().expect("a path");
    assert!(path.ends_with(&format!("/{id}/{id}-json.log")), "{path}");
    let file = std::fs::read_to_string(path).expect("the file");
    let lines: Vec<_> = file.lines().collect();
    let attrs = "\"attrs\":{\"KIND\":\"job\",\"team\":\"red\"},\"time\":\"2";
    for (line, begin) in lines.iter().zip([
        "{\"log\":\"a \\u003cb\\u003e\\n\",\"stream\":\"stdout\",",
        "{\"log\":\"err\\n\",\"stream\":\"stderr\",",
        "{\"log\":\"c\\n\",\"stream\":\"stdout\",",
        "{\"log\":\"\\n\",\"stream\":\"stdout\",",
        "{\"log\":\"\\u0009no newline\",\"stream\":\"stdout\",",
    ]) {
        assert!(
            line.starts_with(&format!("{begin}{attrs}")) && line.ends_with("Z\"}"),
            "{line}"
        );
    }
    assert_eq!(lines.len(), 5, "{file}");

    let all = "stdout=1&stderr=1";
    let (out, err, head) = logged(&docker, "l1", all);
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("a <b>\nc\n\n\tno newline", "err\n")
    );
    assert!(
        head.contains("application/vnd.docker.multiplexed-stream"),
        "{head}"
    );
    assert_eq!(logged(&docker, "l1", "stderr=1").0, "");
    assert_eq!(logged(&docker, "l1", &format!("{all}&tail=1")).0, "\tno newline");
    assert_eq!(logged(&docker, "l1", &format!("{all}&tail=0")).0, "");
    // One line of the last four is on the other stream.
    assert_eq!(logged(&docker, "l1", "stdout=1&tail=4").0, "c\n\n\tno newline");
    assert_eq!(
        logged(&docker, "l1", &format!("{all}&tail=-1&follow=1&since=0")).0,
        out
    );
    let entry: Value = serde_json::from_str(lines[2]).expect("JSON");
    let time = entry["time"].as_str().expect("a time");
    assert_eq!(
        logged(&docker, "l1", &format!("{all}&since={time}")).0,
        "c\n\n\tno newline"
    );
    assert_eq!(
        logged(&docker, "l1", &format!("{all}&until={time}")).0,
        "a <b>\nc\n\n"
    );
    let (out, ..) = logged(&docker, "l1", "stdout=1&timestamps=1&details=1&tail=1");
    let (stamp, rest) = out.split_once(' ').expect("a time");
    assert_eq!((stamp.len(), rest), (30, "KIND=job,team=red \tno newline"));
    let refused = docker.get("/containers/l1/logs?stdout=1&since=abc");
    assert_eq!(refused.status, 500, "{refused:?}");

    // Those who attach may have it first.
    let mut attached = docker.attach(&id, "logs=1&stderr=1");
    docker.done("POST", "/containers/l1/start");
    let mut both = Vec::new();
    attached.read_to_end(&mut both).expect("both runs");
    waited(&docker, "l1");
    let errors = both.windows(4).filter(|four| four == b"err\n").count();
    assert_eq!(errors, 2, "{both:?}");
    // A second run goes on in the same file.
    assert_eq!(logged(&docker, "l1", "stderr=1").1, "err\nerr\n");
    let dir = std::path::Path::new(path).parent().expect("a directory");
    docker.done("DELETE", "/containers/l1");
    assert!(!dir.exists());

    // One with a terminal is not divided; one that keeps nothing says so; bad options are refused by name.
    docker.create(
        "l2",
        json!({ "Cmd": ["sh", "-c", "echo x; echo y >&2"], "Tty": true }),
    );
    docker.done("POST", "/containers/l2/start");
    waited(&docker, "l2");
    let said = docker.get("/containers/l2/logs?stdout=1");
    assert_eq!((said.text().as_str(), said.status), ("x\r\ny\r\n", 200));
    assert!(
        said.head.contains("application/vnd.docker.raw-stream"),
        "{}",
        said.head
    );
    docker.create(
        "l3",
        json!({ "Cmd": ["true"], "HostConfig": { "LogConfig": { "Type": "none" } } }),
    );
    assert_eq!(docker.get("/containers/l3/logs?stdout=1").status, 501);
    for name in ["l2", "l3"] {
        docker.done("DELETE", &format!("/containers/{name}"));
    }
    let bad = json!({ "Image": "busybox", "HostConfig": { "LogConfig": { "Type": "json-file", "Config": { "max-size": "x" } } } });
    let refused = docker.post("/containers/create?name=l4", &bad);
    assert_eq!(
        (refused.status, refused.message().contains("'max-size'")),
        (400, true),
        "{refused:?}"
    );
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_follow_get_every_line_through_rotations_and_the_next_server_goes_on() {
    let Some(stage) = Stage::set("docker_logs_follow").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"line $i of the output\"; i=$((i+1)); done; trap 'echo after; w=1' USR1; until [ \"$w\" ]; do sleep 0.05; done; read y; echo $y";
    let log =
        json!({ "Type": "json-file", "Config": { "max-size": "20k", "max-file": "30", "compress": "true" } });
    let id = docker.create(
        "f1",
        json!({ "Cmd": ["sh", "-c", script], "OpenStdin": true, "HostConfig": { "LogConfig": log } }),
    );
    docker.done("POST", "/containers/f1/start");
    let mut following = docker.follow("GET", "/containers/f1/logs?stdout=1&follow=1");
    assert!(following.head.starts_with("HTTP/1.1 200"), "{}", following.head);
    let mut text = String::new();
    while !text.contains("line 2999") {
        let chunk = following.next().expect("a chunk");
        text.push_str(&payload(&chunk));
    }
    let expected: String = (0..3000).map(|i| format!("line {i} of the output\n")).collect();
    is_same(&text, &expected);
    is_same(&logged(&docker, "f1", "stdout=1").0, &expected);
    assert_eq!(
        logged(&docker, "f1", "stdout=1&tail=2").0,
        "line 2998 of the output\nline 2999 of the output\n"
    );

    // What is written while there is no server waits in the pipe.
    docker.kill();
    crate::habits::ok(&stage, &["kill", "--signal", "USR1", &id]);
    let docker = Docker::serve(&stage);
    let mut following = docker.follow("GET", "/containers/f1/logs?stdout=1&follow=1&tail=1");
    let mut text = String::new();
    while !text.contains("after\n") {
        text.push_str(&payload(&following.next().expect("a chunk")));
    }
    let mut attached = docker.attach(&id, "stdin=1");
    std::io::Write::write_all(&mut attached, b"bye\n").expect("to write");
    while let Some(chunk) = following.next() {
        text.push_str(&payload(&chunk));
    }
    assert!(text.ends_with("after\nbye\n"), "{text}");
    is_same(
        &logged(&docker, "f1", "stdout=1").0,
        &format!("{expected}after\nbye\n"),
    );
    // A client that leaves disturbs nobody.
    docker.done("DELETE", "/containers/f1?force=1");
    docker.end();
    stage.strike().await;
}

/// Shows where two long texts differ.
#[track_caller]
fn is_same(found: &str, expected: &str) {
    let differs = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
    let at = differs.map(|at| (found.lines().nth(at), expected.lines().nth(at)));
    assert_eq!((at, found.len()), (None, expected.len()));
}

/// The bytes of frames, which a chunk has whole.
fn payload(mut frames: &[u8]) -> String {
    let mut text = String::new();
    while let Some((head, rest)) = frames.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        text.push_str(&String::from_utf8_lossy(&rest[..length]));
        frames = &rest[length..];
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_what_was_kept_wherever_it_was_written() {
    let Some(set) = Stage::set("logs_cli").await else {
        return;
    };
    use crate::habits::{ok, refused};
    let stage = &set;
    // By the command itself, for a container that it keeps.
    let script = "echo out; echo err >&2";
    ok(
        stage,
        &["run", "--rm=false", "--name", "k1", "busybox", "sh", "-c", script],
    );
    assert_eq!(ok(stage, &["logs", "k1"]), "out\n");
    ok(stage, &["start", "-a", "k1"]);
    assert_eq!(ok(stage, &["logs", "-f", "-n", "4", "k1"]), "out\nout\n");
    let stamped = ok(stage, &["logs", "-t", "--tail", "2", "k1"]);
    assert!(stamped.ends_with("Z out\n") && stamped.len() == 35, "{stamped}");
    ok(
        stage,
        &[
            "run",
            "--rm=false",
            "--log-driver",
            "none",
            "--name",
            "k2",
            "busybox",
            "true",
        ],
    );
    refused(stage, &["logs", "k2"], 1, "its output is not kept");
    refused(
        stage,
        &["run", "--log-opt", "max-size=x", "busybox"],
        125,
        "--log-opt: ",
    );
    // A function that is removed at its end leaves nothing.
    ok(stage, &["run", "busybox", "echo", "x"]);
    // By a server, for a container that another command has started and left.
    let docker = Docker::serve(stage);
    ok(
        stage,
        &[
            "run",
            "-d",
            "--name",
            "k3",
            "busybox",
            "sh",
            "-c",
            "echo first; sleep 1000",
        ],
    );
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(20));
    while ok(stage, &["logs", "k3"]) != "first\n" {
        assert!(tokio::time::Instant::now() < until, "nothing was kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let following = crate::beside::Beside::start(stage, &["logs", "--follow", "k3"]);
    assert_eq!(following.hear(), "first");
    docker.done("DELETE", "/containers/k3?force=1");
    let (code, rest, err) = following.end();
    assert_eq!((code, rest.as_slice()), (Some(0), &[][..]), "{err}");
    docker.end();
    ok(stage, &["rm", "k1", "k2"]);
    set.strike().await;
}
