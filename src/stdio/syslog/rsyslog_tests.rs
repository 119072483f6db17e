//! How Debian's rsyslog parses the messages. Where it is not installed, these tests print that and pass.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio_util::task::TaskTracker;

use super::*;
use crate::stdio::Sink;

/// A tag as a functions platform uses it: two ids, longer than the RFC's fields.
const TAG: &str = "app_id=01D8JQSE2BNG8G00GZJ0000001,fn_id=01D8JQSE2BNG8G00GZJ0000002";

/// The rsyslog process. Killed when the test ends, whether it passes or fails.
struct Rsyslog(Child);

impl Drop for Rsyslog {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(dir: &Path, port: u16) -> Option<Rsyslog> {
    let file = dir.join("received").display().to_string();
    let config = format!(
        r#"module(load="imtcp") input(type="imtcp" port="{port}" address="127.0.0.1")
        template(name="t" type="string"
          string="%syslogfacility-text%.%syslogseverity-text%|%app-name%|%procid%|%msgid%|%timereported:::date-rfc3339%|%msg%\n")
        *.* action(type="omfile" file="{file}" template="t")
        "#
    );
    std::fs::write(dir.join("conf"), config).unwrap();
    let arguments = ["-n", "-f", "conf", "-i", "pid"];
    match Command::new("rsyslogd").args(arguments).current_dir(dir).spawn() {
        Ok(child) => Some(Rsyslog(child)),
        Err(error) => {
            eprintln!("SKIPPED: cannot start rsyslogd: {error}");
            None
        }
    }
}

#[tokio::test]
async fn rsyslog_finds_the_whole_tag_and_every_line() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let Some(_rsyslog) = start(dir.path(), port) else {
        return;
    };
    let (tracker, endpoint) = (
        TaskTracker::new(),
        Endpoint::parse(&format!("tcp://127.0.0.1:{port}")).unwrap(),
    );
    let begun = tokio::time::Instant::now();
    let syslog = loop {
        match Syslog::connect(
            &Context::new(),
            &endpoint,
            TAG,
            &tracker,
            &Arc::new(Metrics::new()),
        )
        .await
        {
            Ok(syslog) => break syslog,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let Streams { stdout, stderr, .. } = syslog.attach(Streams::default());
    let (Sink::Writer(mut stdout), Sink::Writer(mut stderr)) = (stdout, stderr) else {
        panic!("a logged stream is attached");
    };
    stdout.write_all(b"hello - [world]\n  indented\n").await.unwrap();
    stdout.shutdown().await.unwrap();
    stderr.write_all(b"oh no").await.unwrap();
    stderr.shutdown().await.unwrap();

    let received = loop {
        let text = std::fs::read_to_string(dir.path().join("received")).unwrap_or_default();
        if text.lines().count() >= 3 {
            break text;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{text:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let pid = std::process::id();
    for (priority, text) in [
        ("user.info", "hello - [world]"),
        ("user.info", "  indented"),
        ("user.err", "oh no"),
    ] {
        let fields = format!("{priority}|{TAG}|{pid}|{TAG}|");
        let line = received.lines().find(|line| line.ends_with(&format!("|{text}")));
        assert!(
            line.is_some_and(|line| line.starts_with(&fields)),
            "{text:?} in {received}"
        );
    }
}
