//! What the laws do not ask for: the pool, orphans, the space of images, limits as seen from inside, logs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Config, Driver as _, ErrSyslogUnavailable, ErrorKind, LoggerConfig, Status, Task};
use fnctr::{Context, DockerDriver};
use tokio::time::Instant;

use super::rig::{Rig, live, start};
use crate::census::{Change, Kind};
use crate::image;
use crate::patience::patient;
use crate::world::ctx;

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_what_the_function_sees() {
    let Some(rig) = Rig::set("docker_driver_limits").await else {
        return;
    };
    let task = Task {
        tmpfs_size: 3,
        open_files: Some(77),
        work_dir: Some("/work".into()),
        volumes: vec![("/etc".into(), "/host:ro".into())],
        ..rig.stage.task("")
    };
    let script = "id -u; id -g; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status | tr -d '\\t'; ulimit -n; pwd; \
                  df -k /tmp | awk 'NR == 2 { print $2 }'; grep ' /host ' /proc/mounts | grep -c '[ ,]ro[ ,]'; \
                  ls /sys/class/net";
    let (said, result) = rig.says(task, script).await;
    assert_eq!(result.status(), Status::Success, "{result:?}: {said}");
    let said: Vec<_> = said.lines().collect();
    let expected = [
        "1000",
        "1000",
        "CapEff:0000000000000000",
        "NoNewPrivs:1",
        "77",
        "/work",
        "3072",
        "1",
        "lo",
    ];
    assert_eq!(said, expected);
    rig.strike().await;
}

/// As in Docker, where the init of the container finds that out.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_ends_with_a_shell_s_exit_code() {
    let Some(rig) = Rig::set("docker_driver_commands").await else {
        return;
    };
    for (command, code) in [("/bin/nobody --at home", 127), ("/etc/passwd", 126)] {
        let result = live(&rig.driver, rig.stage.task(command), None)
            .await
            .expect("a life");
        assert_eq!(
            (result.status(), result.exit_code()),
            (Status::Error, Some(code)),
            "{command}"
        );
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_too_old_is_refused_by_name() {
    let Some(rig) = Rig::set("docker_driver_version").await else {
        return;
    };
    let error = rig
        .another(|config| config.server_version = "99.0.0".to_owned())
        .await
        .map(drop)
        .expect_err("to be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.report().contains("the Docker Engine is version 28.") && error.report().contains("99.0.0"),
        "{error:?}"
    );
    let same = rig
        .another(|config| config.server_version = "20.10".to_owned())
        .await;
    same.expect("a driver").close(&ctx()).await.expect("to close");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_that_is_away_is_named_and_the_container_can_be_started_later() {
    let Some(rig) = Rig::set("docker_driver_syslog").await else {
        return;
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("tcp://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let task = Task {
        logger_config: LoggerConfig {
            url: url.clone(),
            tags: Vec::new(),
        },
        ..rig.stage.task("/bin/true")
    };
    let cookie = rig
        .driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie");
    let error = start(&*cookie, None).await.map(drop).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::SyslogUnavailable, "{error:?}");
    let inside = error
        .downcast_ref::<ErrSyslogUnavailable>()
        .expect("the contract's error");
    assert_eq!(inside.url, url);
    let listener = std::net::TcpListener::bind(url.trim_start_matches("tcp://")).expect("the same port");
    let wait = cookie.run(&Context::new()).await.expect("to start at last");
    assert_eq!(wait.wait(&ctx()).await.status(), Status::Success);
    cookie.close(&ctx()).await.expect("to close");
    drop(listener);
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_other_instances_are_removed_and_our_own_stay() {
    let Some(rig) = Rig::set("docker_driver_orphans").await else {
        return;
    };
    let instance = |id: &str| {
        let id = id.to_owned();
        move |config: &mut Config| {
            config.container_label_tag = "agents".to_owned();
            config.instance_id = id;
        }
    };
    let running = |driver: DockerDriver, id: &str| {
        let task = Task {
            id: id.to_owned(),
            ..rig.stage.task("/bin/sleep 600")
        };
        async move {
            let cookie = driver
                .create_cookie(&ctx(), Arc::new(task))
                .await
                .expect("a cookie");
            drop(start(&*cookie, None).await.expect("a start"));
            cookie
        }
    };
    let (old, new) = (
        rig.another(instance("old")).await.expect("a driver"),
        rig.another(instance("new")).await.expect("a driver"),
    );
    let (orphan, own) = (
        running(old.clone(), "orphan").await,
        running(new.clone(), "own-1").await,
    );
    let again = rig.another(instance("new")).await.expect("a driver");
    again.recovered(&ctx()).await.expect("to recover");
    orphan.freeze(&ctx()).await.expect_err("it is gone");
    own.freeze(&ctx()).await.expect("it is there");
    for cookie in [orphan, own] {
        cookie.close(&ctx()).await.expect("to close");
    }
    for driver in [old, new, again] {
        driver.close(&ctx()).await.expect("to close");
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_holds_networks_that_functions_join_and_nothing_of_it_stays() {
    let Some(rig) = Rig::set("docker_driver_pool").await else {
        return;
    };
    let pooled = rig
        .another(|config| {
            config.pre_fork_pool_size = 2;
            config.pre_fork_networks = "none".to_owned();
            config.pre_fork_image = "busybox".to_owned();
            config.pre_fork_cmd = "sleep 600".to_owned();
        })
        .await
        .expect("a driver");
    // A slot has another network namespace than a container of its own would have: two functions are in one of two.
    let task = || Task {
        disable_net: false,
        ..rig.stage.task("")
    };
    let ready = async |count: usize| {
        let until = Instant::now() + patient(Duration::from_secs(30));
        loop {
            let state = pooled.pool().expect("a pool");
            if state.ready == count {
                return state;
            }
            assert!(Instant::now() < until, "{state:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    ready(2).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        ready(2).await;
        let (output, captured) = fnctr::driver::Output::capture(1 << 10);
        let task = Task {
            stdout: output.into(),
            ..task()
        };
        let lived = live(&pooled, task, Some("readlink /proc/self/ns/net; hostname")).await;
        assert_eq!(lived.expect("a life").status(), Status::Success);
        seen.insert(captured.text());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let state = ready(2).await;
    assert_eq!(
        (state.hits, state.misses, state.networks["none"]),
        (4, 0, 2),
        "{state:?}"
    );
    pooled.close(&ctx()).await.expect("to close");
    // The server keeps its directories of networks, which its first one makes.
    let kept = ["fifos/netns", "sandboxes/owners", "sandboxes"];
    let is_kept =
        |change: &Change| change.kind == Kind::File && kept.iter().any(|dir| change.name.ends_with(dir));
    assert_eq!(rig.changes_but(is_kept).await, BTreeSet::new());
    let stage = rig.end().await;
    for dir in kept {
        std::fs::remove_dir(stage.real.dir().join("cli").join(dir)).expect("an empty directory");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_loaded_before_the_driver_is_ready_and_idle_images_make_room() {
    let Some(rig) = Rig::set("docker_driver_images").await else {
        return;
    };
    let archive = image::build(
        rig.stage.real.dir(),
        "more.tar",
        &["--name", "localhost/more:1", "--env", "MORE=1"],
    );
    let loading = rig
        .another(|config| {
            config.docker_load_file = archive.display().to_string();
            config.image_clean_max_size = 1;
            config.image_clean_exempt_tags = "busybox".to_owned();
        })
        .await
        .expect("a driver");
    std::fs::remove_file(&archive).expect("to remove the archive");
    let task = |command: &str| Task {
        image: "localhost/more:1".to_owned(),
        ..rig.stage.task(command)
    };
    let gone = async || {
        let until = Instant::now() + patient(Duration::from_secs(30));
        loop {
            let cookie = loading
                .create_cookie(&ctx(), Arc::new(task("/bin/true")))
                .await
                .expect("a cookie");
            let is_gone = cookie.validate_image(&ctx()).await.expect("to validate");
            cookie.close(&ctx()).await.expect("to close");
            if is_gone {
                return;
            }
            assert!(Instant::now() < until, "the image stays");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    gone().await;
    // The exempt image is there, whatever it takes.
    let lived = live(&loading, rig.stage.task("/bin/true"), None).await;
    assert_eq!(lived.expect("a life").status(), Status::Success);
    loading.close(&ctx()).await.expect("to close");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_is_dropped_leaves_no_container() {
    let Some(rig) = Rig::set("docker_driver_dropped").await else {
        return;
    };
    for reached in 0..3 {
        let task = rig.stage.task("/bin/sleep 600");
        let cookie = rig
            .driver
            .create_cookie(&ctx(), Arc::new(task))
            .await
            .expect("a cookie");
        assert!(!cookie.validate_image(&ctx()).await.expect("to validate"));
        if reached >= 1 {
            cookie.create_container(&ctx()).await.expect("to create");
        }
        if reached >= 2 {
            drop(cookie.run(&Context::new()).await.expect("to run"));
        }
        drop(cookie);
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_is_made_by_its_name() {
    let Some(rig) = Rig::set("docker_driver_by_name").await else {
        return;
    };
    fnctr::register_docker().expect("to register");
    let config = Config {
        docker: rig.address(),
        ..Config::default()
    };
    let driver = fnctr::driver::new("docker", config).await.expect("a driver");
    driver.close(&ctx()).await.expect("to close");
    let nowhere = Config {
        docker: "unix:///nowhere/docker.sock".to_owned(),
        ..Config::default()
    };
    let error = fnctr::driver::new("docker", nowhere)
        .await
        .map(drop)
        .expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.report().contains("/nowhere/docker.sock"), "{error:?}");
    rig.strike().await;
}
