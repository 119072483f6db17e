//! What the laws do not ask for, on an engine that is not ours.

use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{
    BackOffConfig, Config, Driver as _, ErrImageWithVolume, ErrorKind, LoggerConfig, Output, Status, Task,
    retry_transient,
};
use fnctr::{Context, DockerDriver, DockerSettings};
use tokio::time::Instant;

use super::laws::{DOCKERD, TURN};
use super::rig::{live, start};
use crate::image;
use crate::patience::patient;
use crate::world::ctx;

async fn connect(
    address: &str,
    change: impl FnOnce(&mut Config),
) -> Result<DockerDriver, fnctr::driver::Error> {
    let mut config = Config {
        docker: address.to_owned(),
        ..Config::default()
    };
    change(&mut config);
    DockerDriver::connect(&ctx(), config, DockerSettings::default()).await
}

fn task(id: &str, command: &str) -> Task {
    Task {
        id: id.to_owned(),
        image: "busybox".to_owned(),
        command: command.to_owned(),
        memory: 64 << 20,
        disable_net: true,
        ..Task::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_parts_work_on_dockerd() {
    let Ok(address) = std::env::var(DOCKERD) else {
        crate::real::skipped(
            "the_other_parts_work_on_dockerd",
            &format!("{DOCKERD} names no Docker Engine"),
        );
        return;
    };
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().expect("a directory");
    let archive = image::busybox(dir.path());
    let loading = connect(&address, |config| {
        config.docker_load_file = archive.display().to_string()
    });
    let driver = loading.await.expect("a driver");
    too_old(&address).await;
    an_archive_that_is_none(&address, &archive).await;
    volumes(&driver, dir.path()).await;
    syslog(&driver).await;
    orphans(&address).await;
    pool(&address).await;
    retries(&driver).await;
    cleaning(&address, dir.path()).await;
    driver.close(&ctx()).await.expect("to close");
}

async fn too_old(address: &str) {
    let error = connect(address, |config| config.server_version = "99".to_owned()).await;
    let error = error.map(drop).expect_err("too old");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}");
}

async fn an_archive_that_is_none(address: &str, archive: &std::path::Path) {
    let bad = archive.with_extension("bad");
    std::fs::write(&bad, b"no archive").expect("to write");
    let error = connect(address, |config| {
        config.docker_load_file = bad.display().to_string()
    })
    .await;
    let error = error.map(drop).expect_err("no archive");
    assert!(
        matches!(error.kind(), ErrorKind::ImageRejected | ErrorKind::Internal),
        "{error:?}"
    );
    assert!(error.report().contains("busybox.bad"), "{error:?}");
}

async fn volumes(driver: &DockerDriver, dir: &std::path::Path) {
    let options = ["--name", "localhost/volumes:1", "--volume", "/data"];
    let archive = image::build(dir, "volumes.tar", &options);
    let names = driver.load(&ctx(), &archive).await.expect("to load");
    assert_eq!(names, ["localhost/volumes:1"]);
    let task = Task {
        image: "localhost/volumes:1".to_owned(),
        ..task("volumes", "/bin/true")
    };
    let error = live(driver, task, None).await.expect_err("it declares a volume");
    assert_eq!(error.code(), 400, "{error:?}");
    assert!(
        error
            .downcast_ref::<ErrImageWithVolume>()
            .is_some_and(|found| found.volume == "/data")
    );
}

async fn syslog(driver: &DockerDriver) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("tcp://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let task = Task {
        logger_config: LoggerConfig {
            url: url.clone(),
            tags: Vec::new(),
        },
        ..task("syslog", "/bin/true")
    };
    let cookie = driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    let error = start(&*cookie, None).await.map(drop).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::SyslogUnavailable, "{error:?}");
    let listener = std::net::TcpListener::bind(url.trim_start_matches("tcp://")).expect("the same port");
    let wait = cookie.run(&Context::new()).await.expect("to start at last");
    assert_eq!(wait.wait(&ctx()).await.status(), Status::Success);
    cookie.close(&ctx()).await.expect("to close");
    drop(listener);
}

async fn orphans(address: &str) {
    let instance = |id: &'static str| {
        move |config: &mut Config| {
            config.container_label_tag = "agents".to_owned();
            config.instance_id = id.to_owned();
        }
    };
    let old = connect(address, instance("old")).await.expect("a driver");
    let task = task("orphan-1", "/bin/sleep 600");
    let orphan = old.create_cookie(&ctx(), Arc::new(task)).await.expect("a cookie");
    drop(start(&*orphan, None).await.expect("a start"));
    let new = connect(address, instance("new")).await.expect("a driver");
    new.recovered(&ctx()).await.expect("to recover");
    assert_eq!(
        orphan.freeze(&ctx()).await.expect_err("it is gone").kind(),
        ErrorKind::NotFound
    );
    orphan.close(&ctx()).await.expect("to close");
    for driver in [old, new] {
        driver.close(&ctx()).await.expect("to close");
    }
}

async fn pool(address: &str) {
    let pooled = connect(address, |config| {
        config.pre_fork_pool_size = 2;
        config.pre_fork_networks = "none".to_owned();
        config.pre_fork_use_once = 1;
    });
    let pooled = pooled.await.expect("a driver");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let until = Instant::now() + patient(Duration::from_secs(30));
        while pooled.pool().expect("a pool").ready < 2 {
            assert!(Instant::now() < until, "{:?}", pooled.pool());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (output, captured) = Output::capture(1 << 10);
        let task = Task {
            disable_net: false,
            stdout: output.into(),
            ..task("pooled", "")
        };
        let lived = live(&pooled, task, Some("readlink /proc/self/ns/net")).await;
        assert_eq!(lived.expect("a life").status(), Status::Success);
        seen.insert(captured.text());
    }
    let state = pooled.pool().expect("a pool");
    assert_eq!((state.hits, state.misses, state.dead), (3, 0, 0), "{state:?}");
    assert!(
        !seen.is_empty() && seen.iter().all(|net| net.starts_with("net:")),
        "{seen:?}"
    );
    pooled.close(&ctx()).await.expect("to close");
}

async fn retries(driver: &DockerDriver) {
    let policy = BackOffConfig {
        max_retries: 2,
        ..BackOffConfig::default()
    };
    driver
        .set_pull_image_retry_policy(policy, retry_transient())
        .expect("a policy");
    let task = Task {
        image: "127.0.0.1:1/no/body:v1".to_owned(),
        ..task("retried", "/bin/true")
    };
    let error = live(driver, task, None).await.expect_err("nobody is there");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, 502),
        "{error:?}"
    );
    assert_eq!(
        driver.pull_retries().values().sum::<u64>(),
        2,
        "{:?}",
        driver.pull_retries()
    );
}

async fn cleaning(address: &str, dir: &std::path::Path) {
    let options = ["--name", "localhost/more:1", "--env", "MORE=1"];
    let archive = image::build(dir, "more.tar", &options);
    let cleaning = connect(address, |config| {
        config.docker_load_file = archive.display().to_string();
        config.image_clean_max_size = 1;
        config.image_clean_exempt_tags = "busybox".to_owned();
    });
    let cleaning = cleaning.await.expect("a driver");
    let until = Instant::now() + patient(Duration::from_secs(30));
    for image in ["localhost/more:1", "localhost/volumes:1"] {
        loop {
            let task = Task {
                image: image.to_owned(),
                ..task("cleaned", "/bin/true")
            };
            let cookie = cleaning
                .create_cookie(&ctx(), Arc::new(task))
                .await
                .expect("a cookie");
            let validated = cookie.validate_image(&ctx()).await;
            cookie.close(&ctx()).await.expect("to close");
            if matches!(validated, Ok(true)) {
                break;
            }
            assert!(Instant::now() < until, "{image} stays: {validated:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    let lived = live(&cleaning, task("exempt", "/bin/true"), None).await;
    assert_eq!(lived.expect("the exempt image").status(), Status::Success);
    cleaning.close(&ctx()).await.expect("to close");
}
