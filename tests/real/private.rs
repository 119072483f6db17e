//! The library on private containerds: each with settings of its own, watched while it is shared.

use std::sync::Arc;

use fnctr::driver::{Config, Driver as _, Status, Task};
use fnctr::embedded::{Embedded, Home, Stopped};
use fnctr::{ContainerId, ContainerdDriver, Settings};
use nix::sys::signal::{Signal, kill};

use crate::world::{created, ctx, started};

struct Private {
    embedded: Embedded,
    driver: ContainerdDriver,
    dir: tempfile::TempDir,
}

impl Private {
    async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("fnctr-p")
            .tempdir()
            .expect("a directory");
        let embedded = Embedded::start(&ctx(), &Home::under(dir.path()))
            .await
            .expect("containerd");
        let settings = Settings {
            runtime_binary: crate::world::runtime(),
            ..Settings::on(&embedded)
        };
        let ctx = ctx();
        let driver = ContainerdDriver::connect(&ctx, Config::default(), settings);
        let driver = driver.await.expect("a driver");
        let archive = crate::image::busybox(dir.path());
        driver.load(&ctx, &archive).await.expect("the test image");
        Self {
            embedded,
            driver,
            dir,
        }
    }

    async fn stop(self) {
        let parent = self.embedded.home().cgroup_parent();
        self.driver.close(&ctx()).await.expect("to close");
        assert_eq!(self.embedded.stop(&ctx()).await.expect("to stop"), Stopped::Ended);
        let top = std::path::Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(top).expect("cgroups").flatten();
        for hierarchy in hierarchies.map(|entry| entry.path()).chain([top.to_owned()]) {
            let left = hierarchy.join(parent.trim_start_matches('/'));
            assert!(!left.exists(), "{} is left", left.display());
        }
        self.dir.close().expect("to remove the directory");
    }
}

fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        image: "busybox".to_owned(),
        disable_net: true,
        ..Task::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_the_same_name_on_two_private_containerds_are_two() {
    if !crate::real::available("containers_of_the_same_name_on_two_private_containerds") {
        return;
    }
    let (one, two) = tokio::join!(Private::start(), Private::start());
    let (first, first_run) = started(&one.driver, task("same"), "sleep 600").await;
    let (second, second_run) = started(&two.driver, task("same"), "sleep 600").await;
    first.freeze(&ctx()).await.expect("to freeze");
    // A close kills by the cgroup, which must not be the other's.
    second.close(&ctx()).await.expect("to close");
    assert_eq!(second_run.wait(&ctx()).await.status(), Status::Killed);
    first.unfreeze(&ctx()).await.expect("to thaw what still runs");
    let id = ContainerId::new("same").expect("an id");
    drop(one.driver.adopt(&ctx(), &id).await.expect("it to be there"));
    first.close(&ctx()).await.expect("to close");
    assert_eq!(first_run.wait(&ctx()).await.status(), Status::Killed);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_function_is_learned_although_its_containerd_was_killed() {
    if !crate::real::available("the_end_of_a_function_is_learned") {
        return;
    }
    let private = Private::start().await;
    let cookie = created(&private.driver, task("f"), "sleep 3; exit 4").await;
    let cookie: Arc<dyn fnctr::driver::Cookie> = cookie.into();
    let wait = cookie.run(&ctx()).await.expect("a start");
    for pid in crate::cli::private_containerd(private.embedded.home().run()) {
        kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("to kill");
    }
    let result = wait.wait(&ctx()).await;
    assert_eq!(result.exit_code(), Some(4), "{:?}", result.error());
    cookie.close(&ctx()).await.expect("to close");
    private.stop().await;
}
