//! What an image has, where a container gets something of its own, and what of it can be executed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use fnctr::Settings;
use fnctr::driver::{Config, Cookie, Driver as _, Error, ErrorKind, ExecFailure, Status, Task};
use fnctr::oci::{Mount, TmpfsAccess};

use crate::real::Real;
use crate::world::{Stage, connect, connect_with, created, ctx};
use crate::{cli, image};

/// A stage with one more image, `IMAGE`, which has these files above those of the usual one.
async fn with_image(
    test: &str,
    change: impl FnOnce(&mut Config),
    options: &[&str],
    prepare: impl FnOnce(&Path),
) -> Option<Stage> {
    let stage = Stage::with(test, change).await?;
    Some(add(stage, IMAGE, options, prepare).await)
}

const IMAGE: &str = "own";

async fn add(stage: Stage, name: &str, options: &[&str], prepare: impl FnOnce(&Path)) -> Stage {
    let layer = stage.real.dir().join("layer");
    fs::create_dir(&layer).expect("a directory");
    fs::set_permissions(&layer, Permissions::from_mode(0o755)).expect("a mode");
    prepare(&layer);
    let added = layer.display().to_string();
    let options = [&["--name", name, "--add", &added], options].concat();
    let archive = image::build(stage.real.dir(), "own.tar", &options);
    stage.driver.load(&ctx(), &archive).await.expect("an image");
    fs::remove_file(archive).expect("to clean up");
    fs::remove_dir_all(layer).expect("to clean up");
    let before = crate::world::take(&stage.real).await;
    Stage { before, ..stage }
}

fn task(stage: &Stage, command: &str) -> Task {
    Task {
        image: IMAGE.into(),
        ..stage.task(command)
    }
}

/// A life that its options are not decided for yet.
async fn cookie(stage: &Stage, task: Task) -> Box<dyn Cookie> {
    let cookie = stage.driver.create_cookie(&ctx(), Arc::new(task)).await;
    cookie.expect("a cookie")
}

fn put(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, bytes).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn directory(path: &Path, mode: u32) {
    fs::create_dir_all(path).expect("a directory");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn link(to: &str, path: &Path) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    symlink(to, path).expect("a link");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_reads_its_files_whatever_the_umask_of_the_command() {
    let Some(stage) = Stage::set("a_function_reads_its_files").await else {
        return;
    };
    for umask in ["077", "777", "000"] {
        let run = cli::fnctr(
            &stage,
            &[
                "run",
                "busybox",
                "cat",
                "/etc/hosts",
                "/etc/hostname",
                "/etc/resolv.conf",
            ],
        );
        let done = Command::new("/bin/sh")
            .args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")])
            .arg(run.get_program())
            .args(run.get_args())
            .output()
            .expect("to run fnctr");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "umask {umask}: {done:?}");
        assert!(said.starts_with("127.0.0.1\tlocalhost"), "umask {umask}: {said}");
    }
    stage.strike().await;
}

fn refused(stage: &Stage, result: Result<impl std::fmt::Debug, Error>, why: ExecFailure, words: &[&str]) {
    let error = result.expect_err("must be refused");
    let sentence = error.report();
    assert_eq!(error.kind(), ErrorKind::InvalidTask, "{sentence}");
    assert_eq!(error.exec_failure(), Some(why), "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
    let layers = stage.real.dir().join("state/io.containerd.runtime.v2.task");
    let bundles = fs::read_dir(layers.join(stage.real.namespace()))
        .into_iter()
        .flatten();
    assert_eq!(bundles.count(), 0, "something was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_would_not_execute_is_refused_before_anything_is_made() {
    let elf = |machine: u8, loader: &[u8]| {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[16], bytes[18]) = (2, machine);
        (bytes[0x20], bytes[0x36], bytes[0x38], bytes[64]) = (64, 56, 1, 3);
        (bytes[64 + 8], bytes[64 + 32]) = (120, loader.len().try_into().expect("a short one"));
        bytes.extend(loader);
        bytes
    };
    let own = match std::env::consts::ARCH {
        "x86_64" => 62,
        _ => 183,
    };
    let layers = |root: &Path| {
        let x = |name: &str, bytes: &[u8]| put(&root.join("x").join(name), bytes, 0o755);
        x("empty", b"");
        x("plain", b"echo hello\n");
        x("other", &elf(22, b"/l\0"));
        x("windows", b"#!/bin/sh\r\necho hello\r\n");
        x("noshell", b"#!/bin/zsh -e\n");
        x("noloader", &elf(own, b"/lib/ld-none.so\0"));
        x("object", &{
            let mut object = elf(own, b"/l\0");
            object[16] = 1;
            object
        });
        x("endless", b"#!/x/endless\n");
        x("sound", b"#!../bin/sh\necho sound \"$0\"\n");
        x("nested", b"#! /x/sound\n");
        x(
            "long",
            format!("#!/bin/sh -{}\necho long\n", "e".repeat(300)).as_bytes(),
        );
        put(&root.join("x/closed"), "#!/bin/sh\n", 0o644);
        link("/opt/tools", &root.join("tools"));
    };
    let test = "what_the_kernel_would_not_execute";
    let Some(stage) = with_image(test, |_| {}, &["--workdir", "/x"], layers).await else {
        return;
    };
    let format = "exec format error";
    let cases: [(&str, &[&str]); 10] = [
        (
            "/x/empty",
            &["\"/x/empty\" in image", IMAGE, format, "it is empty"],
        ),
        ("/x/plain", &[format, "neither an ELF program nor a script"]),
        ("/x/other", &[format, "a program for", "machines"]),
        ("/x/object", &[format, "not a program"]),
        (
            "/x/windows",
            &[r#""/bin/sh\r" is not in the image"#, "as on Windows"],
        ),
        (
            "/x/noshell",
            &["its interpreter \"/bin/zsh\" is not in the image"],
        ),
        (
            "/x/noloader",
            &["its loader \"/lib/ld-none.so\" is not in the image"],
        ),
        ("/x/endless", &["more than 5 interpreters"]),
        ("/x/closed", &["permission", "644"]),
        ("/x", &["it is a directory"]),
    ];
    for (command, words) in cases {
        let result = stage.life(task(&stage, command), None).await;
        let missing = ["/x/windows", "/x/noshell", "/x/noloader"].contains(&command);
        let why = if missing {
            ExecFailure::NotFound
        } else {
            ExecFailure::NotExecutable
        };
        refused(&stage, result, why, words);
    }
    for missing in ["nosuch", "/x/nosuch", "./nosuch"] {
        let result = stage.life(task(&stage, missing), None).await;
        refused(&stage, result, ExecFailure::NotFound, &[missing, "was not found"]);
    }
    for (command, expected) in [
        ("./sound", "sound ./sound\n"),
        ("/x/nested", "sound /x/sound\n"),
        ("/x/long", "long\n"),
    ] {
        let (output, said) = crate::world::captured();
        let task = Task {
            stdout: output.into(),
            ..task(&stage, command)
        };
        let lived = stage.life(task, None).await.expect("to run");
        assert_eq!(lived.status(), Status::Success, "{command}: {lived:?}");
        assert_eq!(said.text(), expected, "{command}");
    }
    // What is mounted is not in the image, by whatever way it is reached.
    let tools = stage.real.dir().join("tools");
    put(&tools.join("run"), "#!/bin/sh\nexit 5\n", 0o755);
    for command in ["/tools/run", "/opt/tools/run"] {
        let task = Task {
            volumes: vec![(tools.clone(), "/opt/tools".into())],
            ..task(&stage, command)
        };
        let lived = stage.life(task, None).await.expect("to run");
        assert_eq!(lived.exit_code(), Some(5), "{command}: {lived:?}");
    }
    fs::remove_dir_all(tools).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_links_for_its_files_gets_plain_ones_and_mtab_shows_the_mounts() {
    let layers = |root: &Path| {
        link("/dev/null", &root.join("etc/hosts"));
        link("hostname", &root.join("etc/hostname"));
        link("/proc/self/status", &root.join("etc/resolv.conf"));
        put(&root.join("etc/mtab"), "stale\n", 0o644);
    };
    let test = "an_image_with_links_for_its_files";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let script = "
        readlink /etc/mtab
        grep -c ' / ' /etc/mtab
        cat /etc/hostname
        head -n 1 /etc/hosts | tr '\\t' ' '
        head -n 1 /etc/resolv.conf
        stat -c '%F' /etc/hosts /dev/null
        echo x > /dev/null && echo null=open
        stat -c '%u:%g %a' /etc
    ";
    let closed = stage
        .another(|config| config.enable_readonly_rootfs = true)
        .await
        .expect("a driver");
    for driver in [&stage.driver, &closed] {
        // The usual image has no /etc/mtab at all.
        for image in [IMAGE, "busybox"] {
            let (output, said) = crate::world::captured();
            let task = Task {
                image: image.into(),
                stdout: output.into(),
                ..stage.task("")
            };
            let id = task.id.clone();
            let cookie = created(driver, task, script).await;
            let result = cookie.run(&ctx()).await.expect("a start").wait(&ctx()).await;
            cookie.close(&ctx()).await.expect("to close");
            let expected = format!(
                "/proc/mounts\n1\n{id}\n127.0.0.1 localhost\n# This container has no network.\nregular file\n\
                 character special file\nnull=open\n0:0 755\n"
            );
            assert_eq!(said.text(), expected, "{image}: {result:?}");
        }
    }
    closed.close(&ctx()).await.expect("to close");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_a_copy_of_the_image_gets_the_same() {
    let layers = |root: &Path| {
        link("/dev/null", &root.join("etc/hosts"));
        put(&root.join("etc/mtab"), "stale\n", 0o644);
        directory(&root.join("tmp"), 0o755);
    };
    let test = "a_layer_that_is_a_copy_of_the_image";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let native = |settings: &mut Settings| settings.snapshotter = "native".to_owned();
    let driver = connect_with(&stage.real, native, || crate::world::config(&stage.real));
    let driver = driver.await.expect("a driver");
    let lives = async || {
        let (output, said) = crate::world::captured();
        let task = Task {
            tmpfs_size: 1,
            stdout: output.into(),
            ..task(&stage, "")
        };
        let script = "readlink /etc/mtab; grep -c localhost /etc/hosts; stat -c %a /tmp / /etc";
        let cookie = created(&driver, task, script).await;
        let result = cookie.run(&ctx()).await.expect("a start").wait(&ctx()).await;
        cookie.close(&ctx()).await.expect("to close");
        assert_eq!(said.text(), "/proc/mounts\n2\n1777\n755\n755\n", "{result:?}");
    };
    // The first one unpacks the image.
    lives().await;
    let before = crate::world::take(&stage.real).await;
    lives().await;
    before.assert_same().await;
    driver.close(&ctx()).await.expect("to close");
    let before = crate::world::take(&stage.real).await;
    Stage { before, ..stage }.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_where_a_container_has_a_file_is_refused_by_name() {
    let layers = |root: &Path| directory(&root.join("etc/resolv.conf"), 0o755);
    let test = "a_directory_where_a_container_has_a_file";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let error = stage.life(task(&stage, "true"), None).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ImageRejected, "{error:?}");
    let said = error.report();
    assert!(
        said.contains("\"/etc/resolv.conf\" in image") && said.contains("is a directory"),
        "{said}"
    );
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_etc_is_kept_and_one_into_a_mount_makes_nothing_on_the_host() {
    let layers = |root: &Path| {
        put(
            &root.join("conf/etc/passwd"),
            "fn:x:1000:1000::/:/bin/sh\n",
            0o644,
        );
        directory(&root.join("conf/etc"), 0o750);
        link("conf/etc", &root.join("etc"));
    };
    let test = "a_link_for_etc_is_kept";
    let Some(stage) = with_image(
        test,
        |config| config.disable_unprivileged_containers = true,
        &[],
        layers,
    )
    .await
    else {
        return;
    };
    let script = "
        readlink /etc
        readlink /conf/etc/mtab
        grep -c localhost /conf/etc/hosts
        cat /etc/passwd
        stat -c %a /conf/etc
    ";
    let (said, result) = stage.says(task(&stage, ""), script).await;
    assert_eq!(
        said, "conf/etc\n/proc/mounts\n2\nfn:x:1000:1000::/:/bin/sh\n750\n",
        "{result:?}"
    );
    let dir = stage.real.dir().join("conf");
    fs::create_dir(&dir).expect("a directory");
    let mounted = Task {
        volumes: vec![(dir.clone(), "/conf".into())],
        ..task(&stage, "")
    };
    let (said, result) = stage
        .says(mounted, "stat -c %F /etc; grep -c localhost /etc/hosts; ls /conf")
        .await;
    assert_eq!(said, "directory\n2\n", "{result:?}");
    assert_eq!(
        fs::read_dir(&dir).expect("it to be there").count(),
        0,
        "made on the host"
    );
    fs::remove_dir(dir).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_task_s_own_takes_the_place_of_the_image_s_link() {
    let layers = |root: &Path| {
        link("hosts", &root.join("etc/hosts"));
        link("/data/hostname", &root.join("etc/hostname"));
        link("/proc/self/mounts", &root.join("etc/mtab"));
    };
    let test = "a_file_of_the_task_s_own_takes_the_place";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let dir = stage.real.dir().join("data");
    let own = stage.real.dir().join("mine");
    fs::create_dir(&dir).expect("a directory");
    put(&own, "mine\n", 0o644);
    let task = Task {
        volumes: vec![
            (own.clone(), "/etc/hosts:ro".into()),
            (own.clone(), "/etc/mtab:ro".into()),
            (dir.clone(), "/data".into()),
        ],
        ..task(&stage, "")
    };
    let id = task.id.clone();
    let (said, result) = stage.says(task, "cat /etc/hosts /etc/mtab /etc/hostname").await;
    assert_eq!(said, format!("mine\nmine\n{id}\n"), "{result:?}");
    assert_eq!(
        fs::read_dir(&dir).expect("it to be there").count(),
        0,
        "made on the host"
    );
    fs::remove_dir(dir).expect("to clean up");
    fs::remove_file(own).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_goes_where_a_link_of_the_image_leads_though_nothing_is_there() {
    let layers = |root: &Path| {
        link("/usr/share/zoneinfo/Here", &root.join("etc/localtime"));
        link("../srv/new/er", &root.join("var/data"));
    };
    let test = "a_mount_goes_where_a_link_of_the_image_leads";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let dir = stage.real.dir().join("data");
    put(&dir.join("time"), "now\n", 0o644);
    let task = Task {
        volumes: vec![
            (dir.join("time"), "/etc/localtime".into()),
            (dir.clone(), "/var/data".into()),
        ],
        ..task(&stage, "")
    };
    let script = "cat /usr/share/zoneinfo/Here /srv/new/er/time; readlink /etc/localtime";
    let (said, result) = stage.says(task, script).await;
    assert_eq!(said, "now\nnow\n/usr/share/zoneinfo/Here\n", "{result:?}");
    fs::remove_dir_all(dir).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_everybody_s_to_write_whatever_mode_the_image_s_directory_has() {
    let layers = |root: &Path| {
        directory(&root.join("tmp"), 0o755);
        directory(&root.join("dev"), 0o700);
        directory(&root.join("var"), 0o711);
        directory(&root.join("work/deep"), 0o700);
        link("../work/deep", &root.join("var/tmp"));
    };
    let test = "memory_is_everybody_s_to_write";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let task = Task {
        tmpfs_size: 1,
        ..task(&stage, "")
    };
    let (output, said) = crate::world::captured();
    let task = Task {
        stdout: output.into(),
        ..task
    };
    let cookie = cookie(&stage, task).await;
    let options = |options: &mut fnctr::ContainerOptions| {
        let script = "
            stat -c '%a %u:%g' /tmp /work/deep /home /dev
            stat -c %a /var /work
            touch /tmp/x /var/tmp/x && echo written
            echo x >/dev/null && echo null
        ";
        let memory = |place: &str, mode| Mount::Tmpfs {
            destination: place.into(),
            size: None,
            inodes: None,
            access: TmpfsAccess {
                mode,
                ..TmpfsAccess::default()
            },
        };
        let more = [
            memory("/var/tmp", 0o1777),
            memory("/new/er", 0o1777),
            memory("/home", 0o711),
        ];
        options.config.mounts.extend(more);
        options.config.command = Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    };
    cookie.change_options(options).expect("options");
    let result = crate::world::live(cookie.as_ref(), None).await.expect("to run");
    cookie.close(&ctx()).await.expect("to close");
    assert_eq!(
        said.text(),
        "1777 0:0\n1777 0:0\n711 0:0\n755 0:0\n711\n755\nwritten\nnull\n",
        "{result:?}"
    );
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entrypoint_of_one_empty_word_is_none() {
    let options = ["--entrypoint", "", "--cmd", "echo", "--cmd", "by the image"];
    let test = "an_entrypoint_of_one_empty_word";
    let Some(stage) = with_image(test, |_| {}, &options, |_| {}).await else {
        return;
    };
    for (command, expected) in [("", "by the image\n"), ("echo own", "own\n")] {
        let (output, said) = crate::world::captured();
        let task = Task {
            stdout: output.into(),
            ..task(&stage, command)
        };
        let lived = stage.life(task, None).await.expect("to run");
        assert_eq!(said.text(), expected, "{lived:?}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_files_that_are_devices_say_nothing_and_directories_are_refused_by_name() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    let layers = |root: &Path| {
        directory(&root.join("dev"), 0o755);
        let null = root.join("dev/null");
        mknod(
            &null,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(1, 3),
        )
        .expect("a device");
        link("../dev/null", &root.join("etc/passwd"));
        link("/dev/null", &root.join("etc/group"));
    };
    let test = "user_files_that_are_devices";
    let Some(stage) = with_image(test, |_| {}, &[], layers).await else {
        return;
    };
    let (said, result) = stage.says(task(&stage, ""), "id -u; id -g").await;
    assert_eq!(said, "1000\n1000\n", "{result:?}");
    let named = cookie(&stage, task(&stage, "true")).await;
    let user = |options: &mut fnctr::ContainerOptions| options.config.user = Some("fn".into());
    named.change_options(user).expect("options");
    let error = crate::world::live(named.as_ref(), None)
        .await
        .expect_err("no such user");
    assert!(error.report().contains("\"fn\""), "{}", error.report());
    named.close(&ctx()).await.expect("to close");

    let directories = |root: &Path| directory(&root.join("etc/passwd"), 0o755);
    let stage = add(stage, "directories", &[], directories).await;
    let task = Task {
        image: "directories".into(),
        ..stage.task("true")
    };
    let error = stage.life(task, None).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ImageRejected, "{error:?}");
    assert!(error.report().contains("\"/etc/passwd\" in image"), "{error:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_the_image_may_be_behind_a_link() {
    let layers = |root: &Path| {
        directory(&root.join("var"), 0o755);
        directory(&root.join("run"), 0o755);
        put(&root.join("srv/data/given"), "by the image\n", 0o644);
        directory(&root.join("srv/data"), 0o777);
        link("/run", &root.join("var/run"));
        link("/srv/data", &root.join("data"));
    };
    let options = ["--volume", "/var/run/new", "--volume", "/data"];
    let change = |config: &mut Config| {
        config.image_enable_volume = true;
        config.enable_readonly_rootfs = true;
    };
    let test = "a_volume_of_the_image_may_be_behind_a_link";
    let Some(stage) = with_image(test, change, &options, layers).await else {
        return;
    };
    let script = "
        stat -c '%F %a' /var/run/new
        cat /data/given
        touch /data/x && ls /srv/data | tr '\\n' ' '
        touch /srv/x 2>/dev/null || echo closed
    ";
    let (said, result) = stage.says(task(&stage, ""), script).await;
    assert_eq!(
        said, "directory 755\nby the image\ngiven x closed\n",
        "{result:?}"
    );
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_enter_what_a_containerd_with_a_closed_umask_makes() {
    let test = "everybody_may_enter_what_a_containerd_with_a_closed_umask_makes";
    let Some(real) = Real::start_with_umask(test, "077") else {
        return;
    };
    let Some(stage) = Stage::on(real, |_| {}).await else {
        return;
    };
    let given = stage.real.dir().join("given");
    directory(&given, 0o755);
    let task = Task {
        work_dir: Some("/made/for/it".into()),
        volumes: vec![(given.clone(), "/far/away/given".into())],
        ..stage.task("")
    };
    let script =
        "id -u; pwd; stat -c %a / /made /made/for /made/for/it /far /far/away; ls /far/away/given && umask";
    let (said, result) = stage.says(task, script).await;
    assert_eq!(
        said, "1000\n/made/for/it\n755\n755\n755\n755\n755\n755\n0022\n",
        "{result:?}"
    );
    fs::remove_dir(given).expect("to clean up");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_directory_that_no_overlay_can_be_mounted_from_is_refused_at_the_start() {
    if !crate::real::available("a_root_directory_that_no_overlay_can_be_mounted_from") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for (name, shown) in [("a:b", "':'"), ("a,b", "','"), ("a\\b", r"'\\'")] {
        let root = dir.path().join(name);
        let done = Command::new(env!("CARGO_BIN_EXE_fnctr"))
            .args(["--embedded", "--root"])
            .arg(&root)
            .arg("images")
            .output()
            .expect("to run fnctr");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            !done.status.success() && said.contains(name) && said.contains(shown),
            "{said}"
        );
        assert!(!root.exists(), "{name} was made");
    }
    // One that runs already.
    let place = dir.path().join("c:d");
    fs::create_dir(&place).expect("a directory");
    let Some(real) = Real::start_in("a_containerd_that_no_overlay_can_be_mounted_from", &place) else {
        return;
    };
    let error = connect(&real, crate::world::config(&real))
        .await
        .expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}");
    let said = error.report();
    assert!(said.contains("c:d") && said.contains("overlay"), "{said}");
    drop(real);
    dir.close().expect("to clean up");
}
