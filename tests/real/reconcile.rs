//! What killed processes leave is found, told with the reason, and removed; a dry run changes nothing.

use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::fnctr;
use crate::habits::ok;
use crate::patience::patient;
use crate::world::Stage;

/// What the command finds, as "object id".
fn found(stage: &Stage, args: &[&str]) -> Vec<String> {
    let text = ok(stage, &[&["--json", "reconcile"], args].concat());
    let mut found: Vec<_> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(value["mended"], args.is_empty(), "{value}");
            assert!(
                value["why"].as_str().is_some_and(|why| !why.is_empty()),
                "{value}"
            );
            format!(
                "{} {}",
                value["object"].as_str().expect("a text"),
                value["id"].as_str().expect("a text")
            )
        })
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_told_with_the_reason_and_removed() {
    let Some(set) = Stage::set("what_is_left_is_told").await else {
        return;
    };
    let stage = &set;
    assert_eq!(found(stage, &[]), Vec::<String>::new());
    // One that runs, which is nobody's business.
    ok(stage, &["run", "-d", "--name", "runs", "busybox", "sleep", "600"]);
    // One whose time is over soon, and whose owner was killed.
    let late = [
        "run",
        "--name",
        "late",
        "--timeout",
        "8s",
        "busybox",
        "sleep",
        "600",
    ];
    let mut owner = fnctr(stage, &late)
        .stdout(Stdio::null())
        .spawn()
        .expect("to run fnctr");
    let until = Instant::now() + patient(Duration::from_secs(30));
    while !ok(stage, &["ps", "-q"]).contains("late") {
        assert!(Instant::now() < until, "it does not run");
    }
    owner.kill().expect("to kill");
    owner.wait().expect("to end");
    // Streams of a container that there is not.
    let ghost = stage
        .real
        .dir()
        .join("cli/fifos")
        .join(stage.real.namespace())
        .join("ghost");
    std::fs::create_dir_all(&ghost).expect("a directory");
    nix::unistd::mkfifo(&ghost.join("stdout"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    // A kept container whose end no process sees: any command but this one would write it.
    ok(
        stage,
        &[
            "run",
            "-d",
            "--name",
            "ended",
            "busybox",
            "sh",
            "-c",
            "sleep 1; exit 6",
        ],
    );

    let expected = ["container ended", "container late", "streams ghost"];
    let until = Instant::now() + patient(Duration::from_secs(60));
    loop {
        let found = found(stage, &["--dry-run"]);
        if found == expected {
            break;
        }
        assert!(Instant::now() < until, "{found:?}");
    }
    let text = ok(stage, &["reconcile", "--dry-run"]);
    assert!(
        text.contains("late: its time is over") && text.contains("would end it"),
        "{text}"
    );
    assert_eq!(found(stage, &[]), expected);
    assert_eq!(found(stage, &["--dry-run"]), Vec::<String>::new());
    assert!(!ghost.exists());
    assert_eq!(ok(stage, &["wait", "ended"]), "6\n");
    let mut left: Vec<_> = ok(stage, &["ps", "-aq"]).lines().map(str::to_owned).collect();
    left.sort();
    assert_eq!(left, ["ended", "runs"]);
    ok(stage, &["rm", "-f", "ended", "runs"]);
    set.strike().await;
}
