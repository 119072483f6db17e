//! A containerd for tests: the gRPC services over a Unix socket, on a model in memory, with faults on demand.
//!
//! It answers as containerd 1.6 does (the same codes for the same mistakes) but has neither root, runtime nor layers.
//! A task is a script that really opens the fifos it is given, and a real process, so that a pid is a pid.
//! That process lives in the cgroup of the test: never freeze or kill by what its `/proc/PID/cgroup` says.
//!
//! Every effect runs on a task of its own, as a shim's does: a caller that gives up does not stop it.
//!
//! ```ignore
//! #[path = "support/fake_containerd/mod.rs"]
//! mod fake_containerd;
//! ```

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "support of tests: a failure here fails the test, and each test binary uses a part of it"
)]

mod containers;
mod content;
mod diff;
mod events;
mod faults;
mod filter;
mod gc;
mod grpc;
mod images;
mod leases;
mod listener;
mod namespaces;
mod preload;
mod process;
mod snapshots;
mod state;
mod tasks;
mod version;
mod world;

use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use containerd_client::events::TaskOom;
use containerd_client::types::Envelope;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use faults::{Faults, How};
pub use preload::FakeImage;
pub use process::{Script, Step};
pub use world::World;

use state::State;

/// The server. Dropping it cuts every connection and kills the processes; [`FakeContainerd::close`] also reaps them.
pub struct FakeContainerd {
    fake: Arc<Fake>,
    dir: tempfile::TempDir,
}

/// What the services share.
struct Fake {
    state: Mutex<State>,
    faults: Faults,
    events: broadcast::Sender<Envelope>,
    /// How often all subscriptions were broken.
    subscriptions: watch::Sender<u64>,
    /// How many subscriptions came with a deadline, at which containerd would end them.
    bounded_subscriptions: AtomicUsize,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Where snapshots have their directories.
    root: PathBuf,
}

impl Fake {
    /// Short sections only, never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no handler panics with the state locked")
    }
}

impl FakeContainerd {
    /// Starts a server with an empty world, in a directory of its own.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake {
            state: Mutex::default(),
            faults: Faults::default(),
            events: broadcast::channel(1024).0,
            subscriptions: watch::Sender::default(),
            bounded_subscriptions: AtomicUsize::new(0),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            root: dir.path().join("snapshots"),
        });
        let routes = [
            containers::routes,
            content::routes,
            diff::routes,
            events::routes,
            images::routes,
            leases::routes,
            namespaces::routes,
            snapshots::routes,
            tasks::routes,
            version::routes,
        ];
        let router = routes
            .into_iter()
            .fold(Router::new(), |all, of| all.merge(of(&fake)))
            .fallback(grpc::unimplemented);
        let server = Self { fake, dir };
        let listener = listener::Cuttable {
            listener: UnixListener::bind(server.socket()).unwrap(),
            cut: server.fake.stop.clone(),
        };
        let stop = server.fake.stop.clone();
        server.fake.tracker.spawn(async move {
            stop.run_until_cancelled(axum::serve(listener, router).into_future())
                .await
                .map(Result::unwrap)
        });
        server
    }

    /// The address that production code is given.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    /// A directory that goes with the server, for fifos and the like.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What is to go wrong.
    pub fn faults(&self) -> &Faults {
        &self.fake.faults
    }

    /// The unary calls so far, in the order in which they arrived, as in `Tasks/Create`.
    pub fn calls(&self) -> Vec<String> {
        self.fake.faults.calls()
    }

    /// What exists now.
    pub fn world(&self) -> World {
        World::of(&self.fake.state())
    }

    /// What every container does whose id has no script of its own.
    pub fn script(&self, script: Script) {
        self.fake.state().default_script = script;
    }

    /// What the container `id` does.
    pub fn script_of(&self, id: &str, script: Script) {
        self.fake.state().scripts.insert(id.into(), script);
    }

    /// Puts an unpacked image into a containerd namespace.
    pub fn install(&self, namespace: &str, image: &FakeImage) {
        preload::install(&self.fake, namespace, image);
    }

    /// Kills the processes of every container `id`, past the Tasks service.
    pub fn kill_behind(&self, id: &str) {
        let state = self.fake.state();
        let tasks = state
            .namespaces
            .values()
            .filter_map(|namespace| namespace.tasks.get(id));
        for task in tasks {
            let pid = Pid::from_raw(task.pid.try_into().unwrap());
            kill(pid, Signal::SIGKILL).unwrap();
        }
    }

    /// Tells that memory ran out in every container `id`, as its shim does when the kernel has killed in it.
    pub fn oom(&self, id: &str) {
        let of: Vec<_> = {
            let state = self.fake.state();
            let with_it = state
                .namespaces
                .iter()
                .filter(|(_, namespace)| namespace.containers.contains_key(id));
            with_it.map(|(name, _)| name.clone()).collect()
        };
        let event = TaskOom {
            container_id: id.into(),
        };
        for namespace in of {
            self.fake.publish(&namespace, "/tasks/oom", &event);
        }
    }

    /// How many subscriptions to events are open.
    pub fn subscribers(&self) -> usize {
        self.fake.events.receiver_count()
    }

    /// How many subscriptions came with a deadline.
    pub fn bounded_subscriptions(&self) -> usize {
        self.fake.bounded_subscriptions.load(Ordering::Acquire)
    }

    /// Breaks every subscription that is open; new ones are served. An event until then is lost to them.
    pub fn break_events(&self) {
        self.fake.subscriptions.send_modify(|broken| *broken += 1);
    }

    /// Stops in the middle of everything: connections break, new ones are refused, the processes are killed.
    pub fn stop(&self) {
        self.fake.stop.cancel();
    }

    /// Stops, and waits until nothing of the server is left, the processes reaped.
    pub async fn close(self) {
        self.stop();
        self.fake.tracker.close();
        self.fake.tracker.wait().await;
    }
}

impl Drop for FakeContainerd {
    fn drop(&mut self) {
        self.stop();
    }
}
