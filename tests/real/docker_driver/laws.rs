//! The laws of the contract.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fnctr::driver::{Config, Cookie, Driver, Error, ErrorKind, Task};
use fnctr::{DockerDriver, DockerOptions, DockerSettings};
use tokio::time::Instant;

use super::rig::Rig;
use crate::census::{Change, Kind};
use crate::conformance::{BadTask, Need, World, run_all};
use crate::patience::patient;
use crate::registry::{self, Image, Packed, Registry};
use crate::world::ctx;

/// The address of a Docker Engine that a test may use as it likes, as in `unix:///run/test/docker.sock`.
pub(super) const DOCKERD: &str = "FNCTR_TEST_DOCKER";

/// Held by a test that uses it: what one finds is what it has left itself.
pub(super) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Docker(Place, Registry);

/// What answers.
enum Place {
    /// This project's own server.
    Ours(Box<Rig>),
    /// Somebody else's.
    Theirs(Dockerd),
}

/// A Docker Engine.
struct Dockerd {
    address: String,
    driver: DockerDriver,
    ids: AtomicU32,
}

impl Dockerd {
    async fn connect(address: &str, archive: &str) -> DockerDriver {
        let config = Config {
            docker: address.to_owned(),
            docker_load_file: archive.to_owned(),
            ..Config::default()
        };
        let connected = DockerDriver::connect(&ctx(), config, DockerSettings::default()).await;
        connected.expect("a driver")
    }

    /// What the docker command prints, line by line.
    fn says(&self, args: &[&str]) -> BTreeSet<String> {
        let said = Command::new("docker")
            .args(["--host", &self.address])
            .args(args)
            .output();
        let said = said.expect("to run docker");
        assert!(said.status.success(), "{args:?}: {said:?}");
        let said = String::from_utf8(said.stdout).expect("text");
        said.lines().map(str::to_owned).collect()
    }
}

impl Docker {
    /// What a pull is there to leave: the image, and its layers.
    fn is_pulled(&self, change: &Change) -> bool {
        match change.kind {
            Kind::Image => change.name == self.pullable_image(),
            Kind::Snapshot => change.name.contains(" sha256:"),
            _ => false,
        }
    }
}

#[async_trait]
impl World for Docker {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(match &self.0 {
            Place::Ours(rig) => rig.driver.clone(),
            Place::Theirs(dockerd) => dockerd.driver.clone(),
        })
    }

    async fn another(&self) -> Arc<dyn Driver> {
        Arc::new(match &self.0 {
            Place::Ours(rig) => rig.another(|_| {}).await.expect("another driver"),
            Place::Theirs(dockerd) => Dockerd::connect(&dockerd.address, "").await,
        })
    }

    fn fresh_id(&self) -> String {
        match &self.0 {
            Place::Ours(rig) => rig.stage.fresh_id(),
            Place::Theirs(dockerd) => format!("law-{}", dockerd.ids.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn image(&self) -> String {
        "busybox".to_owned()
    }

    fn missing_image(&self) -> String {
        "registry.example/no/body:v1".to_owned()
    }

    fn pullable_image(&self) -> String {
        format!("{}/pulled:1", self.1.address())
    }

    fn lacks(&self, _: Need) -> Option<String> {
        None
    }

    fn bad_tasks(&self) -> Vec<BadTask> {
        let bad = |what, task, kind, names: &str| BadTask {
            what,
            task,
            kind,
            names: names.to_owned(),
        };
        let good = || self.task("/bin/true");
        vec![
            bad(
                "an id that is none",
                Task {
                    id: "../c1".into(),
                    ..good()
                },
                ErrorKind::InvalidTask,
                "../c1",
            ),
            bad(
                "an image name that is none",
                Task {
                    image: "UPPER".into(),
                    ..good()
                },
                ErrorKind::InvalidTask,
                "UPPER",
            ),
            bad(
                "a mount source that is not there",
                Task {
                    volumes: vec![("/nowhere/at/all".into(), "/data".into())],
                    ..good()
                },
                ErrorKind::InvalidTask,
                "/nowhere/at/all",
            ),
            bad(
                "a memory limit below the kernel's sense",
                Task {
                    memory: 4096,
                    ..good()
                },
                ErrorKind::InvalidTask,
                "memory",
            ),
            bad(
                "a quota that nothing enforces here",
                Task { fs_size: 5, ..good() },
                ErrorKind::Unsupported,
                "fs_size",
            ),
        ]
    }

    fn touch_options(&self, cookie: &dyn Cookie) -> Result<(), Error> {
        cookie.change_options(|options: &mut DockerOptions| {
            options
                .body
                .env
                .get_or_insert_default()
                .push("TOUCHED=yes".to_owned());
        })
    }

    fn options_are_touched(&self, cookie: &dyn Cookie) -> bool {
        let options: Option<DockerOptions> = cookie.options();
        options.is_some_and(|options| {
            options
                .body
                .env
                .iter()
                .flatten()
                .any(|line| line == "TOUCHED=yes")
        })
    }

    /// What there is now and was not at the start, after giving the ending shims their time.
    async fn census(&self) -> BTreeSet<String> {
        match &self.0 {
            Place::Ours(rig) => rig.changes_but(|change| self.is_pulled(change)).await,
            Place::Theirs(dockerd) => {
                // A container that was dropped is removed a moment later.
                let until = Instant::now() + patient(Duration::from_secs(5));
                loop {
                    let there = dockerd.says(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]);
                    if there.is_empty() || Instant::now() >= until {
                        return there;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_driver_keeps_every_law_on_our_own_server() {
    const TEST: &str = "the_docker_driver_keeps_every_law_on_our_own_server";
    if !registry::available(TEST) {
        return;
    }
    let Some(rig) = Rig::set(TEST).await else { return };
    let registry = Registry::start();
    registry.push("pulled", "1", &Image::busybox(Packed::OciGzip, "pulled", &[]));
    crate::real::takes_long(
        TEST,
        "it shows every law of the contract, one after the other, with a census after each",
    );
    let world = Arc::new(Docker(Place::Ours(Box::new(rig)), registry));
    let report = run_all(Arc::clone(&world) as Arc<dyn World>).await;
    report.note("docker on fnctr serve");
    report.assert_kept();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    let world = Arc::into_inner(world).expect("no law to hold on to the world");
    let pulled = world.pullable_image();
    let Place::Ours(rig) = world.0 else {
        unreachable!("it was our own")
    };
    let stage = rig.end().await;
    let removed = Command::new("ctr")
        .arg("--address")
        .arg(stage.real.address())
        .args(["--namespace", stage.real.namespace()])
        .args(["images", "rm", "--sync", &pulled])
        .status();
    assert!(removed.expect("to run ctr").success());
    stage.strike().await;
}

/// On an engine that is not ours, which the environment names: dockerd of any version.
#[tokio::test(flavor = "multi_thread")]
async fn the_docker_driver_keeps_every_law_on_dockerd() {
    const TEST: &str = "the_docker_driver_keeps_every_law_on_dockerd";
    let Ok(address) = std::env::var(DOCKERD) else {
        crate::real::skipped(TEST, &format!("{DOCKERD} names no Docker Engine"));
        return;
    };
    if !registry::available(TEST) {
        return;
    }
    let _turn = TURN.lock().await;
    let registry = Registry::start();
    registry.push("pulled", "1", &Image::busybox(Packed::OciGzip, "pulled", &[]));
    let dir = tempfile::tempdir().expect("a directory");
    let archive = crate::image::busybox(dir.path());
    let driver = Dockerd::connect(&address, &archive.display().to_string()).await;
    let dockerd = Dockerd {
        address,
        driver: driver.clone(),
        ids: AtomicU32::new(0),
    };
    let version = dockerd.says(&["version", "--format", "{{.Server.Version}}"]);
    let version = version.first().expect("a version").clone();
    let world = Arc::new(Docker(Place::Theirs(dockerd), registry));
    let report = run_all(Arc::clone(&world) as Arc<dyn World>).await;
    report.note(&format!("docker on Docker Engine {version}"));
    report.assert_kept();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    driver.close(&ctx()).await.expect("the driver to close");
    if let Place::Theirs(dockerd) = &world.0 {
        dockerd.says(&["image", "rm", &world.pullable_image()]);
    }
}
