//! Everything that a container could leave behind, counted before and after.
//!
//! ```ignore
//! let before = Census::take(&real.address(), real.namespace(), &[real.dir()]).await;
//! // ... a function's life ...
//! before.assert_same().await;
//! ```
//!
//! What is counted is told apart by the containerd namespace and by the test's own directories, so tests with a namespace
//! each may run side by side, and beside whatever else the host does. Network namespaces and mounts that bear neither are
//! the host's: a failure lists how they changed, and does not judge it.
//! [`Census::with_own_files`] adds all file descriptors and children of this process, for a test that runs alone.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots as snapshots_api;
use containerd_client::tonic::transport::{Channel, Endpoint};
use containerd_client::tonic::{Code, Request};
use hyper_util::rt::TokioIo;
use sha2::Digest as _;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::patience::patient;

/// How long asynchronous cleanup (garbage collection, ending shims) may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the host's programs pin network namespaces: `ip netns`, Docker, this project, CNI runtimes.
const NETNS: [&str; 4] = ["/run/netns", "/run/docker/netns", "/run/fnctr/netns", "/run/cni"];

/// Ids of containers whose shims' sockets are looked for: `c0`, `c1` and so on, and some with names.
const IDS: u32 = 1000;
const NAMED_IDS: [&str; 6] = ["orphan", "twin", "old-1", "old-2", "own-1", "d1"];

/// Where every shim has runc keep its records, one directory for each containerd namespace.
const RUNC: &str = "/run/containerd/runc";

const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// The kinds of things that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Container,
    Task,
    Image,
    Snapshot,
    Lease,
    /// A write to the content store that was begun and not ended.
    Ingest,
    Shim,
    ShimSocket,
    Mount,
    Cgroup,
    /// A file, FIFO or socket in the directories given to [`Census::take`], containerd's own database excepted.
    File,
    /// A file descriptor of this process.
    Descriptor,
    Child,
}

/// A thing that is there now and was not before, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Positive: how many there are more.
    pub(crate) by: i64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.by > 0 { "left behind" } else { "gone" };
        write!(f, "{sign}: {:?} {} ({:+})", self.kind, self.name, self.by)
    }
}

/// What to look at, kept so that the second census looks at the same.
#[derive(Debug, Clone)]
struct Scope {
    address: PathBuf,
    namespace: String,
    dirs: Vec<PathBuf>,
    own_files: bool,
}

/// What is there at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Census {
    scope: Scope,
    things: BTreeMap<(Kind, String), i64>,
    /// What is pinned or mounted where any program of the host may do so.
    host: BTreeSet<String>,
}

impl Census {
    /// Counts what belongs to one containerd namespace, and what is in `run_dirs`.
    pub(crate) async fn take(address: &Path, namespace: &str, run_dirs: &[&Path]) -> Self {
        Self::of(Scope {
            address: address.to_owned(),
            namespace: namespace.to_owned(),
            dirs: run_dirs.iter().map(|dir| (*dir).to_owned()).collect(),
            own_files: false,
        })
        .await
    }

    /// The same, taken again with this process's descriptors and children.
    pub(crate) async fn with_own_files(self) -> Self {
        Self::of(Scope {
            own_files: true,
            ..self.scope
        })
        .await
    }

    /// What differs now. Empty if nothing does.
    pub(crate) fn diff(&self, now: &Self) -> Vec<Change> {
        let keys: BTreeSet<_> = self.things.keys().chain(now.things.keys()).collect();
        let count = |things: &BTreeMap<_, _>, key| things.get(key).copied().unwrap_or(0);
        keys.into_iter()
            .map(|key| Change {
                kind: key.0,
                name: key.1.clone(),
                by: count(&now.things, key) - count(&self.things, key),
            })
            .filter(|change| change.by != 0)
            .collect()
    }

    /// What differs at this moment, whether it is on its way out or not.
    pub(crate) async fn changes_now(&self) -> Vec<Change> {
        self.diff(&Self::of(self.scope.clone()).await)
    }

    /// What differs beside what is expected to, after giving asynchronous cleanup its time.
    pub(crate) async fn changes_but(&self, is_expected: impl Fn(&Change) -> bool) -> Vec<Change> {
        let mut changes = self.diff(&self.settled(&is_expected).await);
        changes.retain(|change| !is_expected(change));
        changes
    }

    /// A census of now, taken again until nothing differs but what may, or asynchronous cleanup has had its time.
    async fn settled(&self, may_differ: &impl Fn(&Change) -> bool) -> Self {
        let until = Instant::now() + patient(PATIENCE);
        loop {
            let now = Self::of(self.scope.clone()).await;
            if self.diff(&now).iter().all(may_differ) || Instant::now() >= until {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fails, listing every difference, unless the world is as it was.
    pub(crate) async fn assert_same(&self) {
        let now = self.settled(&|_| false).await;
        let changes = self.diff(&now);
        let mut list = changes.iter().fold(String::new(), |mut out, change| {
            let _ = writeln!(out, "  {change}");
            out
        });
        for path in self.host.symmetric_difference(&now.host) {
            let _ = writeln!(list, "  not counted, the host's: {path}");
        }
        assert!(changes.is_empty(), "the world has changed:\n{list}");
    }

    async fn of(scope: Scope) -> Self {
        let mut census = Self {
            scope: scope.clone(),
            things: BTreeMap::new(),
            host: BTreeSet::new(),
        };
        // First, while no connection of the census itself is open.
        if scope.own_files {
            census.own_files();
        }
        census.kernel();
        census.containerd().await;
        census
    }

    fn add(&mut self, kind: Kind, name: impl Into<String>) {
        *self.things.entry((kind, name.into())).or_default() += 1;
    }

    /// Whether a path leads below a part that is the namespace: `/sys/fs/cgroup/memory/NAMESPACE/c1`. The directory of
    /// the namespace itself is made by the first container and stays for the next.
    fn is_ours(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        let found = parts.any(|part| part.strip_suffix(".slice").unwrap_or(part) == self.scope.namespace);
        // Where systemd makes the cgroups: one scope for each container.
        let scope = format!("fnctr-{}--", self.scope.namespace);
        let scoped = path
            .split('/')
            .any(|part| part.starts_with(&scope) && part.ends_with(".scope"));
        scoped || found && parts.next().is_some()
    }

    fn kernel(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for line in mounts.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let point = words[4];
            let in_dirs = self
                .scope
                .dirs
                .iter()
                .any(|dir| Path::new(point).starts_with(dir));
            if in_dirs || self.is_ours(point) {
                self.add(Kind::Mount, point);
            } else if NETNS.iter().any(|dir| point.starts_with(dir)) {
                self.host.insert(format!("mount {point}"));
            }
            let kind = words.iter().skip_while(|word| **word != "-").nth(1);
            if matches!(kind, Some(&("cgroup" | "cgroup2"))) {
                let mut dirs = Vec::new();
                walk(Path::new(point), &mut dirs, &|entry| entry.is_dir());
                for dir in dirs.iter().map(|dir| dir.display().to_string()) {
                    if self.is_ours(&dir) {
                        self.add(Kind::Cgroup, dir);
                    }
                }
            }
        }
        for name in NETNS
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten()
        {
            self.host
                .insert(format!("network namespace {}", name.path().display()));
        }
        self.shims();
        self.files();
    }

    fn shims(&mut self) {
        let address = self.scope.address.display().to_string();
        for pid in pids() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line
                .split(|byte| *byte == 0)
                .map(String::from_utf8_lossy)
                .collect();
            let has = |word: &str| words.iter().any(|w| w == word);
            if words[0].contains("containerd-shim") && has(&address) && has(&self.scope.namespace) {
                self.add(Kind::Shim, words.join(" ").trim());
            }
        }
        // A socket that nobody listens on any more is a leftover. Its name is a hash of containerd's address, the
        // namespace and the container (runtime/v2/shim.SocketAddress), so ours are known for the ids that tests use.
        let ours: BTreeSet<String> = (0..IDS)
            .map(|n| format!("c{n}"))
            .chain(NAMED_IDS.map(str::to_owned))
            .map(|id| {
                let path = self.scope.address.join(&self.scope.namespace).join(id);
                let hash = sha2::Sha256::digest(path.display().to_string());
                format!("/run/containerd/s/{hash:x}")
            })
            .collect();
        let listening = fs::read_to_string("/proc/net/unix").unwrap();
        for entry in fs::read_dir("/run/containerd/s").into_iter().flatten().flatten() {
            let path = entry.path().display().to_string();
            if ours.contains(&path) && !listening.lines().any(|line| line.ends_with(&path)) {
                self.add(Kind::ShimSocket, path);
            }
        }
    }

    fn files(&mut self) {
        for dir in self.scope.dirs.clone() {
            let mut found = Vec::new();
            walk(&dir, &mut found, &|entry| {
                entry.is_fifo() || entry.is_socket() || entry.is_dir()
            });
            for path in found {
                // What containerd stores is counted by asking it; what is in a mounted root file system is its own.
                let relative = path.strip_prefix(&dir).unwrap().display().to_string();
                let stored = relative.starts_with("root") || relative.contains("/rootfs/");
                // What the command remembers of images, and the log of events, stay on purpose.
                let stored = stored || relative.ends_with("/.image-facts") || relative.contains("/.events");
                // So do the directories that hold the logs of all containers, and all volumes.
                let stored = stored || holds_all(&relative, "logs") || holds_all(&relative, "volumes");
                let namespace = relative.ends_with(&format!("/{}", self.scope.namespace));
                if !stored && !namespace {
                    self.add(Kind::File, path.display().to_string());
                }
            }
        }
        // runc's own records, which a deleted task must not leave.
        let runc = Path::new(RUNC).join(&self.scope.namespace);
        for entry in fs::read_dir(runc).into_iter().flatten().flatten() {
            self.add(Kind::File, entry.path().display().to_string());
        }
    }

    fn own_files(&mut self) {
        for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let target = target.display().to_string();
            // `socket:[12345]`: the number says nothing.
            let name = match target.split_once(":[") {
                Some((kind, _)) => kind,
                None => &target,
            };
            if !name.starts_with("/proc/") {
                self.add(Kind::Descriptor, name);
            }
        }
        let me = std::process::id().to_string();
        for pid in pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let value = |key| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(key))
                    .map(str::trim)
            };
            if value("PPid:") == Some(&me) {
                let state = value("State:").unwrap_or_default();
                self.add(
                    Kind::Child,
                    format!("{} {state}", value("Name:").unwrap_or_default()),
                );
            }
        }
    }

    async fn containerd(&mut self) {
        let address = self.scope.address.clone();
        let connector = tower::service_fn(move |_| {
            let address = address.clone();
            async move { UnixStream::connect(address).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://containerd")
            .connect_with_connector(connector)
            .await
            .unwrap_or_else(|why| {
                panic!(
                    "no census without containerd at {}: {why:?}",
                    self.scope.address.display()
                )
            });
        let ns = self.scope.namespace.clone();
        self.records(&channel, &ns).await;
        for snapshotter in SNAPSHOTTERS {
            self.snapshots(&channel, &ns, snapshotter).await;
        }
    }

    async fn records(&mut self, channel: &Channel, ns: &str) {
        let containers = api::containers_client::ContainersClient::new(channel.clone())
            .list(stamped(api::ListContainersRequest::default(), ns))
            .await
            .unwrap();
        for container in containers.into_inner().containers {
            self.add(Kind::Container, container.id);
        }
        let tasks = api::tasks_client::TasksClient::new(channel.clone())
            .list(stamped(api::ListTasksRequest::default(), ns))
            .await
            .unwrap();
        for task in tasks.into_inner().tasks {
            self.add(Kind::Task, task.id);
        }
        let images = api::images_client::ImagesClient::new(channel.clone())
            .list(stamped(api::ListImagesRequest::default(), ns))
            .await
            .unwrap();
        for image in images.into_inner().images {
            self.add(Kind::Image, image.name);
        }
        let leases = api::leases_client::LeasesClient::new(channel.clone())
            .list(stamped(api::ListRequest::default(), ns))
            .await
            .unwrap();
        for lease in leases.into_inner().leases {
            self.add(Kind::Lease, lease.id);
        }
        let ingests = api::content_client::ContentClient::new(channel.clone())
            .list_statuses(stamped(api::ListStatusesRequest::default(), ns))
            .await
            .unwrap();
        for ingest in ingests.into_inner().statuses {
            self.add(Kind::Ingest, ingest.r#ref);
        }
    }

    async fn snapshots(&mut self, channel: &Channel, ns: &str, snapshotter: &str) {
        let request = snapshots_api::ListSnapshotsRequest {
            snapshotter: snapshotter.to_owned(),
            ..Default::default()
        };
        let listed = snapshots_api::snapshots_client::SnapshotsClient::new(channel.clone())
            .list(stamped(request, ns))
            .await;
        let mut pages = match listed {
            Ok(pages) => pages.into_inner(),
            // This containerd has no such snapshotter.
            Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => return,
            Err(status) => panic!("cannot list the snapshots of {snapshotter}: {status:?}"),
        };
        loop {
            match pages.message().await {
                Ok(Some(page)) => {
                    for info in page.info {
                        self.add(Kind::Snapshot, format!("{snapshotter} {}", info.name));
                    }
                }
                Ok(None) => return,
                Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => return,
                Err(status) => panic!("cannot list the snapshots of {snapshotter}: {status:?}"),
            }
        }
    }
}

fn stamped<T>(message: T, namespace: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace.parse().unwrap());
    request
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether it is a directory above those of the single ones of a kind.
fn holds_all(relative: &str, kind: &str) -> bool {
    let below = format!("/{relative}");
    let rest = below.split_once(&format!("/data/{kind}")).map(|(_, rest)| rest);
    below.ends_with("/data") || rest.is_some_and(|rest| rest.matches('/').count() <= 1)
}

/// Collects what `wanted` accepts below a directory. A directory that vanishes on the way is not there.
fn walk(dir: &Path, found: &mut Vec<PathBuf>, wanted: &dyn Fn(fs::FileType) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if wanted(kind) {
            found.push(entry.path());
        }
        if kind.is_dir() {
            walk(&entry.path(), found, wanted);
        }
    }
}
