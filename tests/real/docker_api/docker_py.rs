//! docker-py, unmodified.

use std::process::Command;

use super::wire::Docker;
use crate::world::Stage;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/docker_client.py");

#[tokio::test(flavor = "multi_thread")]
async fn docker_py_does_what_it_does_with_a_docker_daemon() {
    // The first one may be another one than Debian's, which has the package.
    let has_it = |python: &&str| {
        let done = Command::new(python).args(["-c", "import docker"]).output();
        done.is_ok_and(|done| done.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_it) else {
        assert!(
            std::env::var_os("FNCTR_REQUIRE_REAL").is_none(),
            "the test needs the package python3-docker"
        );
        eprintln!("skipped: the package python3-docker is missing");
        return;
    };
    let Some(stage) = Stage::set("docker_py").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let done = Command::new(python)
        .args([PROGRAM, docker.socket()])
        .output()
        .expect("to run python3");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{out}{err}");
    assert_eq!(out.lines().count(), 6, "{out}");
    docker.end();
    stage.strike().await;
}
