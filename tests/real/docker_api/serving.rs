//! How the server is started: by systemd's socket, and with a page of metrics.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::wire::{Docker, parse};
use crate::beside::Beside;
use crate::cli::fnctr;
use crate::patience::patient;
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_systemd_s_is_served_and_stays_when_the_server_ends() {
    let Some(stage) = Stage::set("docker_inherited").await else {
        return;
    };
    let path = stage.real.dir().join("inherited.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("to pass it on");
    let serve = fnctr(&stage, &["serve", "--docker-socket", "fd://"]);
    // As systemd starts a program: the socket is its descriptor 3.
    let mut command = Command::new("bash");
    let script = format!(
        "exec 3<&{}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"",
        listener.as_raw_fd()
    );
    command
        .args(["-c", &script, "bash"])
        .arg(serve.get_program())
        .args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Beside::of(command);
    server.hear();
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("to connect");
    client
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("to ask");
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("an answer");
    assert_eq!(parse(&all).text(), "OK");
    server.signal(Signal::SIGTERM);
    let (code, _, err) = server.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(path.exists(), "it is systemd's to remove");
    drop(listener);
    std::fs::remove_file(&path).expect("to remove it");

    for (options, says) in [
        (
            vec!["--docker-socket", "fd://"],
            "a socket that systemd passes, and none was passed",
        ),
        (
            vec!["--docker-socket", "fd://", "--docker-group", "root"],
            "--docker-group: the socket of fd:// has the group that its unit sets",
        ),
    ] {
        let done = fnctr(&stage, &[&["serve"], &options[..]].concat())
            .output()
            .expect("to run");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && err.contains(says), "{options:?}: {err}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_on_a_page_of_their_own() {
    let Some(stage) = Stage::set("docker_metrics").await else {
        return;
    };
    let server = Beside::start(&stage, &["--json", "serve", "--metrics-addr", "127.0.0.1:0"]);
    let said: Value = serde_json::from_str(&server.hear()).expect("JSON");
    let page = said["metrics"].as_str().expect("an address");
    let at = page
        .strip_prefix("http://")
        .and_then(|at| at.strip_suffix("/metrics"))
        .expect("a page");
    for (request, status, says) in [
        ("GET /metrics", 200, "fnctr_containerd_call"),
        ("GET /", 404, "the numbers are at /metrics"),
        ("POST /metrics", 405, ""),
    ] {
        let mut client = TcpStream::connect(at).expect("to connect");
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).expect("to ask");
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("an answer");
        let said = parse(&all);
        assert_eq!(said.status, status, "{request}: {said:?}");
        assert!(said.text().contains(says), "{request}: {}", said.text());
    }
    server.signal(Signal::SIGTERM);
    let (code, _, err) = server.end();
    assert_eq!(code, Some(0), "{err}");

    let other = TcpListener::bind("127.0.0.1:0").expect("to listen");
    let taken = other.local_addr().expect("an address").to_string();
    let socket = stage.real.dir().join("unmade.sock");
    let named = socket.display().to_string();
    let refused = fnctr(
        &stage,
        &["serve", "--metrics-addr", &taken, "--docker-socket", &named],
    );
    let done = { refused }.output().expect("to run");
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    let says = format!("--metrics-addr: cannot listen on {taken}");
    assert!(!done.status.success() && err.contains(&says), "{err}");
    assert!(!socket.exists());
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_gives_back_what_only_its_start_needed() {
    let Some(stage) = Stage::set("docker_idle").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let pid = std::os::unix::net::UnixStream::connect(docker.socket()).expect("to connect");
    let pid = nix::sys::socket::getsockopt(&pid, nix::sys::socket::sockopt::PeerCredentials);
    let pid = pid.expect("its pid").pid();
    let kilobytes = |name: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a line");
        let size = line
            .split_whitespace()
            .nth(1)
            .and_then(|size| size.parse::<u64>().ok());
        size.expect("a size")
    };
    let until = tokio::time::Instant::now() + patient(Duration::from_secs(60));
    // The most that it ever had, and what it has.
    while kilobytes("VmRSS:") + 4096 > kilobytes("VmHWM:") {
        assert!(tokio::time::Instant::now() < until, "{} kB", kilobytes("VmRSS:"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    docker.end();
    stage.strike().await;
}
