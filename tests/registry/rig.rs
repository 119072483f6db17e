//! A containerd, a registry, a proxy between them, and the few moves that all tests here make.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fnctr::driver::{Config, Cookie, Credentials, Driver as _, Error, Output, Status, Task};
use fnctr::{ContainerdDriver, Context, Namespace, NetworkSettings, Registries, Settings};

use crate::proxy::Proxy;
use crate::real::Real;
use crate::registry::{Kind, Registry, available};

/// What every test here stands on.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) registry: Registry,
    pub(crate) driver: ContainerdDriver,
    pub(crate) real: Real,
}

/// How a registry is reached in tests: no waiting that a test would have to wait for, and more than a busy machine needs.
pub(crate) fn registries(real: &Real) -> Registries {
    Registries {
        hosts_dir: real.dir().join("certs.d"),
        stall_timeout: Duration::from_secs(2),
        ..Registries::default()
    }
}

impl Rig {
    /// Sets everything up; `None` if this host cannot (it has been said loudly).
    pub(crate) async fn set(test: &str) -> Option<Self> {
        Self::with(test, |_| None, |_| {}).await
    }

    /// The same, with another kind of registry, after images were pushed to it, and another way to reach it.
    pub(crate) async fn with(
        test: &str,
        push: impl FnOnce(&Registry) -> Option<Kind>,
        change: impl FnOnce(&mut Registries),
    ) -> Option<Self> {
        if !available(test) {
            return None;
        }
        Self::on(Real::start(test)?, push, change).await
    }

    /// The same, on this containerd.
    pub(crate) async fn on(
        real: Real,
        push: impl FnOnce(&Registry) -> Option<Kind>,
        change: impl FnOnce(&mut Registries),
    ) -> Option<Self> {
        let mut registry = Registry::start();
        if let Some(kind) = push(&registry) {
            registry = registry.turned_into(kind);
        }
        let proxy = Proxy::start(registry.address()).await;
        let mut reached = registries(&real);
        change(&mut reached);
        let driver = connect(&real, reached).await.expect("a driver");
        Some(Self {
            proxy,
            registry,
            driver,
            real,
        })
    }

    /// Describes a registry, as in `hosts.toml`.
    pub(crate) fn describe(&self, registry: &str, toml: &str) {
        let dir = self.real.dir().join("certs.d").join(registry);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("hosts.toml"), toml).expect("a file");
    }

    /// An image's name through the proxy.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.proxy.address())
    }

    /// A driver that reaches registries another way.
    pub(crate) async fn another(&self, change: impl FnOnce(&mut Registries)) -> ContainerdDriver {
        let mut reached = registries(&self.real);
        change(&mut reached);
        connect(&self.real, reached).await.expect("another driver")
    }

    pub(crate) async fn cookie(&self, image: &str) -> Box<dyn Cookie> {
        cookie(&self.driver, image, None).await
    }

    /// Validates, pulls if need be, and validates again.
    pub(crate) async fn pull(&self, image: &str) -> Result<(), Error> {
        pull(&self.driver, image, None).await
    }

    /// What `/bin/cat` of the image says about a file.
    pub(crate) async fn cat(&self, image: &str, file: &str) -> String {
        let (output, said) = Output::capture(1 << 20);
        let task = Task {
            id: fresh_id(),
            image: image.to_owned(),
            command: format!("/bin/cat {file}"),
            stdout: output.into(),
            disable_net: true,
            ..Task::default()
        };
        let cookie = self
            .driver
            .create_cookie(&ctx(), Arc::new(task))
            .await
            .expect("a cookie");
        assert!(
            !cookie.validate_image(&ctx()).await.expect("to validate"),
            "{image} is there"
        );
        cookie.create_container(&ctx()).await.expect("to create");
        let result = cookie.run(&ctx()).await.expect("to run").wait(&ctx()).await;
        cookie.close(&ctx()).await.expect("to close");
        assert_eq!(result.status(), Status::Success, "{result:?}");
        said.text()
    }

    /// Removes an image and everything that it alone has held.
    pub(crate) fn remove(&self, image: &str) {
        let done = self.ctr(&["images", "rm", "--sync", image]);
        assert!(done.0, "{}", done.1);
    }

    /// Makes the collector run.
    pub(crate) fn collect(&self) {
        let (created, _) = self.ctr(&["leases", "create", "--id", "collect", "-x", "1h"]);
        let (deleted, said) = self.ctr(&["leases", "rm", "--sync", "collect"]);
        assert!(created && deleted, "{said}");
    }

    pub(crate) fn ctr(&self, args: &[&str]) -> (bool, String) {
        let done = Command::new("ctr")
            .arg("--address")
            .arg(self.real.address())
            .args(["--namespace", self.real.namespace()])
            .args(args)
            .output()
            .expect("to run ctr");
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Everything that a pull could leave.
    pub(crate) fn world(&self) -> World {
        let root = self.real.dir().join("root");
        let content = root.join("io.containerd.content.v1.content");
        let leases = self.ctr(&["leases", "ls", "-q"]).1;
        World {
            blobs: entries(&content.join("blobs/sha256")),
            ingests: entries(&content.join("ingest")),
            snapshots: entries(&root.join("io.containerd.snapshotter.v1.overlayfs/snapshots")),
            leases: leases.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Waits until the world is as it was: a pull that nobody wants any more unwinds by itself.
    #[track_caller]
    pub(crate) fn settles(&self, before: &World, after: &str) {
        let mut now = self.world();
        for _ in 0..1200 {
            if now == *before {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
            now = self.world();
        }
        panic!("{after}: before {before:?}, now {now:?}");
    }

    /// Ends everything. No lease may be left.
    pub(crate) async fn strike(self) {
        self.driver.close(&ctx()).await.expect("the driver to close");
        let world = self.world();
        assert_eq!((world.leases, world.ingests), (BTreeSet::new(), BTreeSet::new()));
    }
}

/// What there is, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) blobs: BTreeSet<String>,
    pub(crate) ingests: BTreeSet<String>,
    pub(crate) snapshots: BTreeSet<String>,
    pub(crate) leases: BTreeSet<String>,
}

fn entries(directory: &Path) -> BTreeSet<String> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    found
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

pub(crate) async fn connect(real: &Real, registries: Registries) -> Result<ContainerdDriver, Error> {
    configured(real, registries, Config::default()).await
}

pub(crate) async fn configured(
    real: &Real,
    registries: Registries,
    config: Config,
) -> Result<ContainerdDriver, Error> {
    let config = Config {
        docker: real.address().display().to_string(),
        ..config
    };
    let settings = Settings {
        namespace: Some(Namespace::new(real.namespace()).expect("a namespace")),
        run_dir: real.dir().join("run"),
        data_dir: real.dir().join("data"),
        cgroup_parent: "/".to_owned(),
        registries,
        networks: NetworkSettings {
            config_dirs: vec![real.dir().join("net.d")],
            state_dir: real.dir().join("sandboxes"),
            address_dir: real.dir().join("addresses"),
            ..NetworkSettings::default()
        },
        ..Settings::default()
    };
    ContainerdDriver::connect(&ctx(), config, settings).await
}

pub(crate) async fn cookie(
    driver: &ContainerdDriver,
    image: &str,
    credentials: Option<Credentials>,
) -> Box<dyn Cookie> {
    let task = Task {
        id: fresh_id(),
        image: image.to_owned(),
        command: "/bin/true".to_owned(),
        disable_net: true,
        auther: credentials.map(|credentials| Arc::new(credentials) as _),
        ..Task::default()
    };
    driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie")
}

pub(crate) async fn pull(
    driver: &ContainerdDriver,
    image: &str,
    credentials: Option<Credentials>,
) -> Result<(), Error> {
    let cookie = cookie(driver, image, credentials).await;
    let pulled = async {
        if cookie.validate_image(&ctx()).await? {
            cookie.pull_image(&ctx()).await?;
            let missing = cookie.validate_image(&ctx()).await?;
            assert!(!missing, "{image} was pulled and is not there");
        }
        Ok(())
    };
    let pulled = pulled.await;
    cookie.close(&ctx()).await?;
    pulled
}

pub(crate) fn fresh_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Long enough for anything but a hang.
pub(crate) fn ctx() -> Context {
    Context::timeout(Duration::from_secs(180))
}
