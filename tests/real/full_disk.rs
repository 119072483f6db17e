//! A full disk under containerd.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::cli::fnctr;
use crate::habits::ok;
use crate::patience::patient;
use crate::real::Real;
use crate::server::is_settled;
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn while_containerds_disk_is_full_what_runs_goes_on_and_no_end_is_lost() {
    let test = "while_containerds_disk_is_full";
    let Some(real) = Real::start_small(test, 48) else {
        return;
    };
    let Some(set) = Stage::on(real, |_| {}).await else {
        return;
    };
    let stage = &set;
    let server = Beside::start(stage, &["serve"]);
    server.hear();
    let script = "trap 'exit 6' TERM; sleep 600 & wait";
    ok(
        stage,
        &["run", "-d", "--name", "ends", "busybox", "sh", "-c", script],
    );
    ok(
        stage,
        &["run", "-d", "--name", "stays", "busybox", "sleep", "600"],
    );
    let full = stage.real.dir().join("root/full");
    let mut file = fs::File::create(&full).expect("a file");
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    let done = fnctr(stage, &["run", "busybox", "true"])
        .output()
        .expect("to run fnctr");
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(125), "{err}");
    assert!(err.contains("no space left") || err.contains("disk"), "{err}");
    ok(stage, &["freeze", "stays"]);
    ok(stage, &["thaw", "stays"]);
    ok(stage, &["kill", "--signal", "TERM", "ends"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!is_settled(stage, "ends"));
    drop(file);
    fs::remove_file(full).expect("to make room");
    let until = Instant::now() + patient(Duration::from_secs(30));
    while !is_settled(stage, "ends") {
        assert!(Instant::now() < until, "the end is never written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ok(stage, &["wait", "ends"]), "6\n");
    assert_eq!(ok(stage, &["run", "busybox", "echo", "hi"]), "hi\n");
    ok(stage, &["rm", "-f", "ends", "stays"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().0, Some(0));
    set.strike().await;
}
