//! The laws of the contract.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use fnctr::DockerOptions;
use fnctr::driver::{Cookie, Driver, Error, ErrorKind, Task};

use super::rig::Rig;
use crate::census::{Change, Kind};
use crate::conformance::{BadTask, Need, World, run_all};
use crate::registry::{self, Image, Packed, Registry};

struct Docker(Rig, Registry);

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
        Arc::new(self.0.driver.clone())
    }

    async fn another(&self) -> Arc<dyn Driver> {
        Arc::new(self.0.another(|_| {}).await.expect("another driver"))
    }

    fn fresh_id(&self) -> String {
        self.0.stage.fresh_id()
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
        self.0.changes_but(|change| self.is_pulled(change)).await
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
    let world = Arc::new(Docker(rig, registry));
    let report = run_all(Arc::clone(&world) as Arc<dyn World>).await;
    report.assert_kept();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    let world = Arc::into_inner(world).expect("no law to hold on to the world");
    let pulled = world.pullable_image();
    let stage = world.0.end().await;
    let removed = Command::new("ctr")
        .arg("--address")
        .arg(stage.real.address())
        .args(["--namespace", stage.real.namespace()])
        .args(["images", "rm", "--sync", &pulled])
        .status();
    assert!(removed.expect("to run ctr").success());
    stage.strike().await;
}
