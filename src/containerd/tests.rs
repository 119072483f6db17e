//! Tests of the gateway with a real, private containerd.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::testing::{Private, patience};
use super::*;
use crate::{ContainerId, Context, Digest, Interrupted, LeaseId, Namespace};

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".into(),
        digest: Digest::new(format!("sha256:{:x}", Sha256::digest(bytes))).unwrap(),
        size: bytes.len() as u64,
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn in_an_hour() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn an_absent_a_refusing_and_a_false_socket_are_distinguished_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new("test").unwrap();
    let message = async |path: &Path| {
        let failed = Session::connect(&patience(), path, &namespace).await.unwrap_err();
        assert!(failed.is_unavailable());
        failed.to_string()
    };
    let path = dir.path().join("absent.sock");
    let expected = format!("containerd is not there: no socket at {}", path.display());
    assert_eq!(message(&path).await, expected);
    let path = dir.path().join("left.sock");
    drop(tokio::net::UnixListener::bind(&path).unwrap());
    let expected = format!(
        "containerd is not running: no process listens on {}",
        path.display()
    );
    assert_eq!(message(&path).await, expected);
    assert!(
        message(&dir.path().join("x".repeat(200)))
            .await
            .starts_with("cannot connect to containerd at /")
    );
}

#[tokio::test]
async fn the_server_reports_its_version_and_the_kernel_its_pid() {
    let Some(private) = Private::start().await else {
        return;
    };
    let session = private.session().await;
    let ctx = patience();
    let version = session.version().version(&ctx).await.unwrap().version;
    assert!(
        version.trim_start_matches('v').starts_with(['1', '2']),
        "{version}"
    );
    assert_eq!(session.server_pid(&ctx).await.unwrap(), Some(private.pid()));
    assert_eq!(session.address(), private.address());
    let name = Namespace::new("fn-tenant").unwrap();
    for _ in 0..2 {
        session.namespaces().create_if_missing(&ctx, &name).await.unwrap();
    }
    assert!(
        session
            .namespaces()
            .list(&ctx)
            .await
            .unwrap()
            .contains(&"fn-tenant".to_owned())
    );
    session.namespaces().delete(&ctx, &name).await.unwrap();
    assert!(
        session
            .namespaces()
            .delete(&ctx, &name)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn a_blob_is_what_its_digest_says_or_it_is_not_kept() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let lease = LeaseId::new("writer").unwrap();
    session
        .leases()
        .create(&ctx, &lease, in_an_hour(), &BTreeMap::new())
        .await
        .unwrap();
    let content = session.leased(&lease).content();
    // Larger than a chunk, and not a multiple of one.
    let bytes: Vec<u8> = (0..2_500_001_u32)
        .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
        .collect();
    let good = blob(&bytes);
    let kept = labels(&[("fnctr/a", "1")]);
    content
        .write(&ctx, "w1", &good, &kept, bytes.as_slice())
        .await
        .unwrap();
    content
        .write(&ctx, "w2", &good, &kept, b"never read".as_slice())
        .await
        .unwrap();
    assert_eq!(content.read(&ctx, &good, 1 << 22).await.unwrap(), bytes);
    let refused = content.read(&ctx, &good, 100).await.unwrap_err();
    assert!(refused.is_invalid());
    assert!(
        refused.to_string().ends_with("it is larger than 100 bytes"),
        "{refused}"
    );

    content
        .set_labels(&ctx, &good.digest, &labels(&[("fnctr/b", "2")]))
        .await
        .unwrap();
    let info = content.info(&ctx, &good.digest).await.unwrap();
    assert_eq!(info.size, good.size);
    assert_eq!(info.labels, labels(&[("fnctr/a", "1"), ("fnctr/b", "2")]));

    let other = blob(b"something else");
    let failed = content
        .write(&ctx, "w3", &other, &kept, bytes.as_slice())
        .await
        .unwrap_err();
    assert!(failed.is_failed_precondition(), "{failed}");
    let short = Descriptor {
        size: 3,
        ..blob(b"abcd")
    };
    let failed = content
        .write(&ctx, "w4", &short, &kept, b"abcd".as_slice())
        .await
        .unwrap_err();
    assert!(failed.is_failed_precondition(), "{failed}");
    assert!(
        content
            .info(&ctx, &other.digest)
            .await
            .unwrap_err()
            .is_not_found()
    );
    // The failed writes hold no lock and have left no data, so the same names can be used again.
    content
        .write(&ctx, "w3", &other, &kept, b"something else".as_slice())
        .await
        .unwrap();
    let ingests = std::fs::read_dir(private.root().join("io.containerd.content.v1.content/ingest")).unwrap();
    assert_eq!(ingests.count(), 0);

    let empty = blob(b"");
    content
        .write(&ctx, "w5", &empty, &kept, b"".as_slice())
        .await
        .unwrap();
    assert_eq!(content.info(&ctx, &empty.digest).await.unwrap().size, 0);
}

#[tokio::test]
async fn a_blob_of_unknown_digest_is_named_whether_it_exists_or_not() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let [first, second] = ["first", "second"].map(|name| LeaseId::new(name).unwrap());
    for lease in [&first, &second] {
        session
            .leases()
            .create(&ctx, lease, in_an_hour(), &BTreeMap::new())
            .await
            .unwrap();
        let content = session.leased(lease).content();
        let ingested = content
            .ingest(&ctx, "i", &BTreeMap::new(), b"layer".as_slice())
            .await
            .unwrap();
        assert_eq!(ingested, (blob(b"layer").digest, 5));
    }
    let digest = blob(b"layer").digest;
    session.leases().delete(&ctx, &first, true).await.unwrap();
    assert!(
        session.content().info(&ctx, &digest).await.is_ok(),
        "held by the second lease"
    );
    session.leases().delete(&ctx, &second, true).await.unwrap();
    assert!(
        session
            .content()
            .info(&ctx, &digest)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn an_image_name_is_put_replaced_and_deleted_and_leases_are_listed() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let image = |bytes: &[u8]| ImageRecord {
        name: "docker.io/library/x:1".into(),
        target: blob(bytes),
        labels: labels(&[("fnctr/x", "y")]),
    };
    let images = session.images();
    assert!(
        images
            .get(&ctx, "docker.io/library/x:1")
            .await
            .unwrap_err()
            .is_not_found()
    );
    for bytes in [b"one".as_slice(), b"two"] {
        images.put(&ctx, &image(bytes)).await.unwrap();
        assert_eq!(
            images.get(&ctx, "docker.io/library/x:1").await.unwrap(),
            image(bytes)
        );
    }
    let filter = ["labels.\"fnctr/x\"==y".to_owned()];
    assert_eq!(images.list(&ctx, &filter).await.unwrap(), [image(b"two")]);
    assert!(images.list(&ctx, &["not a filter".into()]).await.is_err());
    images.delete(&ctx, "docker.io/library/x:1", true).await.unwrap();
    assert_eq!(images.list(&ctx, &[]).await.unwrap(), []);

    let lease = LeaseId::new("l1").unwrap();
    let leases = session.leases();
    leases
        .create(&ctx, &lease, in_an_hour(), &labels(&[("fnctr/of", "c")]))
        .await
        .unwrap();
    let again = leases.create(&ctx, &lease, in_an_hour(), &BTreeMap::new()).await;
    assert!(again.unwrap_err().is_already_exists());
    leases
        .add_resource(&ctx, &lease, &Resource::Content(blob(b"z").digest))
        .await
        .unwrap();
    let listed = leases
        .list(&ctx, &["labels.\"fnctr/of\"==c".into()])
        .await
        .unwrap();
    assert_eq!(listed.first().map(|found| &found.id), Some(&lease));
    assert!(listed[0].created.is_some());
    // A deletion that waits for the collector must work on an expired lease too.
    leases.delete(&ctx, &lease, true).await.unwrap();
    assert_eq!(leases.list(&ctx, &[]).await.unwrap(), []);
}

fn spec(args: &[&str], cgroup: &str) -> Vec<u8> {
    let namespaces: Vec<_> = ["pid", "ipc", "uts", "mount", "network"]
        .iter()
        .map(|kind| serde_json::json!({ "type": kind }))
        .collect();
    serde_json::to_vec(&serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"cgroupsPath": cgroup, "namespaces": namespaces},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_its_fields_and_no_others() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (session, ctx) = (private.session().await, patience());
    let id = ContainerId::new("updated").unwrap();
    let first = Record {
        id: id.clone(),
        image: "none".into(),
        labels: labels(&[("fnctr/a", "1"), ("fnctr/b", "2")]),
        runtime: "io.containerd.runc.v2".into(),
        runtime_options: None,
        spec: b"{\"first\":true}".to_vec(),
        snapshotter: "native".into(),
        snapshot_key: id.to_string(),
        created_at: None,
        extensions: [("one", "1"), ("two", "2")]
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .into(),
    };
    let containers = session.containers();
    let none = containers.update(&ctx, &first, &[Field::Labels]).await;
    assert!(none.unwrap_err().is_not_found());
    containers.create(&ctx, &first).await.unwrap();
    let second = Record {
        labels: labels(&[("fnctr/a", "9")]),
        spec: b"{\"second\":true}".to_vec(),
        extensions: [("one".to_owned(), b"9".to_vec())].into(),
        ..first.clone()
    };
    let read = async || Record {
        created_at: None,
        ..containers.get(&ctx, &id).await.unwrap()
    };
    containers
        .update(&ctx, &second, &[Field::Extension("one")])
        .await
        .unwrap();
    let mut expected = first.clone();
    expected.extensions.insert("one".to_owned(), b"9".to_vec());
    assert_eq!(read().await, expected);
    containers
        .update(&ctx, &second, &[Field::Labels, Field::Spec])
        .await
        .unwrap();
    (expected.labels, expected.spec) = (second.labels.clone(), second.spec.clone());
    assert_eq!(read().await, expected);
}

/// Creates a record, and a snapshot whose root file system contains only busybox.
async fn container(session: &Session, id: &ContainerId, args: &[&str]) -> Vec<Mount> {
    let ctx = patience();
    let record = Record {
        id: id.clone(),
        image: "none".into(),
        labels: labels(&[("fnctr/a", "1")]),
        runtime: "io.containerd.runc.v2".into(),
        runtime_options: Some(RuntimeOptions {
            binary_name: Some("runc".into()),
            ..RuntimeOptions::default()
        }),
        spec: spec(args, &format!("/fnctr-gateway-test-{id}")),
        snapshotter: "native".into(),
        snapshot_key: id.to_string(),
        created_at: None,
        extensions: BTreeMap::new(),
    };
    session.containers().create(&ctx, &record).await.unwrap();
    let found = session.containers().get(&ctx, id).await.unwrap();
    assert!(found.created_at.is_some());
    let found = Record {
        created_at: None,
        ..found
    };
    assert_eq!(found, record);
    let again = session.containers().create(&ctx, &record).await.unwrap_err();
    assert!(again.is_already_exists());
    // Created after the record: an object without a reference is garbage, and another test may trigger the collector.
    let snapshots = session.snapshots("native");
    let mounts = snapshots
        .prepare(&ctx, id.as_str(), None, &labels(&[("fnctr/a", "1")]))
        .await
        .unwrap();
    let root = Path::new(&mounts[0].source);
    for dir in ["bin", "proc"] {
        std::fs::create_dir(root.join(dir)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/sh")).unwrap();
    std::fs::set_permissions(root.join("bin/sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    mounts
}

fn new_task<'a>(id: &'a ContainerId, rootfs: &'a [Mount]) -> NewTask<'a> {
    NewTask {
        id,
        rootfs,
        stdin: None,
        stdout: None,
        stderr: None,
        terminal: false,
        options: None,
    }
}

#[tokio::test]
async fn a_container_lives_and_ends_and_its_exit_is_reported_three_times_alike() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let lease = LeaseId::new("life").unwrap();
    session
        .leases()
        .create(&ctx, &lease, in_an_hour(), &BTreeMap::new())
        .await
        .unwrap();
    let session = session.leased(&lease);
    let id = ContainerId::new(format!("life-{}", std::process::id())).unwrap();
    let rootfs = container(&session, &id, &["/bin/sh", "-c", "exit 7"]).await;
    let tasks = session.tasks();
    assert!(tasks.get(&ctx, &id).await.unwrap_err().is_not_found());
    let pid = tasks.create(&ctx, &new_task(&id, &rootfs)).await.unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(tasks.get(&ctx, &id).await.unwrap().status, TaskStatus::Created);
    // The subscription is proven to be in force, although nothing happens in the namespace.
    let mut events = session.events().tasks(&ctx).await.unwrap();
    assert_eq!(tasks.start(&ctx, &id).await.unwrap(), pid);
    let event = match events.next(&ctx).await.unwrap() {
        TaskEvent::Exit(exit) => exit,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (event.container_id.as_str(), event.pid, event.code),
        (id.as_str(), pid, 7)
    );
    assert!(event.is_init());
    let waited = tasks.wait(&ctx, &id).await.unwrap();
    assert_eq!(waited.code, 7);
    let info = tasks.get(&ctx, &id).await.unwrap();
    assert_eq!((info.status, info.exit.code), (TaskStatus::Stopped, 7));
    let deleted = tasks.delete(&ctx, &id).await.unwrap();
    assert_eq!((deleted.code, deleted.at), (7, event.at));
    assert!(deleted.at.is_some());

    let listed = session
        .containers()
        .list(&ctx, &["labels.\"fnctr/a\"==1".into()])
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, id);
    session.containers().delete(&ctx, &id).await.unwrap();
    let again = session.containers().delete(&ctx, &id).await.unwrap_err();
    assert!(again.is_not_found());

    let snapshots = session.snapshots("native");
    assert_eq!(snapshots.mounts(&ctx, id.as_str()).await.unwrap(), rootfs);
    let (bytes, inodes) = snapshots.usage(&ctx, id.as_str()).await.unwrap();
    assert!(bytes > 100_000 && inodes >= 4, "{bytes} {inodes}");
    snapshots
        .commit(&ctx, "base", id.as_str(), &BTreeMap::new())
        .await
        .unwrap();
    let view = snapshots
        .view(&ctx, "view", Some("base"), &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(view.len(), 1);
    let info = snapshots.stat(&ctx, "view").await.unwrap();
    assert_eq!(
        (info.kind, info.parent.as_deref()),
        (SnapshotKind::View, Some("base"))
    );
    assert!(
        snapshots
            .remove(&ctx, "base")
            .await
            .unwrap_err()
            .is_failed_precondition()
    );
    for key in ["view", "base"] {
        snapshots.remove(&ctx, key).await.unwrap();
    }
    assert!(snapshots.remove(&ctx, "base").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_running_task_is_listed_paused_resumed_and_killed() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let id = ContainerId::new(format!("kill-{}", std::process::id())).unwrap();
    let rootfs = container(&session, &id, &["/bin/sh", "-c", "while :; do :; done"]).await;
    let tasks = session.tasks();
    let pid = tasks.create(&ctx, &new_task(&id, &rootfs)).await.unwrap();
    tasks.start(&ctx, &id).await.unwrap();
    let listed = tasks.list(&ctx).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].0.as_str(), listed[0].1.pid, listed[0].1.status),
        (id.as_str(), pid, TaskStatus::Running)
    );
    // 1.6 has no code for this, later versions have one. What counts is that nothing happened.
    let refused = tasks.delete(&ctx, &id).await.unwrap_err();
    assert!(
        !refused.is_not_found() && !refused.is_unavailable(),
        "{refused:?}"
    );
    tasks.pause(&ctx, &id).await.unwrap();
    assert_eq!(tasks.get(&ctx, &id).await.unwrap().status, TaskStatus::Paused);
    tasks.resume(&ctx, &id).await.unwrap();

    let short = Context::timeout(Duration::from_millis(100));
    let failed = tasks.wait(&short, &id).await.unwrap_err();
    assert_eq!(
        failed.interrupted(),
        Some(Interrupted::DeadlineExceeded),
        "{failed}"
    );
    let cancelled = Context::new();
    cancelled.cancel();
    let failed = tasks.kill_all(&cancelled, &id, 9).await.unwrap_err();
    assert_eq!(failed.interrupted(), Some(Interrupted::Cancelled));
    assert_eq!(tasks.get(&ctx, &id).await.unwrap().status, TaskStatus::Running);

    tasks.close_stdin(&ctx, &id).await.unwrap();
    tasks.kill_all(&ctx, &id, 9).await.unwrap();
    assert_eq!(tasks.wait(&ctx, &id).await.unwrap().code, 137);
    assert_eq!(tasks.delete(&ctx, &id).await.unwrap().code, 137);
    assert!(tasks.wait(&ctx, &id).await.unwrap_err().is_not_found());
    session.containers().delete(&ctx, &id).await.unwrap();
    remove_snapshot(&session, &ctx, &id).await;
}

/// Removes the snapshot. Without its container nothing refers to it, and another test may have triggered the collector.
async fn remove_snapshot(session: &Session, ctx: &Context, id: &ContainerId) {
    match session.snapshots("native").remove(ctx, id.as_str()).await {
        Err(why) if why.is_not_found() => {}
        removed => removed.unwrap(),
    }
}

#[tokio::test]
async fn memory_that_runs_out_is_reported_in_addition_to_the_exit() {
    let Some(private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let id = ContainerId::new(format!("oom-{}", std::process::id())).unwrap();
    // Grows only after the start has been answered, because a shim begins to watch the memory only then.
    let grow = "while [ ! -e /go ]; do sleep 0.05; done; x=0123456789abcdef; while :; do x=$x$x; done";
    let rootfs = container(&session, &id, &["/bin/sh", "-c", grow]).await;
    let tasks = session.tasks();
    let pid = tasks.create(&ctx, &new_task(&id, &rootfs)).await.unwrap();
    let found = crate::cgroup::Root::probe().unwrap().of_pid(pid).unwrap();
    let (dir, file) = match (found.memory, found.v2) {
        (Some(dir), _) => (dir, "memory.limit_in_bytes"),
        (None, Some(dir)) => (dir, "memory.max"),
        (None, None) => panic!("no memory controller"),
    };
    std::fs::write(dir.join(file), "16777216").unwrap();
    let mut events = session.events().tasks(&ctx).await.unwrap();
    tasks.start(&ctx, &id).await.unwrap();
    std::fs::write(Path::new(&rootfs[0].source).join("go"), "").unwrap();
    // Either event may be first.
    let (mut oom, mut exit) = (false, None);
    while !oom || exit.is_none() {
        match events.next(&ctx).await.unwrap() {
            TaskEvent::Oom { container_id } => oom |= container_id == id.as_str(),
            TaskEvent::Exit(ended) => exit = Some(ended.code),
        }
    }
    assert_eq!(exit, Some(137));
    tasks.delete(&ctx, &id).await.unwrap();
    session.containers().delete(&ctx, &id).await.unwrap();
    remove_snapshot(&session, &ctx, &id).await;
}

/// Waits until every thread of a process stands still: on a busy machine some go on after a SIGSTOP was sent.
async fn stopped(pid: u32) {
    let is_stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name in parentheses (proc_pid_stat(5)).
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while !std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .all(is_stopped)
    {
        assert!(tokio::time::Instant::now() < until, "it does not stop");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_does_not_hang_us_and_one_that_dies_is_unavailable() {
    let Some(mut private) = Private::start().await else {
        return;
    };
    let (ctx, session) = (patience(), private.session().await);
    let mut events = session.events().tasks(&ctx).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(private.pid()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    stopped(private.pid()).await;
    let lease = LeaseId::new("late").unwrap();
    let short = Context::timeout(Duration::from_millis(200));
    let (leases, none) = (session.leases(), BTreeMap::new());
    let create = leases.create(&short, &lease, in_an_hour(), &none);
    let failed = tokio::time::timeout(Duration::from_secs(60), create)
        .await
        .expect("an end long before that")
        .unwrap_err();
    assert_eq!(
        failed.interrupted(),
        Some(Interrupted::DeadlineExceeded),
        "{failed}"
    );
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    session.version().version(&ctx).await.unwrap();

    let waiting = events.next(&ctx);
    private.stop().await;
    let ended = waiting.await.unwrap_err();
    assert!(ended.is_unavailable(), "{ended:?}");
    let failed = session.version().version(&ctx).await.unwrap_err();
    assert!(failed.is_unavailable(), "{failed:?}");
    assert_eq!(
        failed.to_string(),
        "the connection to containerd failed during Version/Version"
    );
}

#[tokio::test]
async fn an_unfinished_write_is_continued_or_begun_anew() {
    let Some(private) = Private::start().await else {
        return;
    };
    let session = private.session().await;
    let ctx = patience();
    let lease = LeaseId::new("writes").unwrap();
    session
        .leases()
        .create(&ctx, &lease, in_an_hour(), &BTreeMap::new())
        .await
        .unwrap();
    let content = session.leased(&lease).content();
    let whole = blob(b"one two three");
    let mut writer = content.writer(&ctx, "w", &whole).await.unwrap().unwrap();
    writer.write(b"one ".to_vec()).await.unwrap();
    writer.write(b"two ".to_vec()).await.unwrap();
    // Only one writer at a time: opening the second one fails.
    let locked = content.writer(&ctx, "w", &whole).await.unwrap_err();
    assert!(locked.is_locked() && !locked.is_unavailable(), "{locked}");
    writer.close().await;
    assert_eq!(content.ingested(&ctx, "w").await.unwrap(), 8);
    assert!(content.ingested(&ctx, "other").await.unwrap_err().is_not_found());
    let held = session.leases().resources(&ctx, &lease).await.unwrap();
    assert_eq!(held, [Resource::Ingest("w".into())]);
    let mut writer = content.writer(&ctx, "w", &whole).await.unwrap().unwrap();
    assert_eq!(writer.offset(), 8);
    writer.write(b"three".to_vec()).await.unwrap();
    writer
        .commit(&whole.digest, &labels(&[("a", "b")]))
        .await
        .unwrap();
    writer.close().await;
    assert!(content.writer(&ctx, "w", &whole).await.unwrap().is_none());
    assert_eq!(
        content.info(&ctx, &whole.digest).await.unwrap().labels,
        labels(&[("a", "b")])
    );
    let held = session.leases().resources(&ctx, &lease).await.unwrap();
    assert!(held.contains(&Resource::Content(whole.digest)), "{held:?}");
    // Bytes that an earlier writer has left may be useless.
    let other = blob(b"anew");
    let mut writer = content.writer(&ctx, "x", &other).await.unwrap().unwrap();
    writer.write(b"rubbish".to_vec()).await.unwrap();
    writer.close().await;
    let mut writer = content.writer(&ctx, "x", &other).await.unwrap().unwrap();
    assert_eq!(writer.offset(), 7);
    writer.rewind();
    writer.write(b"anew".to_vec()).await.unwrap();
    writer.commit(&other.digest, &BTreeMap::new()).await.unwrap();
    writer.close().await;
    // And data that differs from the digest to its end is not committed.
    let wrong = blob(b"right");
    let mut writer = content.writer(&ctx, "y", &wrong).await.unwrap().unwrap();
    writer.write(b"wrong".to_vec()).await.unwrap();
    let refused = writer.commit(&wrong.digest, &BTreeMap::new()).await.unwrap_err();
    assert!(refused.is_failed_precondition(), "{refused}");
    writer.close().await;
    content.abort(&ctx, "y").await.unwrap();
}

/// The settings frame with which a server begins.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// Starts a server that answers the first bytes of each connection with `first`, then with `then` and the end of the
/// connection.
fn serve(path: &Path, first: &'static [u8], then: &'static [u8]) -> tokio::task::JoinHandle<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::task::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 64 << 10];
            drop(stream.read(&mut heard).await);
            drop(stream.write_all(first).await);
            // The client's answer to the settings, or its request.
            drop(tokio::time::timeout(Duration::from_millis(200), stream.read(&mut heard)).await);
            drop(stream.write_all(then).await);
        }
    })
}

#[tokio::test]
async fn a_socket_that_is_not_containerds_is_reported_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new("test").unwrap();
    for (at, answer, what) in [
        (
            "docker.sock",
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "HTTP/1, as Docker does",
        ),
        (
            "other.sock",
            &b"220 mail.example ESMTP\r\n"[..],
            "another protocol",
        ),
    ] {
        let path = dir.path().join(at);
        let server = serve(&path, answer, b"");
        let refused = Session::connect(&patience(), &path, &namespace)
            .await
            .unwrap_err();
        let expected = format!(
            "{} is not containerd's socket: what listens there speaks {what}, not gRPC",
            path.display()
        );
        assert_eq!(crate::chain(&refused), expected);
        server.abort();
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable_wherever_it_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new("test").unwrap();
    // The first stream receives headers, and nothing more.
    const HEAD: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01\x88";
    const RESET: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
    const GO_AWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    for (at, then) in [
        ("after the settings", &b""[..]),
        ("in the middle of a frame", &b"\0\0\x40\0"[..]),
        ("after the head of the answer", HEAD),
        ("by a reset", RESET),
        ("by a farewell", GO_AWAY),
        ("by nonsense", &b"nonsense that is no frame at all"[..]),
    ] {
        let path = dir.path().join(at);
        let server = serve(&path, SETTINGS, then);
        let session = Session::connect(&patience(), &path, &namespace).await.unwrap();
        let broken = session.version().version(&patience()).await.unwrap_err();
        assert!(broken.is_unavailable(), "{at}: {broken:?}");
        assert_eq!(broken.interrupted(), None, "{at}");
        server.abort();
        // The socket still exists, but no process listens on it.
        drop(server.await);
        let refused = session.version().version(&patience()).await.unwrap_err();
        assert!(refused.is_unavailable(), "{at}: {refused:?}");
    }
}
