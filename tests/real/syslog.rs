//! The log of a function, from its file descriptors to a syslog server's socket.

use std::io::{ErrorKind as Io, Read as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use fnctr::ContainerOptions;
use fnctr::driver::{Driver as _, ErrSyslogUnavailable, ErrorKind, LoggerConfig, LoggerTag, Status, Task};

use crate::world::{Stage, captured, ctx, live};

fn logged(task: Task, url: &str) -> Task {
    let tag = |name: &str, value: &str| LoggerTag {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    Task {
        logger_config: LoggerConfig {
            url: url.to_owned(),
            tags: vec![tag("app_id", "a1"), tag("fn_id", "f1")],
        },
        ..task
    }
}

/// Everything that the one connection of the one life before has brought, without waiting for more.
#[track_caller]
fn received(server: &TcpListener) -> Vec<String> {
    server
        .set_nonblocking(true)
        .expect("a listener that does not wait");
    let (mut connection, _) = server.accept().expect("a connection");
    connection
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("text, and its end");
    assert_eq!(
        server.accept().expect_err("no second connection").kind(),
        Io::WouldBlock
    );
    text.lines().map(str::to_owned).collect()
}

/// What a line says, if it is of this priority and has the tags.
fn said<'a>(lines: &'a [String], priority: &str) -> Vec<&'a str> {
    let of = |line: &'a String| line.strip_prefix(priority)?.split_once(" app_id=a1,fn_id=f1 - ");
    lines.iter().filter_map(of).map(|(_, text)| text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_streams_are_logged_whether_or_not_anybody_else_reads_them() {
    let Some(stage) = Stage::set("syslog: both streams").await else {
        return;
    };
    let script = "echo one; echo two >&2; printf tail";
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let url = format!("tcp://{}", server.local_addr().expect("an address"));

    let null = logged(stage.task("unused"), &url);
    let result = stage.life(null, Some(script)).await.expect("a result");
    assert_eq!(result.status(), Status::Success);
    let lines = received(&server);
    assert_eq!(
        (said(&lines, "<14>1 "), said(&lines, "<11>1 ")),
        (vec!["one", "tail"], vec!["two"])
    );
    assert_eq!(lines.len(), 3, "{lines:?}");

    let (stdout, text) = captured();
    let read = Task {
        stdout: stdout.into(),
        ..logged(stage.task("unused"), &url)
    };
    let result = stage.life(read, Some(script)).await.expect("a result");
    assert_eq!(result.status(), Status::Success);
    assert_eq!(text.text(), "one\ntail");
    assert_eq!(said(&received(&server), "<14>1 "), ["one", "tail"]);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_syslog_is_its_own_error_and_leaves_nothing_and_the_cookie_may_try_again() {
    let Some(stage) = Stage::set("syslog: a dead endpoint").await else {
        return;
    };
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let address = server.local_addr().expect("an address");
    drop(server);
    let task = logged(stage.task("unused"), &format!("tcp://{address}"));
    let cookie = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    let error = live(cookie.as_ref(), None).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::SyslogUnavailable);
    let found = error
        .downcast_ref::<ErrSyslogUnavailable>()
        .expect("the typed error");
    assert_eq!(
        (found.url.as_str(), found.cause.kind()),
        (format!("tcp://{address}").as_str(), Io::ConnectionRefused)
    );
    stage.before.assert_same().await;

    let server = TcpListener::bind(address).expect("the server again");
    let command = ["/bin/echo", "back"].map(str::to_owned).to_vec();
    cookie
        .change_options(|options: &mut ContainerOptions| options.config.command = Some(command))
        .expect("a cookie that waits for its container");
    cookie.create_container(&ctx()).await.expect("a container");
    let running = cookie.run(&ctx()).await.expect("a run");
    assert_eq!(running.wait(&ctx()).await.status(), Status::Success);
    cookie.close(&ctx()).await.expect("a close");
    assert_eq!(said(&received(&server), "<14>1 "), ["back"]);
    stage.strike().await;
}

#[tokio::test]
async fn a_syslog_url_that_cannot_be_is_refused_with_the_task() {
    let Some(stage) = Stage::set("syslog: a bad URL").await else {
        return;
    };
    for url in ["logs:514", "tcp+tls://logs:6514", "udp://logs:0", "unix://socket"] {
        let task = logged(stage.task("/bin/true"), url);
        let error = stage
            .driver
            .create_cookie(&ctx(), Arc::new(task))
            .await
            .expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::InvalidTask);
        assert!(error.report().contains(url), "{error:?}");
    }
    stage.strike().await;
}
