//! The fake containerd behaves like containerd where production code looks, seen through containerd's own client stubs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: a failure here fails the test"
)]

#[path = "../support/fake_containerd/mod.rs"]
mod fake_containerd;

mod content;
mod faults;
mod life;

use std::path::{Path, PathBuf};

use containerd_client::Client;
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::snapshots::PrepareSnapshotRequest;
use containerd_client::services::v1::{self as api, Container, CreateContainerRequest};
use hyper_util::rt::TokioIo;
use nix::sys::stat::Mode;
use prost_types::Any;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use fake_containerd::FakeContainerd;

const NS: &str = "test";

async fn connect(socket: PathBuf) -> Client {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://containerd.invalid");
    Client::from(endpoint.connect_with_connector(connector).await.unwrap())
}

async fn start() -> (FakeContainerd, Client) {
    let fake = FakeContainerd::start().await;
    let client = connect(fake.socket()).await;
    (fake, client)
}

/// A request in the namespace of the tests.
fn of<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("containerd-namespace", NS.parse().unwrap());
    request
}

fn leased<M>(lease: &'static str, message: M) -> Request<M> {
    let mut request = of(message);
    let metadata = request.metadata_mut();
    metadata.insert("containerd-lease", lease.parse().unwrap());
    request
}

/// Gives the call 50 ms on the server's clock alone. tonic's client has a clock of its own for this header, and answers
/// `Cancelled` when that one is first; nine digits are one more than it understands.
fn give_up_soon<M>(request: &mut Request<M>) {
    let metadata = request.metadata_mut();
    metadata.insert("grpc-timeout", "000000050m".parse().unwrap());
}

#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

fn record(id: &str) -> CreateContainerRequest {
    CreateContainerRequest {
        container: Some(Container {
            id: id.into(),
            snapshotter: "overlayfs".into(),
            snapshot_key: id.into(),
            runtime: Some(Runtime {
                name: "io.containerd.runc.v2".into(),
                options: None,
            }),
            spec: Some(Any::default()),
            ..Container::default()
        }),
    }
}

fn task(id: &str) -> api::CreateTaskRequest {
    api::CreateTaskRequest {
        container_id: id.into(),
        ..api::CreateTaskRequest::default()
    }
}

fn start_request(id: &str) -> Request<api::StartRequest> {
    of(api::StartRequest {
        container_id: id.into(),
        ..api::StartRequest::default()
    })
}

fn wait_request(id: &str) -> Request<api::WaitRequest> {
    of(api::WaitRequest {
        container_id: id.into(),
        ..api::WaitRequest::default()
    })
}

fn kill_request(id: &str, signal: u32) -> Request<api::KillRequest> {
    of(api::KillRequest {
        container_id: id.into(),
        signal,
        ..api::KillRequest::default()
    })
}

fn delete_task(id: &str) -> Request<api::DeleteTaskRequest> {
    of(api::DeleteTaskRequest {
        container_id: id.into(),
    })
}

fn prepare(key: &str, parent: &str) -> PrepareSnapshotRequest {
    PrepareSnapshotRequest {
        snapshotter: "overlayfs".into(),
        key: key.into(),
        parent: parent.into(),
        ..PrepareSnapshotRequest::default()
    }
}

/// A fifo whose read end is open, as a client must have it before it creates a task.
fn fifo(dir: &Path, name: &str) -> (String, pipe::Receiver) {
    let path = dir.join(name);
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let read = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    (path.display().to_string(), read)
}

async fn everything(read: pipe::Receiver) -> String {
    let mut text = Vec::new();
    loop {
        read.readable().await.unwrap();
        match read.try_read_buf(&mut text) {
            Ok(0) => return String::from_utf8(text).unwrap(),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}
