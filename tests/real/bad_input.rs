//! Bad input and a broken host: one clear sentence with the name of the thing, the right kind, nothing left.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use fnctr::driver::{Config, Cookie, Driver as _, Error, ErrorKind, Status, Task};
use fnctr::{ContainerOptions, ContainerdDriver, Namespace, Settings};

use crate::image;
use crate::real::Real;
use crate::world::{Stage, ctx, live};

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, names: &[&str]) {
    let error = result.expect_err("must be refused");
    let sentence = error.report();
    assert_eq!(error.kind(), kind, "{sentence}");
    for name in names {
        assert!(sentence.contains(name), "{name:?} is not named in: {sentence}");
    }
    assert!(
        !sentence.contains('\n') && sentence.len() < 600,
        "not one sentence: {sentence}"
    );
}

async fn with_options(stage: &Stage, change: impl FnOnce(&mut ContainerOptions)) -> Result<(), Error> {
    let cookie = stage
        .driver
        .create_cookie(&ctx(), Arc::new(stage.task("/bin/true")))
        .await?;
    let cookie: &dyn Cookie = cookie.as_ref();
    cookie.change_options(change)?;
    let created = async {
        cookie.validate_image(&ctx()).await?;
        cookie.create_container(&ctx()).await
    }
    .await;
    cookie.close(&ctx()).await?;
    created
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name_and_leaves_nothing() {
    let Some(stage) = Stage::set("what_cannot_be_is_refused_by_name").await else {
        return;
    };
    let bad = |change: &dyn Fn(&mut Task)| {
        let mut task = stage.task("/bin/true");
        change(&mut task);
        stage.life(task, None)
    };
    use ErrorKind::{InvalidTask, Unavailable, Unsupported};
    assert_refused(
        bad(&|t| t.image = "Bad Name".into()).await,
        InvalidTask,
        &["Bad Name"],
    );
    assert_refused(
        bad(&|t| t.image = "127.0.0.1:1/nobody/home:v1".into()).await,
        Unavailable,
        &["127.0.0.1:1/nobody/home:v1", "cannot be reached"],
    );
    assert_refused(
        bad(&|t| t.command = "nosuchcommand".into()).await,
        InvalidTask,
        &["nosuchcommand", "PATH"],
    );
    let no_command = bad(&|t| t.command = "/bin/nosuch".into()).await;
    assert_refused(no_command, InvalidTask, &["/bin/nosuch", "busybox"]);
    assert_refused(
        bad(&|t| t.open_files = Some(1 << 40)).await,
        Unsupported,
        &["RLIMIT_NOFILE", "ceiling"],
    );
    assert_refused(bad(&|t| t.memory = 1).await, InvalidTask, &["memory"]);
    assert_refused(bad(&|t| t.cpus = 1).await, InvalidTask, &["CPU"]);
    assert_refused(bad(&|t| t.tmpfs_size = u64::MAX).await, InvalidTask, &["tmpfs"]);
    let too_much = bad(&|t| t.fs_size = u64::MAX).await;
    assert_refused(too_much, InvalidTask, &["fs_size", "bytes"]);
    let closed = stage.real.dir().join("closed");
    std::fs::create_dir(&closed).expect("a directory");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let unwritable = bad(&|t| {
        t.uds_docker_path = Some(closed.clone());
        t.uds_docker_dest = Some("/iofs".into());
    });
    assert_refused(
        unwritable.await,
        InvalidTask,
        &["closed", "not writable", "1000:1000"],
    );
    std::fs::remove_dir(&closed).expect("to clean up");

    let user = with_options(&stage, |options| options.config.user = Some("stranger".into())).await;
    assert_refused(user, InvalidTask, &["stranger"]);
    let group = with_options(&stage, |options| {
        options.config.user = Some("root:strangers".into())
    })
    .await;
    assert_refused(group, InvalidTask, &["strangers"]);
    with_options(&stage, |options| options.config.user = Some("fn".into()))
        .await
        .expect("a user of the image");
    stage.strike().await;
}

/// What is named, and the change that is refused.
type Case<'a> = (&'a [&'a str], fn(&mut ContainerOptions));

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_runtime_would_refuse_is_the_task_s_own_mistake_and_is_named() {
    let Some(stage) = Stage::set("what_only_the_runtime_would_refuse").await else {
        return;
    };
    let dir = stage.real.dir().join("source");
    std::fs::create_dir(&dir).expect("a directory");
    let file = dir.join("file");
    std::fs::write(&file, "x").expect("a file");
    let refused = async |names: &[&str], change: &dyn Fn(&mut Task)| {
        let mut task = stage.task("/bin/true");
        change(&mut task);
        let refused = stage.life(task, None).await;
        let error = refused.as_ref().expect_err("must be refused");
        assert!(error.is_user_error() && error.code() == 400, "{}", error.report());
        assert_refused(refused, ErrorKind::InvalidTask, names);
    };
    let volume = |source: &std::path::Path, destination: &str| {
        let volume = (source.to_owned(), destination.to_owned());
        move |task: &mut Task| task.volumes.push(volume.clone())
    };
    for few in [0, 10] {
        let files = [few.to_string(), "RLIMIT_NOFILE".to_owned()];
        refused(&files.each_ref().map(String::as_str), &|t| {
            t.open_files = Some(few)
        })
        .await;
    }
    refused(&["/bin/busybox", "busybox"], &|t| {
        t.work_dir = Some("/bin/busybox".into())
    })
    .await;
    refused(&["/bin/busybox/x"], &|t| {
        t.work_dir = Some("/bin/busybox/x".into())
    })
    .await;
    refused(&["/home", "a directory", "a file"], &volume(&file, "/home")).await;
    refused(
        &["/etc/passwd", "a directory", "a file"],
        &volume(&dir, "/etc/passwd"),
    )
    .await;
    refused(&["/bin/busybox/x"], &volume(&dir, "/bin/busybox/x")).await;
    refused(&["/dev", "null"], &volume(&dir, "/dev")).await;
    refused(&["255 bytes"], &volume(&dir, &format!("/{}", "n".repeat(300)))).await;
    refused(&["/v:z", "ro"], &volume(&dir, "/v:z")).await;

    let options: [Case<'_>; 4] = [
        (&["config.network", "the options"], |options| {
            options.config.network = fnctr::oci::NetworkMode::Host;
        }),
        (&["oom_score_adj", "5000"], |options| {
            options.config.oom_score_adj = Some(5000)
        }),
        (&["net.ipv4.nonsense"], |options| {
            drop(
                options
                    .config
                    .sysctls
                    .insert("net.ipv4.nonsense".into(), "1".into()),
            );
        }),
        (&["long", "4096"], |options| {
            drop(options.labels.insert("long".into(), "v".repeat(4093)))
        }),
    ];
    for (names, change) in options {
        assert_refused(with_options(&stage, change).await, ErrorKind::InvalidTask, names);
    }
    // What is just right. crun needs more files itself than runc.
    let crun = std::env::var("FNCTR_TEST_RUNTIME").is_ok_and(|runtime| runtime.contains("crun"));
    let fine = Task {
        open_files: Some(if crun { 64 } else { 11 }),
        work_dir: Some("/v/new".into()),
        volumes: vec![(dir.clone(), "/v".into()), (file.clone(), "/etc/passwd".into())],
        ..stage.task("/bin/true")
    };
    let lived = stage.life(fine, None).await.expect("to run");
    assert_eq!(lived.status(), Status::Success, "{lived:?}");
    std::fs::remove_dir_all(dir).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_name_is_a_conflict_and_its_owner_stays_untouched() {
    let Some(stage) = Stage::set("a_live_name_is_a_conflict").await else {
        return;
    };
    let task = || Task {
        id: "twin".into(),
        ..stage.task("/bin/sleep 60")
    };
    let first = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task()))
        .await
        .expect("a cookie");
    first.validate_image(&ctx()).await.expect("an image");
    first.create_container(&ctx()).await.expect("a container");
    let wait = first.run(&ctx()).await.expect("a start");
    assert_refused(stage.life(task(), None).await, ErrorKind::Conflict, &["twin"]);
    first.freeze(&ctx()).await.expect("the first to be as it was");
    first.unfreeze(&ctx()).await.expect("the first to be as it was");
    first.close(&ctx()).await.expect("to close");
    assert_eq!(wait.wait(&ctx()).await.exit_code(), Some(137));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_declares_volumes_is_refused_unless_they_are_enabled() {
    let Some(stage) = Stage::set("an_image_that_declares_volumes").await else {
        return;
    };
    let archive = image::build(
        stage.real.dir(),
        "v.tar",
        &["--name", "volumes:latest", "--volume", "/data"],
    );
    stage.driver.load(&ctx(), &archive).await.expect("an image");
    std::fs::remove_file(archive).expect("to clean up");
    let before = crate::world::take(&stage.real).await;
    let task = || Task {
        image: "volumes".into(),
        ..stage.task("/bin/true")
    };
    let error = stage.life(task(), None).await.expect_err("must be refused");
    assert_eq!((error.code(), error.kind()), (400, ErrorKind::ImageRejected));
    assert!(error.report().contains("/data"), "{error:?}");
    let lenient = stage
        .another(|config| config.image_enable_volume = true)
        .await
        .expect("a driver");
    let cookie = lenient
        .create_cookie(&ctx(), Arc::new(task()))
        .await
        .expect("a cookie");
    let lived = live(cookie.as_ref(), None).await.expect("to run");
    assert_eq!(lived.status(), Status::Success);
    cookie.close(&ctx()).await.expect("to close");
    lenient.close(&ctx()).await.expect("to close");
    before.assert_same().await;
    stage.driver.close(&ctx()).await.expect("to close");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_containerd_is_named_with_what_to_do() {
    let config = Config {
        docker: "/nowhere/containerd.sock".into(),
        ..Config::default()
    };
    let error = ContainerdDriver::connect(&ctx(), config, Settings::default()).await;
    assert_refused(error, ErrorKind::Unavailable, &["/nowhere/containerd.sock"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_is_too_old_and_an_init_that_is_missing_are_refused_at_the_start() {
    let Some(stage) = Stage::set("a_containerd_that_is_too_old").await else {
        return;
    };
    let old = stage
        .another(|config| config.server_version = "99.1".into())
        .await;
    assert_refused(old, ErrorKind::InvalidConfig, &["99.1"]);
    let settings = Settings {
        init: Some("/nowhere/init".into()),
        ..Settings::default()
    };
    let config = Config {
        docker: stage.real.address().display().to_string(),
        ..Config::default()
    };
    let missing = ContainerdDriver::connect(&ctx(), config, settings).await;
    assert_refused(missing, ErrorKind::InvalidConfig, &["/nowhere/init"]);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_another_containerd_keeps_its_cgroup_to_itself() {
    let Some(stage) = Stage::set("a_container_of_another_containerd").await else {
        return;
    };
    let Some(other) = Real::start("a_container_of_another_containerd") else {
        return;
    };
    let task = || Task {
        id: "twin".into(),
        ..stage.task("/bin/sleep 60")
    };
    let first = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task()))
        .await
        .expect("a cookie");
    first.validate_image(&ctx()).await.expect("an image");
    first.create_container(&ctx()).await.expect("a container");
    first.run(&ctx()).await.expect("a start");

    let settings = Settings {
        namespace: Some(Namespace::new(stage.real.namespace()).expect("a namespace")),
        run_dir: other.dir().join("run"),
        cgroup_parent: "/".into(),
        networks: crate::world::networks(&other),
        ..Settings::default()
    };
    let config = Config {
        docker: other.address().display().to_string(),
        ..Config::default()
    };
    let second = ContainerdDriver::connect(&ctx(), config, settings)
        .await
        .expect("a driver");
    second
        .load(&ctx(), &image::busybox(other.dir()))
        .await
        .expect("an image");
    let twin = second
        .create_cookie(&ctx(), Arc::new(task()))
        .await
        .expect("a cookie");
    let refused = live(twin.as_ref(), None).await;
    assert_refused(
        refused,
        ErrorKind::Conflict,
        &["twin", "in use by another container"],
    );
    twin.close(&ctx()).await.expect("to close");
    second.close(&ctx()).await.expect("to close");

    first.freeze(&ctx()).await.expect("the first to be as it was");
    first.close(&ctx()).await.expect("to close");
    stage.strike().await;
}
