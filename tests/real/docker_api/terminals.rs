//! Terminals of first processes and of execs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use super::wire::Docker;
use crate::patience::patient;
use crate::world::Stage;

/// A shell that shows when it is ready.
const SHELL: [&str; 3] = ["env", "PS1=>>", "sh"];
const ALL: &str = "stdin=1&stdout=1&stderr=1";

/// A client that types at a terminal.
struct Typist {
    stream: UnixStream,
    shown: String,
}

impl Typist {
    fn at(stream: UnixStream) -> Self {
        let limit = patient(Duration::from_secs(30));
        stream.set_read_timeout(Some(limit)).expect("a limit");
        let shown = String::new();
        Self { stream, shown }
    }

    fn type_in(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("to type");
    }

    /// Reads until the terminal shows `text` after what was seen before.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            let read = self.stream.read(&mut buffer);
            match read {
                Ok(0) => panic!("the end, and no {text:?}: {:?}", self.shown),
                Ok(read) => self.shown.push_str(&String::from_utf8_lossy(&buffer[..read])),
                Err(error) => panic!("{error}, and no {text:?}: {:?}", self.shown),
            }
        }
    }

    /// Reads to the end.
    #[track_caller]
    fn sees_the_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_a_terminal_is_typed_at_resized_left_and_found_again() {
    let Some(stage) = Stage::set("docker_tty").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let id = docker.create(
        "shell",
        json!({
            "Cmd": SHELL, "Tty": true, "OpenStdin": true, "StdinOnce": true,
            "HostConfig": { "ConsoleSize": [31, 97] },
        }),
    );
    let seen = docker.get("/containers/shell/json").json();
    assert_eq!(
        (&seen["Config"]["Tty"], &seen["HostConfig"]["ConsoleSize"]),
        (&json!(true), &json!([31, 97]))
    );
    let refused = docker.ask("POST", "/containers/shell/resize?h=1&w=1");
    assert_eq!(
        (refused.status, refused.message()),
        (409, format!("container {id} is not running"))
    );
    let mut typist = Typist::at(docker.attach(&id, ALL));
    // Before the start, it is kept for the program.
    typist.type_in("tty; stty size\n");
    docker.done("POST", "/containers/shell/start");
    typist.sees("/dev/pts/0\r\n");
    typist.sees("31 97\r\n");

    docker.done("POST", "/containers/shell/resize?h=40&w=120");
    typist.type_in("stty size; echo $TERM; echo error >&2\n");
    typist.sees("40 120\r\n");
    typist.sees("xterm\r\n");
    typist.sees("error\r\n");
    let wrong = docker.ask("POST", "/containers/shell/resize?h=1&w=x");
    assert_eq!(wrong.status, 400, "{wrong:?}");

    // Ctrl-C reaches the program, and a client that leaves by its keys or by its end disturbs nothing.
    typist.type_in("echo ready; sleep 1000\n");
    typist.sees("ready\r\n");
    typist.type_in("\x03");
    typist.sees("^C");
    typist.sees(">>");
    typist.type_in("echo $((6*7))\x10\x11");
    typist.sees_the_end();
    let mut again = Typist::at(docker.attach(&id, &format!("{ALL}&detachKeys=ctrl-x")));
    again.type_in("\n");
    again.sees("42\r\n");
    let mut vanishing = docker.attach(&id, ALL);
    vanishing
        .write_all(b"echo fro''m-two\n")
        .expect("to type at the same terminal");
    again.sees("from-two\r\n");
    drop(vanishing);
    again.type_in("\x18");
    again.sees_the_end();
    let refused = docker.ask("POST", "/containers/shell/attach?stream=1&stdin=1&detachKeys=zzz");
    assert_eq!(
        (refused.status, refused.message()),
        (400, "Invalid detach keys (zzz) provided".to_owned())
    );

    // The end of a server hangs nothing up.
    docker.kill();
    let docker = Docker::serve(&stage);
    let mut typist = Typist::at(docker.attach(&id, ALL));
    typist.type_in("echo sti''ll-here; stty size\n");
    typist.sees("still-here\r\n");
    typist.sees("40 120\r\n");
    docker.done("POST", "/containers/shell/resize?h=50&w=132");
    typist.type_in("stty size; exit 3\n");
    typist.sees("50 132\r\n");
    typist.sees_the_end();
    let waited = docker.ask("POST", "/containers/shell/wait").json();
    assert_eq!(waited["StatusCode"], 3, "{waited}");

    // A second run has a terminal of its own.
    let mut typist = Typist::at(docker.attach(&id, ALL));
    docker.done("POST", "/containers/shell/start");
    typist.type_in("stty size; exit 4\n");
    typist.sees("31 97\r\n");
    typist.sees_the_end();
    docker.done("DELETE", "/containers/shell?force=1");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_without_a_client_and_that_of_an_exec_are_as_good() {
    let Some(stage) = Stage::set("docker_tty_exec").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    // As `docker run -dt` does: nobody attaches, and nothing is read.
    let id = docker.create("idle", json!({ "Cmd": SHELL, "Tty": true }));
    docker.done("POST", "/containers/idle/start");
    let mut reader = Typist::at(docker.attach(&id, "stdout=1"));

    let body = json!({
        "Cmd": SHELL, "Tty": true, "AttachStdin": true, "AttachStdout": true, "ConsoleSize": [20, 60],
        "DetachKeys": "ctrl-x,y",
    });
    let exec = docker.post("/containers/idle/exec", &body).json();
    let exec = exec["Id"].as_str().expect("an id");
    let start = r#"{"Detach":false,"Tty":true,"ConsoleSize":[20,60]}"#;
    let mut typist = Typist::at(docker.upgraded(&format!("/exec/{exec}/start"), start));
    typist.type_in("stty size\n");
    typist.sees("20 60\r\n");
    docker.done("POST", &format!("/exec/{exec}/resize?h=21&w=61"));
    // What it writes to the other terminal is what that one's readers see.
    typist.type_in("stty size; echo to-you > /proc/1/fd/1\n");
    typist.sees("21 61\r\n");
    reader.sees("to-you\r\n");
    typist.type_in("\x18y");
    typist.sees_the_end();
    let seen = docker.get(&format!("/exec/{exec}/json")).json();
    assert_eq!(seen["Running"], true, "{seen}");

    let body = json!({ "Cmd": ["sh", "-c", "tty > /dev/shm/tty"], "Tty": true });
    let detached = docker.post("/containers/idle/exec", &body).json();
    let detached = detached["Id"].as_str().expect("an id").to_owned();
    let said = docker.post(
        &format!("/exec/{detached}/start"),
        &json!({ "Detach": true, "Tty": true }),
    );
    assert_eq!(said.status, 200, "{said:?}");
    let body = json!({ "Cmd": ["sh", "-c", "until [ -s /dev/shm/tty ]; do sleep 0.05; done; cat /dev/shm/tty"], "Tty": true,
        "AttachStdout": true });
    let reading = docker.post("/containers/idle/exec", &body).json();
    let reading = reading["Id"].as_str().expect("an id").to_owned();
    let mut shown = Typist::at(docker.upgraded(&format!("/exec/{reading}/start"), r#"{"Tty":true}"#));
    shown.sees("/dev/pts/");
    shown.sees_the_end();

    docker.done("DELETE", "/containers/idle?force=1");
    reader.sees_the_end();
    docker.end();
    stage.strike().await;
}
