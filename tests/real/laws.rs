//! The laws of the contract, which every driver runs.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use fnctr::ContainerOptions;
use fnctr::driver::{Cookie, Driver, Error, ErrorKind, Task};

use crate::census::{Change, Kind};
use crate::conformance::{BadTask, Need, World, run_all};
use crate::registry::{self, Image, Packed, Registry};
use crate::world::Stage;

/// Set where no registry can be, as in the emulated machine.
const NO_REGISTRY: &str = "FNCTR_TEST_NO_REGISTRY";

struct Containerd(Stage, Option<Registry>);

impl Containerd {
    /// What a pull is there to leave: the image, and its layers.
    fn is_pulled(&self, change: &Change) -> bool {
        match change.kind {
            Kind::Image => self.1.is_some() && change.name == self.pullable_image(),
            Kind::Snapshot => change.name.contains(" sha256:"),
            _ => false,
        }
    }
}

#[async_trait]
impl World for Containerd {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.0.driver.clone())
    }

    async fn another(&self) -> Arc<dyn Driver> {
        Arc::new(self.0.another(|_| {}).await.expect("another driver"))
    }

    fn fresh_id(&self) -> String {
        self.0.fresh_id()
    }

    fn image(&self) -> String {
        "busybox".to_owned()
    }

    fn missing_image(&self) -> String {
        "registry.example/no/body:v1".to_owned()
    }

    fn pullable_image(&self) -> String {
        let registry = self.1.as_ref().expect("a registry");
        format!("{}/pulled:1", registry.address())
    }

    fn lacks(&self, need: Need) -> Option<String> {
        (need == Need::Registry && self.1.is_none()).then(|| format!("{NO_REGISTRY} is set"))
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
                "a missing command",
                self.task("/bin/nobody --at home"),
                ErrorKind::InvalidTask,
                "/bin/nobody",
            ),
            bad(
                "a command that is no program",
                self.task("/etc/passwd"),
                ErrorKind::InvalidTask,
                "/etc/passwd",
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
        cookie.change_options(|options: &mut ContainerOptions| {
            options.config.env.push(("TOUCHED".to_owned(), "yes".to_owned()));
        })
    }

    fn options_are_touched(&self, cookie: &dyn Cookie) -> bool {
        let options: Option<ContainerOptions> = cookie.options();
        options.is_some_and(|options| options.config.env.iter().any(|(name, _)| name == "TOUCHED"))
    }

    /// What there is now and was not at the start, after giving the ending shims their time.
    async fn census(&self) -> BTreeSet<String> {
        self.0
            .before
            .changes_but(|change| self.is_pulled(change))
            .await
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containerd_driver_keeps_every_law() {
    const TEST: &str = "the_containerd_driver_keeps_every_law";
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let offered = std::env::var_os(NO_REGISTRY).is_none();
    if offered && !registry::available(TEST) {
        return;
    }
    let registry = offered.then(Registry::start);
    if let Some(registry) = &registry {
        registry.push("pulled", "1", &Image::busybox(Packed::OciGzip, "pulled", &[]));
    }
    crate::real::takes_long(
        TEST,
        "it shows every law of the contract, one after the other, with a census after each",
    );
    let world = Arc::new(Containerd(stage, registry));
    let report = run_all(Arc::clone(&world) as Arc<dyn World>).await;
    report.note("containerd");
    report.assert_kept();
    let skipped: &[&str] = if offered {
        &[]
    } else {
        &["a_pulled_image_is_validated_again"]
    };
    assert_eq!(report.skipped_names(), skipped);
    let world = Arc::into_inner(world).expect("no law to hold on to the world");
    if offered {
        let removed = Command::new("ctr")
            .arg("--address")
            .arg(world.0.real.address())
            .args(["--namespace", world.0.real.namespace()])
            .args(["images", "rm", "--sync", &world.pullable_image()])
            .status();
        assert!(removed.expect("to run ctr").success());
    }
    world.0.strike().await;
}
