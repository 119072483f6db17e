//! What the fault plan breaks, and what it leaves whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use containerd_client::services::v1 as api;
use nix::sys::stat::Mode;
use tokio::net::unix::pipe;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::fake_containerd::{How, Script, Step};
use crate::*;

#[tokio::test]
async fn a_call_broken_before_its_effect_changes_nothing_and_one_broken_after_it_everything() {
    let (fake, client) = start().await;
    let mut containers = client.containers();
    fake.faults()
        .break_at(1, How::BeforeEffect(Status::resource_exhausted("full")));
    fake.faults().break_at(2, How::AfterEffect);
    assert_eq!(
        code(containers.create(of(record("c1"))).await),
        Code::ResourceExhausted
    );
    assert!(fake.world().is_empty());
    assert_eq!(code(containers.create(of(record("c1"))).await), Code::Unavailable);
    assert_eq!(fake.world().containers, ["test/c1"]);
    assert_eq!(
        code(containers.create(of(record("c1"))).await),
        Code::AlreadyExists
    );
    fake.faults().break_call("Containers/Delete", 2, How::Hang);
    let delete = |id: &str| of(api::DeleteContainerRequest { id: id.into() });
    assert_eq!(code(containers.delete(delete("other")).await), Code::NotFound);
    let mut hangs = delete("c1");
    give_up_soon(&mut hangs);
    assert_eq!(code(containers.delete(hangs).await), Code::DeadlineExceeded);
    assert_eq!(fake.world().containers, ["test/c1"]);
    assert_eq!(fake.faults().unmet(), 0);
    fake.close().await;
}

#[tokio::test]
async fn a_cancellation_fires_when_the_call_arrives_and_the_call_goes_on() {
    let (fake, client) = start().await;
    let fired = Arc::new(AtomicBool::new(false));
    let cancel = {
        let fired = Arc::clone(&fired);
        Box::new(move || fired.store(true, Ordering::SeqCst))
    };
    fake.faults().break_at(2, How::Cancel(cancel));
    client.containers().create(of(record("c1"))).await.unwrap();
    assert!(!fired.load(Ordering::SeqCst));
    client.containers().create(of(record("c2"))).await.unwrap();
    assert!(fired.load(Ordering::SeqCst));
    assert_eq!(fake.world().containers, ["test/c1", "test/c2"]);
    fake.close().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_stop_the_effect() {
    let (fake, client) = start().await;
    client.containers().create(of(record("c1"))).await.unwrap();
    // Nobody reads this fifo yet: the shim blocks in its open.
    let path = fake.dir().join("out");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let mut create = of(api::CreateTaskRequest {
        stdout: path.display().to_string(),
        ..task("c1")
    });
    give_up_soon(&mut create);
    assert_eq!(code(client.tasks().create(create).await), Code::DeadlineExceeded);
    assert_eq!(fake.world().tasks, Vec::<String>::new());
    let reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    while fake.world().tasks.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A created task is killed by its deletion.
    let deleted = client
        .tasks()
        .delete(delete_task("c1"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(deleted.exit_status, 137);
    assert_eq!(everything(reader).await, "");
    fake.close().await;
}

#[tokio::test]
async fn a_server_that_stops_breaks_what_is_in_flight_and_refuses_what_comes() {
    let (fake, client) = start().await;
    fake.script(Script::steps([Step::Forever]));
    client.containers().create(of(record("c1"))).await.unwrap();
    let pid = client
        .tasks()
        .create(of(task("c1")))
        .await
        .unwrap()
        .into_inner()
        .pid;
    client.tasks().start(start_request("c1")).await.unwrap();
    let mut tasks = client.tasks();
    let tracker = TaskTracker::new();
    let waiting = tracker.spawn(async move { tasks.wait(wait_request("c1")).await });
    while !fake.calls().contains(&"Tasks/Wait".to_owned()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fake.stop();
    assert!(waiting.await.unwrap().is_err());
    let version = tokio::time::timeout(Duration::from_secs(60), client.version().version(()))
        .await
        .unwrap();
    // Refused, it is Unavailable. If the connection was still being cut, the client library has no better code than Unknown,
    // with the transport's error as the source, which no server's own status has: what the gateway goes by.
    let broken = version.unwrap_err();
    let cut = broken.code() == Code::Unknown && std::error::Error::source(&broken).is_some();
    assert!(broken.code() == Code::Unavailable || cut, "{broken:?}");
    fake.close().await;
    let process = PathBuf::from(format!("/proc/{pid}"));
    assert!(!process.exists(), "no process is left");
}
