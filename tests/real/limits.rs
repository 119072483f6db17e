//! Each limit of a task, as the function itself sees it, and as the kernel enforces it.

use std::os::unix::fs::PermissionsExt as _;

use fnctr::driver::{RunError, Status, Task};

use crate::image;
use crate::world::{Stage, ctx};

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_is_seen_from_inside() {
    let Some(stage) = Stage::set("every_limit_is_seen_from_inside").await else {
        return;
    };
    let uds = stage.real.dir().join("uds");
    std::fs::create_dir(&uds).expect("a directory");
    std::fs::set_permissions(&uds, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    let task = Task {
        pids: 20,
        open_files: Some(128),
        locked_memory: Some(64 << 10),
        pending_signals: Some(50),
        message_queue: Some(4096),
        tmpfs_size: 8,
        work_dir: Some("/somewhere/new".into()),
        uds_docker_path: Some(uds.clone()),
        uds_docker_dest: Some("/iofs".into()),
        env_vars: [("GREETING".to_owned(), "hello world".to_owned())].into(),
        ..stage.task("")
    };
    let script = "
        echo id=$(id -u):$(id -g)
        echo cwd=$(pwd)
        echo greeting=$GREETING
        echo nofile=$(ulimit -n)
        grep -E 'locked memory|pending signals|msgqueue size' /proc/self/limits | tr -s ' ' | sed 's/^Max //; s/ *$//'
        grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t' ' '
        df -m /tmp | tail -1 | awk '{print \"tmp=\" $2}'
        echo init=$(cat /proc/1/comm)
        touch /iofs/lsnr.sock && echo uds=ok
        ls /sys/class/net | tr '\\n' ' '
    ";
    let (said, result) = stage.says(task, script).await;
    assert_eq!(result.status(), Status::Success, "{result:?}\n{said}");
    for line in [
        "id=1000:1000",
        "cwd=/somewhere/new",
        "greeting=hello world",
        "nofile=128",
        "locked memory 65536 65536 bytes",
        "pending signals 50 50 signals",
        "msgqueue size 4096 4096 bytes",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "tmp=8",
        "uds=ok",
        "lo ",
    ] {
        assert!(
            said.lines().any(|said| said == line),
            "{line:?} is not in:\n{said}"
        );
    }
    assert!(
        said.contains("init=docker-init") || said.contains("init=tini"),
        "{said}"
    );
    assert!(
        uds.join("lsnr.sock").exists(),
        "the function writes to the host's directory"
    );
    std::fs::remove_dir_all(uds).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_root_is_read_only_and_tmp_is_not() {
    let read_only = Stage::with("a_read_only_root_is_read_only_and_tmp_is_not", |config| {
        config.enable_readonly_rootfs = true;
        config.max_tmpfs_inodes = 10;
    });
    let Some(stage) = read_only.await else { return };
    let script = "
        touch /x 2>/dev/null || echo root=closed
        touch /tmp/1 && echo tmp=open
        for n in 2 3 4 5 6 7 8 9 10 11 12; do touch /tmp/$n 2>/dev/null || { echo full; break; }; done
    ";
    let (said, _) = stage.says(stage.task(""), script).await;
    assert_eq!(said, "root=closed\ntmp=open\nfull\n");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_the_image_is_writable_under_a_read_only_root_and_goes_with_the_container() {
    let lenient = Stage::with("a_volume_of_the_image_is_writable", |config| {
        config.image_enable_volume = true;
        config.enable_readonly_rootfs = true;
    });
    let Some(stage) = lenient.await else { return };
    let layer = stage.real.dir().join("layer");
    std::fs::create_dir_all(layer.join("home/fn")).expect("a directory");
    std::fs::write(layer.join("home/fn/given"), "by the image\n").expect("a file");
    let layer_option = layer.display().to_string();
    let options = [
        "--name",
        "volumes",
        "--add",
        &layer_option,
        "--volume",
        "/home/fn",
        "--volume",
        "/home/fn/new/er",
    ];
    let archive = image::build(stage.real.dir(), "v.tar", &options);
    stage.driver.load(&ctx(), &archive).await.expect("an image");
    std::fs::remove_file(archive).expect("to clean up");
    std::fs::remove_dir_all(layer).expect("to clean up");
    let before = crate::world::take(&stage.real).await;
    let stage = Stage { before, ..stage };
    let script = "
        touch /home/x 2>/dev/null || echo root=closed
        cat /home/fn/given
        stat -c '%u:%g %a' /home/fn /home/fn/new/er
        touch /home/fn/x && ls /home/fn | tr '\\n' ' '
    ";
    // What one life writes, the next does not find.
    for _ in 0..2 {
        let task = Task {
            image: "volumes".into(),
            ..stage.task("")
        };
        let (said, result) = stage.says(task, script).await;
        let expected = "root=closed\nby the image\n1000:1000 755\n0:0 755\ngiven new x ";
        assert_eq!(said, expected, "{result:?}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_says_so_is_read_only() {
    let Some(stage) = Stage::set("a_volume_that_says_so_is_read_only").await else {
        return;
    };
    let dir = stage.real.dir().join("volume");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    std::fs::write(dir.join("given"), "by the host\n").expect("a file");
    let volumes = ["/ro:ro", "/rw:rw", "/plain"].map(|place| (dir.clone(), place.to_owned()));
    let task = Task {
        volumes: volumes.to_vec(),
        ..stage.task("")
    };
    let script = "
        cat /ro/given
        touch /ro/x 2>/dev/null || echo ro=closed
        touch /rw/x && echo rw=open
        touch /plain/y && echo plain=open
        ls / | grep :
        true
    ";
    let (said, result) = stage.says(task, script).await;
    assert_eq!(
        said, "by the host\nro=closed\nrw=open\nplain=open\n",
        "{result:?}"
    );
    std::fs::remove_dir_all(dir).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_in_a_network_of_its_own_may_listen_on_port_80_and_ping() {
    let Some(stage) = Stage::set("a_function_in_a_network_of_its_own").await else {
        return;
    };
    let script = "
        id -u
        httpd -p 80 -h /home && echo listens
        cat /proc/sys/net/ipv4/ping_group_range | tr '\\t' ' '
    ";
    let (said, result) = stage.says(stage.task(""), script).await;
    // busybox's ping knows raw sockets alone, so the kernel's answer must do.
    assert_eq!(said, "1000\nlistens\n0 2147483647\n", "{result:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fork_after_the_last_fails() {
    let Some(stage) = Stage::set("the_fork_after_the_last_fails").await else {
        return;
    };
    // The init, the shell, and eight children.
    let task = Task {
        pids: 10,
        ..stage.task("")
    };
    let script = "n=0; while [ $n -lt 30 ]; do sleep 5 & n=$((n+1)); done 2>/dev/null; echo unreached";
    let (said, result) = stage.says(task, script).await;
    assert!(!said.contains("unreached"), "{said} {result:?}");
    assert_ne!(result.status(), Status::Success, "{result:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_is_an_oom_kill_with_the_limit_and_swap_is_no_way_out() {
    let Some(stage) = Stage::set("memory_beyond_the_limit").await else {
        return;
    };
    let task = Task {
        memory: 16 << 20,
        ..stage.task("")
    };
    let (_, result) = stage.says(task, "tail /dev/zero").await;
    assert_eq!(result.status(), Status::Killed, "{result:?}");
    let Some(RunError::OutOfMemory(oom)) = result.error() else {
        panic!("{result:?}")
    };
    assert_eq!(oom.limit.map(|limit| limit.0), Some(16 << 20));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_tmpfs_is_the_functions_error() {
    let Some(stage) = Stage::set("a_full_tmpfs_is_the_functions_error").await else {
        return;
    };
    let task = Task {
        tmpfs_size: 1,
        ..stage.task("")
    };
    let (said, result) = stage
        .says(task, "dd if=/dev/zero of=/tmp/x bs=64k count=32 2>&1; exit 3")
        .await;
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!((result.status(), result.exit_code()), (Status::Error, Some(3)));
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_containers_are_root_with_dockers_capabilities() {
    let trusted = Stage::with("trusted_containers", |config| {
        config.disable_unprivileged_containers = true
    });
    let Some(stage) = trusted.await else { return };
    let script = "id -u; grep -E '^(CapEff|NoNewPrivs):' /proc/self/status | tr '\\t' ' '";
    let (said, _) = stage.says(stage.task(""), script).await;
    assert_eq!(said, "0\nCapEff: 00000000a80425fb\nNoNewPrivs: 0\n");
    stage.strike().await;
}
