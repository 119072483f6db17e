//! Containers and their tasks, from the first snapshot to the last exit.

use std::path::PathBuf;
use std::time::Duration;

use containerd_client::events::TaskExit;
use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots::{self, RemoveSnapshotRequest};
use nix::sys::stat::Mode;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request};

use crate::fake_containerd::{FakeImage, Script, Step, World};
use crate::*;

#[tokio::test]
async fn a_container_lives_from_its_snapshot_to_its_exit_and_leaves_nothing() {
    let (fake, client) = start().await;
    fake.install(NS, &FakeImage::default());
    fake.script(Script {
        exit_status: 3,
        ..Script::steps([Step::Out(b"answer".to_vec()), Step::Err(b"complaint".to_vec())])
    });
    let image = api::GetImageRequest {
        name: "docker.io/library/fake:latest".into(),
    };
    let image = client
        .images()
        .get(of(image))
        .await
        .unwrap()
        .into_inner()
        .image
        .unwrap();
    let read = api::ReadContentRequest {
        digest: image.target.unwrap().digest,
        ..api::ReadContentRequest::default()
    };
    let mut manifest = client.content().read(of(read)).await.unwrap().into_inner();
    let manifest = manifest.message().await.unwrap().unwrap().data;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();

    let mounts = client
        .snapshots()
        .prepare(of(prepare("c1", &layer)))
        .await
        .unwrap();
    assert_eq!(mounts.into_inner().mounts[0].r#type, "overlay");
    client.containers().create(of(record("c1"))).await.unwrap();
    let (out, stdout) = fifo(fake.dir(), "out");
    let (err, stderr) = fifo(fake.dir(), "err");
    let create = api::CreateTaskRequest {
        stdout: out,
        stderr: err,
        ..task("c1")
    };
    let pid = client.tasks().create(of(create)).await.unwrap().into_inner().pid;
    let process = PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists(), "the pid is a process");
    client.tasks().start(start_request("c1")).await.unwrap();
    let exit = client
        .tasks()
        .wait(wait_request("c1"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(exit.exit_status, 3);
    assert_eq!(everything(stdout).await, "answer");
    assert_eq!(everything(stderr).await, "complaint");
    assert!(!fake.world().is_empty());
    client.tasks().delete(delete_task("c1")).await.unwrap();
    let delete = api::DeleteContainerRequest { id: "c1".into() };
    client.containers().delete(of(delete)).await.unwrap();
    let remove = RemoveSnapshotRequest {
        snapshotter: "overlayfs".into(),
        key: "c1".into(),
    };
    client.snapshots().remove(of(remove)).await.unwrap();
    assert_eq!(fake.world(), World::default());
    let order = [
        "Images/Get",
        "Snapshots/Prepare",
        "Containers/Create",
        "Tasks/Create",
        "Tasks/Start",
        "Tasks/Wait",
        "Tasks/Delete",
        "Containers/Delete",
        "Snapshots/Remove",
    ];
    assert_eq!(fake.calls(), order);
    assert_eq!(fake.faults().streams(), ["Content/Read"]);
    assert!(!process.exists(), "the process is reaped");
    fake.close().await;
}

#[tokio::test]
async fn mistakes_get_the_codes_that_containerd_gives() {
    let (fake, client) = start().await;
    fake.script(Script::steps([Step::Forever]));
    let (mut tasks, mut snapshots) = (client.tasks(), client.snapshots());
    let nameless = Request::new(record("c1"));
    assert_eq!(
        code(client.containers().create(nameless).await),
        Code::FailedPrecondition
    );
    assert_eq!(code(tasks.create(of(task("c1"))).await), Code::NotFound);
    assert_eq!(code(tasks.kill(kill_request("c1", 9)).await), Code::NotFound);
    assert_eq!(
        code(snapshots.prepare(of(prepare("c1", "gone"))).await),
        Code::NotFound
    );

    client.containers().create(of(record("c1"))).await.unwrap();
    assert_eq!(
        code(client.containers().create(of(record("c1"))).await),
        Code::AlreadyExists
    );
    tasks.create(of(task("c1"))).await.unwrap();
    assert_eq!(code(tasks.create(of(task("c1"))).await), Code::AlreadyExists);
    tasks.start(start_request("c1")).await.unwrap();
    assert_eq!(code(tasks.start(start_request("c1")).await), Code::Unknown);
    assert_eq!(
        code(tasks.delete(delete_task("c1")).await),
        Code::Unknown,
        "it runs"
    );
    tasks.kill(kill_request("c1", 9)).await.unwrap();
    let exit = tasks.wait(wait_request("c1")).await.unwrap().into_inner();
    assert_eq!(exit.exit_status, 137);
    assert_eq!(
        code(tasks.kill(kill_request("c1", 9)).await),
        Code::NotFound,
        "it has ended"
    );

    snapshots.prepare(of(prepare("base", ""))).await.unwrap();
    assert_eq!(
        code(snapshots.prepare(of(prepare("base", ""))).await),
        Code::AlreadyExists
    );
    assert_eq!(
        code(snapshots.prepare(of(prepare("child", "base"))).await),
        Code::InvalidArgument
    );
    let commit = snapshots::CommitSnapshotRequest {
        snapshotter: "overlayfs".into(),
        name: "layer".into(),
        key: "base".into(),
        ..Default::default()
    };
    snapshots.commit(of(commit)).await.unwrap();
    snapshots.prepare(of(prepare("child", "layer"))).await.unwrap();
    let remove = RemoveSnapshotRequest {
        snapshotter: "overlayfs".into(),
        key: "layer".into(),
    };
    assert_eq!(code(snapshots.remove(of(remove)).await), Code::FailedPrecondition);
    let elsewhere = PrepareSnapshotRequest {
        snapshotter: "absent".into(),
        ..prepare("c2", "")
    };
    assert_eq!(
        code(snapshots.prepare(of(elsewhere)).await),
        Code::InvalidArgument
    );
    let orphan = leased("gone", prepare("c2", ""));
    assert_eq!(
        code(snapshots.prepare(orphan).await),
        Code::NotFound,
        "the lease does not exist"
    );
    assert_eq!(
        code(tasks.metrics(of(api::MetricsRequest::default())).await),
        Code::Unimplemented
    );
    fake.close().await;
}

#[tokio::test]
async fn a_process_sees_the_end_of_its_input_only_after_close_io() {
    let (fake, client) = start().await;
    fake.script(Script::steps([Step::Echo]));
    client.containers().create(of(record("c1"))).await.unwrap();
    let (out, stdout) = fifo(fake.dir(), "out");
    let stdin = fake.dir().join("in");
    nix::unistd::mkfifo(&stdin, Mode::S_IRWXU).unwrap();
    let create = api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        stdout: out,
        ..task("c1")
    };
    client.tasks().create(of(create)).await.unwrap();
    client.tasks().start(start_request("c1")).await.unwrap();
    std::fs::write(stdin, "through").unwrap();
    let mut early = wait_request("c1");
    give_up_soon(&mut early);
    assert_eq!(
        code(client.tasks().wait(early).await),
        Code::DeadlineExceeded,
        "the shim holds an end"
    );
    let close = api::CloseIoRequest {
        container_id: "c1".into(),
        stdin: true,
        ..api::CloseIoRequest::default()
    };
    client.tasks().close_io(of(close)).await.unwrap();
    client.tasks().wait(wait_request("c1")).await.unwrap();
    assert_eq!(everything(stdout).await, "through");
    fake.close().await;
}

#[tokio::test]
async fn a_process_that_ignores_term_ends_by_kill_and_one_killed_past_the_server_is_noticed() {
    let (fake, client) = start().await;
    fake.script_of(
        "stubborn",
        Script {
            ignores_term: true,
            ..Script::steps([Step::Forever])
        },
    );
    fake.script(Script::steps([Step::Forever]));
    let mut tasks = client.tasks();
    let mut pids = Vec::new();
    for id in ["stubborn", "other"] {
        client.containers().create(of(record(id))).await.unwrap();
        pids.push(tasks.create(of(task(id))).await.unwrap().into_inner().pid);
        tasks.start(start_request(id)).await.unwrap();
    }
    tasks.kill(kill_request("stubborn", 15)).await.unwrap();
    let mut early = wait_request("stubborn");
    give_up_soon(&mut early);
    assert_eq!(code(tasks.wait(early).await), Code::DeadlineExceeded);
    tasks.kill(kill_request("stubborn", 9)).await.unwrap();
    let exit = tasks.wait(wait_request("stubborn")).await.unwrap().into_inner();
    assert_eq!(exit.exit_status, 137);

    let pid = nix::unistd::Pid::from_raw(pids[1].try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let exit = tasks.wait(wait_request("other")).await.unwrap().into_inner();
    assert_eq!(exit.exit_status, 137);
    fake.close().await;
}

#[tokio::test]
async fn a_subscriber_gets_the_exit_that_it_asked_for_and_no_reply_before() {
    let (fake, client) = start().await;
    client.containers().create(of(record("c1"))).await.unwrap();
    let subscribe = api::SubscribeRequest {
        filters: vec![
            format!("namespace==other"),
            format!("namespace=={NS},topic==\"/tasks/exit\""),
        ],
    };
    let mut events = client.events();
    let tracker = TaskTracker::new();
    let subscribed = tracker.spawn(async move { events.subscribe(subscribe).await.unwrap().into_inner() });
    while fake.faults().streams().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        !subscribed.is_finished(),
        "a server in Go sends no headers before the first event"
    );
    client.tasks().create(of(task("c1"))).await.unwrap();
    client.tasks().start(start_request("c1")).await.unwrap();
    let envelope = subscribed.await.unwrap().message().await.unwrap().unwrap();
    assert_eq!(
        (envelope.namespace.as_str(), envelope.topic.as_str()),
        (NS, "/tasks/exit")
    );
    let event = envelope.event.unwrap();
    assert_eq!(event.type_url, "containerd.events.TaskExit");
    let exit = <TaskExit as prost::Message>::decode(event.value.as_slice()).unwrap();
    assert_eq!((exit.container_id.as_str(), exit.exit_status), ("c1", 0));
    fake.close().await;
}
