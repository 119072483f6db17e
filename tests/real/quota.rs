//! The limit on what a function may write into its root file system, kept by project quotas.
//!
//! `FNCTR_TEST_XFS` names a directory on an XFS or ext4 with project quotas, with 300 MB to spare; without it only the
//! refusal can be shown. What the kernel holds is read by the file systems' own programs (`xfs_quota`, `lsattr`), not by
//! any code of the driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Captured, Cookie, Driver as _, ErrorKind, Output, Task, WaitResult};
use fnctr::{Adopted, ContainerId, ContainerdDriver};

use crate::real::{self, Real};
use crate::world::{Stage, created, ctx, started};

const MB: u64 = 1 << 20;

/// A containerd with its root on the file system to test on, and a function that is root inside: the limit is no
/// question of permissions. `None` if there is no such file system (it has been said loudly).
async fn set(test: &str) -> Option<Stage> {
    let Some(place) = std::env::var_os("FNCTR_TEST_XFS").map(PathBuf::from) else {
        real::skipped(test, "FNCTR_TEST_XFS names no file system with project quotas");
        return None;
    };
    let real = Real::start_in(test, &place)?;
    Stage::on(real, |config| config.disable_unprivileged_containers = true).await
}

struct Held {
    cookie: Box<dyn Cookie>,
    wait: Box<dyn WaitResult>,
    said: Captured,
}

impl Held {
    /// Starts a script in a container of so many megabytes.
    async fn start(stage: &Stage, id: &str, fs_size: u64, script: &str) -> Self {
        let (output, said) = Output::capture(1 << 20);
        let task = Task {
            id: id.to_owned(),
            fs_size,
            stdout: output.into(),
            ..stage.task("")
        };
        let (cookie, wait) = started(&stage.driver, task, script).await;
        Self { cookie, wait, said }
    }

    /// What the script said up to its line `done`.
    async fn done(&self) -> BTreeMap<String, String> {
        let patience = ctx();
        while !self.said.text().lines().any(|line| line == "done") {
            assert!(patience.check().is_ok(), "not done: {:?}", self.said.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let text = self.said.text();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    async fn close(self) {
        self.cookie.close(&ctx()).await.expect("to close");
        drop(self.wait.wait(&ctx()).await);
    }
}

/// The directories that a container writes to, as the mount table tells them.
fn layer(id: &str) -> [PathBuf; 2] {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("a mount table");
    let end = format!("/{id}/rootfs");
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4).is_some_and(|point| point.ends_with(&end)))
        .unwrap_or_else(|| panic!("no root file system of {id} in\n{table}"));
    let options = line.split(' ').next_back().expect("options");
    ["upperdir=", "workdir="].map(|name| {
        let found = options.split(',').find_map(|option| option.strip_prefix(name));
        found.expect("a directory").into()
    })
}

#[track_caller]
fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect(program);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    text
}

/// The project of a directory, and whether it is inherited: e2fsprogs reads both on any file system.
#[track_caller]
fn project(dir: &Path) -> (u32, bool) {
    let text = output("lsattr", &["-pd", &dir.display().to_string()]);
    let mut words = text.split_whitespace();
    let id = words
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a project");
    (id, words.next().expect("flags").contains('P'))
}

/// Kilobytes used, and the most that may be, of each project that has files or a limit.
#[track_caller]
fn report(dir: &Path) -> BTreeMap<u32, (u64, u64)> {
    let point = output(
        "findmnt",
        &["-n", "-o", "TARGET", "-T", &dir.display().to_string()],
    );
    let text = output(
        "xfs_quota",
        &["-f", "-x", "-c", "report -p -b -n -N", point.trim()],
    );
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let id = words.next()?.strip_prefix('#')?.parse().ok()?;
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        Some((id, (*numbers.first()?, *numbers.get(2)?)))
    };
    text.lines().filter_map(parse).collect()
}

/// Waits until a project has neither files nor a limit: containerd removes a snapshot's files when it collects garbage,
/// and XFS frees removed inodes in the background.
async fn until_free(stage: &Stage, id: u32) {
    let address = stage.real.address().display().to_string();
    let ctr = |args: &[&str]| {
        let all = [&["-a", &address, "-n", stage.real.namespace(), "leases"], args].concat();
        output("ctr", &all)
    };
    // Whoever deletes a lease synchronously is answered when the garbage is gone.
    ctr(&["create", "--id", "now"]);
    ctr(&["delete", "--sync", "now"]);
    let patience = ctx();
    while let Some(found) = report(stage.real.dir())
        .get(&id)
        .filter(|found| **found != (0, 0))
    {
        assert!(patience.check().is_ok(), "project {id} still has {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn seen(what: &str) {
    real::tell(&format!("seen: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_writes_up_to_its_limit_and_lives_on() {
    let Some(stage) = set("a_function_writes_up_to_its_limit").await else {
        return;
    };
    // `mv` copies what it cannot rename, and a copy has an inode of its own.
    let script = "
        dd if=/dev/zero of=/a bs=64k count=64 2>/dev/null && echo below=ok
        all=$(dd if=/dev/zero of=/b bs=64k count=256 2>&1); echo code=$?
        echo said=$(echo \"$all\" | grep -o 'No space left on device\\|Disk quota exceeded')
        echo total=$(( $(stat -c %s /a) + $(stat -c %s /b) ))
        echo alive=$(echo yes)
        rm /b
        dd if=/dev/zero of=/c bs=64k count=32 2>/dev/null && echo again=ok
        echo more >> /etc/passwd
        before=$(stat -c %i /etc/passwd); mv /etc/passwd /moved; echo renamed=$before:$(stat -c %i /moved)
        mv /etc/group /opened && echo moved=ok
        mkdir /x /y && touch /x/f && mv /x/f /y/f && rm -r /x /y /bin/true /opened; echo removed=$?
        echo df=$(df -k / | tail -1 | awk '{print $2}')
        echo done; sleep 600
    ";
    let held = Held::start(&stage, "c900", 8, script).await;
    let other = Held::start(
        &stage,
        "c901",
        6,
        "dd if=/dev/zero of=/a bs=64k count=80 2>/dev/null && echo own=ok; echo done; sleep 600",
    )
    .await;
    let said = held.done().await;
    for (key, value) in [
        ("below", "ok"),
        ("code", "1"),
        ("alive", "yes"),
        ("again", "ok"),
        ("moved", "ok"),
        ("removed", "0"),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{key}: {said:?}");
    }
    assert!(
        ["No space left on device", "Disk quota exceeded"].contains(&said["said"].as_str()),
        "{said:?}"
    );
    let total: u64 = said["total"].parse().expect("a number");
    assert!((7 * MB..=8 * MB).contains(&total), "{said:?}");
    let (before, after) = said["renamed"].split_once(':').expect("two inodes");
    assert_eq!(before, after, "it was copied, not renamed: {said:?}");
    assert_eq!(
        other.done().await["own"],
        "ok",
        "the other has a budget of its own"
    );

    let [upper, work] = layer("c900");
    let (id, inherited) = project(&upper);
    assert!(inherited && project(&work) == (id, true), "{upper:?} {work:?}");
    let (theirs, _) = project(&layer("c901")[0]);
    assert_ne!(id, theirs);
    let limits = report(stage.real.dir());
    assert_eq!(
        (limits[&id].1, limits[&theirs].1),
        (8 << 10, 6 << 10),
        "{limits:?}"
    );
    let kind = output(
        "findmnt",
        &["-n", "-o", "FSTYPE", "-T", &upper.display().to_string()],
    );
    seen(&format!(
        "{}: of 8 MiB {total} bytes were written, then \"{}\"; df said {} KiB; project {id} holds {} KiB, {theirs} of 6 MiB {} KiB",
        kind.trim(),
        said["said"],
        said["df"],
        limits[&id].0,
        limits[&theirs].0
    ));
    held.close().await;
    other.close().await;
    let limits = report(stage.real.dir());
    for id in [id, theirs] {
        assert_eq!(limits.get(&id).map_or(0, |found| found.1), 0, "{limits:?}");
        until_free(&stage, id).await;
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_create_at_once_share_no_project_and_one_takes_over_from_another() {
    let Some(stage) = set("engines_that_create_at_once").await else {
        return;
    };
    let second = stage
        .another(|config| config.disable_unprivileged_containers = true)
        .await
        .expect("a driver");
    let create = |driver: ContainerdDriver, n: u32| {
        let task = Task {
            id: format!("c{}", 910 + n),
            fs_size: 2,
            ..stage.task("")
        };
        async move { created(&driver, task, "sleep 600").await }
    };
    let drivers = [&stage.driver, &second];
    let all = (0..4).map(|n| create(drivers[n as usize % 2].clone(), n));
    let cookies = futures_all(all).await;
    let layers: Vec<_> = (0..4).map(|n| layer(&format!("c{}", 910 + n))).collect();
    let projects: Vec<u32> = layers.iter().map(|[upper, _]| project(upper).0).collect();
    let distinct: std::collections::BTreeSet<_> = projects.iter().collect();
    assert_eq!(distinct.len(), 4, "{projects:?}");
    let limits = report(stage.real.dir());
    for ([upper, work], id) in layers.iter().zip(&projects) {
        assert_eq!(project(upper), project(work));
        assert_eq!(limits[id].1, 2 << 10, "{limits:?}");
    }
    seen(&format!(
        "two engines made four containers at once, with projects {projects:?}"
    ));

    // The first's process dies, and another takes its container over.
    let mut cookies = cookies.into_iter();
    std::mem::forget(cookies.next());
    let id = ContainerId::new("c910").expect("an id");
    let Adopted { cookie, .. } = second.adopt(&ctx(), &id).await.expect("to be found");
    cookie.close(&ctx()).await.expect("to close");
    for cookie in cookies {
        cookie.close(&ctx()).await.expect("to close");
    }
    let left: Vec<_> = report(stage.real.dir())
        .into_iter()
        .filter(|(id, (_, most))| projects.contains(id) && *most != 0)
        .collect();
    assert!(left.is_empty(), "{left:?}");
    second.close(&ctx()).await.expect("to close");
    stage.strike().await;
}

/// Waits for all, which go on at the same time.
async fn futures_all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tracker = tokio_util::task::TaskTracker::new();
    let spawned: Vec<_> = futures.map(|future| tracker.spawn(future)).collect();
    let mut done = Vec::new();
    for task in spawned {
        done.push(task.await.expect("to be made"));
    }
    done
}

/// Where project quotas cannot be had, which is everywhere that `FNCTR_TEST_XFS` is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_limit_a_disk_says_so_before_anything_is_made() {
    let Some(stage) = Stage::set("a_host_that_cannot_limit_a_disk").await else {
        return;
    };
    let root = stage.real.dir().display().to_string();
    let table = output("findmnt", &["-n", "-o", "FSTYPE,TARGET,OPTIONS", "-T", &root]);
    if table.contains("prjquota") {
        real::skipped("a_host_that_cannot_limit_a_disk", "this one can");
        return stage.strike().await;
    }
    let task = || Task {
        fs_size: 10,
        ..stage.task("/bin/true")
    };
    let cookie = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task()))
        .await
        .expect("a cookie");
    cookie.validate_image(&ctx()).await.expect("an image");
    let error = cookie
        .create_container(&ctx())
        .await
        .expect_err("must be refused");
    let said = error.report();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{said}");
    let mut words = table.split_whitespace();
    let (kind, point) = (
        words.next().expect("a type"),
        words.next().expect("a mount point"),
    );
    for part in [
        "fs_size cannot be enforced",
        &format!("{kind} at {point} has no project quotas"),
        "-o prjquota",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    seen(&said);
    stage.before.assert_same().await;
    cookie.close(&ctx()).await.expect("to close");
    stage.strike().await;
}
