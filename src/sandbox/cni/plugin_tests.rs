//! Tests with shell scripts as plugins: the input that they receive, and how their output is read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::Interrupted;

fn plugins(dir: &Path, script: &str) -> Plugins {
    let file = dir.join("p");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    Plugins {
        dirs: vec!["/nonexistent".into(), dir.to_owned()],
        patience: Duration::from_secs(20),
    }
}

const AT: Attachment<'static> = Attachment {
    id: "s1",
    netns: "/run/netns/s1",
    interface: "eth0",
};

async fn run(plugins: &Plugins, verb: Verb) -> Result<Option<Value>, Error> {
    let stdin = json!({ "name": "net" });
    plugins.run(&Context::new(), "net", "p", verb, AT, &stdin).await
}

#[tokio::test]
async fn a_plugin_gets_the_environment_of_the_specification_and_nothing_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let echo = r#"read -r config; printf '{"config":%s,"env":"%s %s %s %s %s %s"}' "$config" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_PATH" "$HOME""#;
    let said = run(&plugins(dir.path(), echo), Verb::Add).await.unwrap().unwrap();
    let env = format!("ADD s1 /run/netns/s1 eth0 /nonexistent:{} ", dir.path().display());
    assert_eq!(said, json!({ "config": { "name": "net" }, "env": env }));
}

#[tokio::test]
async fn a_failure_is_reported_in_the_plugin_s_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let told = async |script: &str| {
        run(&plugins(dir.path(), script), Verb::Del)
            .await
            .unwrap_err()
            .to_string()
    };
    let prefix = "CNI plugin \"p\" of network net failed to DEL: ";
    assert_eq!(
        told(r#"echo '{"code":7,"msg":"no","details":"bad range"}'; exit 1"#).await,
        format!("{prefix}no; bad range")
    );
    assert_eq!(
        told(r#"echo '{"code":7,"msg":"no"}'; exit 1"#).await,
        format!("{prefix}no")
    );
    assert_eq!(told("echo oops >&2; exit 3").await, format!("{prefix}oops"));
    assert_eq!(
        told("exit 3").await,
        format!("{prefix}it wrote no message, and ended with exit status: 3")
    );
    let nonsense = told("echo nonsense").await;
    assert!(nonsense.contains("gave no valid answer"), "{nonsense}");
    assert_eq!(
        run(&plugins(dir.path(), "exit 0"), Verb::Del).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_plugin_that_is_not_there_or_no_program_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let there = plugins(dir.path(), "");
    let missing = there
        .run(&Context::new(), "net", "q", Verb::Add, AT, &json!({}))
        .await;
    assert!(matches!(missing, Err(Error::NoPlugin { plugin, .. }) if plugin == "q"));
    fs::set_permissions(dir.path().join("p"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(run(&there, Verb::Add).await, Err(Error::Spawn { .. })));
}

#[tokio::test]
async fn one_that_hangs_is_ended_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("sleep 300 & echo $! > {0}/pid; wait", dir.path().display());
    let mut hanging = plugins(dir.path(), &script);
    hanging.patience = Duration::from_millis(700);
    let ended = run(&hanging, Verb::Add).await.unwrap_err();
    assert!(matches!(ended, Error::Hangs { command: "ADD", .. }), "{ended}");
    let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while alive() {
        assert!(Instant::now() < until, "its child {pid} still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The caller's own deadline or interruption is not reported as the plugin's failure.
    hanging.patience = Duration::from_secs(60);
    let ctx = Context::timeout(Duration::from_millis(300));
    let given_up = hanging.run(&ctx, "net", "p", Verb::Add, AT, &json!({})).await;
    assert!(matches!(
        given_up,
        Err(Error::Interrupted(Interrupted::DeadlineExceeded))
    ));
}
