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
    ok(
        stage,
        &["run", "-d", "--name", "ended", "busybox", "sleep", "600"],
    );
    let inspected = ok(stage, &["--json", "inspect", "ended"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let pid = inspected["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("a pid");
    // Streams of a container that there is not, older than any create takes.
    let streams_of = |id: &str| {
        let all = stage.real.dir().join("cli/fifos").join(stage.real.namespace());
        let dir = all.join(id);
        std::fs::create_dir_all(&dir).expect("a directory");
        nix::unistd::mkfifo(&dir.join("stdout"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        dir
    };
    let (ghost, young) = (streams_of("ghost"), streams_of("young"));
    let an_hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    // A bundle of such a container, as a containerd leaves it that is killed while it removes one.
    let bundles = stage.real.dir().join("state/io.containerd.runtime.v2.task");
    let bundle = bundles.join(stage.real.namespace()).join(".lost");
    std::fs::create_dir(&bundle).expect("a directory");
    std::fs::write(bundle.join("log"), "").expect("a file");
    // The runtime's own record of one, as a runtime leaves it that is killed with its shim.
    let runc = std::path::Path::new("/run/containerd/runc").join(stage.real.namespace());
    let runc_record = runc.join("half");
    std::fs::create_dir(&runc_record).expect("a directory");
    std::fs::write(runc_record.join("state.json"), "{}").expect("a file");
    for old in [&ghost, &bundle, &runc_record] {
        let dir = std::fs::File::open(old).expect("the directory");
        dir.set_modified(an_hour_ago).expect("to date it back");
    }
    // From here on no command runs that would look after them. One whose time is over, and whose owner was killed.
    let late = [
        "run",
        "--name",
        "late",
        "--timeout",
        "3s",
        "busybox",
        "sleep",
        "600",
    ];
    let mut owner = fnctr(stage, &late)
        .stdout(Stdio::null())
        .spawn()
        .expect("to run fnctr");
    let until = Instant::now() + patient(Duration::from_secs(30));
    let shims = || crate::real::shims(&stage.real.address());
    while !shims().iter().any(|shim| shim.command.contains(" late ")) {
        assert!(Instant::now() < until, "it does not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    owner.kill().expect("to kill");
    owner.wait().expect("to end");
    // A kept container whose end no process sees.
    let killed = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    killed.expect("to kill it");

    let expected = [
        "bundle lost",
        "container ended",
        "container late",
        "runtime record half",
        "streams ghost",
    ];
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
        text.contains("container late would be ended: its time is over"),
        "{text}"
    );
    assert_eq!(found(stage, &[]), expected);
    assert_eq!(found(stage, &["--dry-run"]), Vec::<String>::new());
    assert!(!ghost.exists() && young.exists() && !bundle.exists() && !runc_record.exists());
    std::fs::remove_dir_all(young).expect("to remove it");
    assert_eq!(ok(stage, &["wait", "ended"]), "137\n");
    let mut left: Vec<_> = ok(stage, &["ps", "-aq"]).lines().map(str::to_owned).collect();
    left.sort();
    assert_eq!(left, ["ended", "runs"]);
    ok(stage, &["rm", "-f", "ended", "runs"]);
    set.strike().await;
}
