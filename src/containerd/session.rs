//! A connection to containerd, with the stamp that every call carries.
//!
//! The scope is a value, not ambient state: [`Session::leased`] returns another session whose calls carry a lease, so
//! the objects that they create belong to the lease. A lost connection is restored automatically.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use super::call::Call;
use super::error::{Cause, Error};
use super::{
    Containers, Content, Diff, Events, Images, Introspection, Leases, Meter, Namespaces, Snapshots, Tasks,
    Version,
};
use crate::metrics::Metrics;
use crate::{Context, LeaseId, Namespace};

/// containerd's own limit for one message (defaults.DefaultMaxRecvMsgSize); the library's default of 4 MiB is less.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// Large enough for a few layers and a thousand waiting calls in flight on one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
const STREAM_WINDOW: u32 = 2 << 20;

/// The start of every HTTP/2 connection: the preface, and an empty settings frame (RFC 9113, 3.4).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The head of a frame: three bytes of length, its type, five more.
const FRAME_HEAD: usize = 9;
/// The type of the first frame that a server sends.
const SETTINGS: u8 = 4;
/// How long the server's answer to [`HELLO`] may take.
const GREETING: Duration = Duration::from_secs(1);

/// A connection, a containerd namespace and perhaps a lease. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session {
    channel: Channel,
    scope: Arc<Scope>,
    lease: Option<(LeaseId, MetadataValue<Ascii>)>,
}

struct Scope {
    address: PathBuf,
    namespace: Namespace,
    stamp: MetadataValue<Ascii>,
    meter: Meter,
    metrics: Arc<Metrics>,
    /// The process that listened when the session was made; `None` if it is in another pid namespace.
    first_server: Option<u32>,
}

impl Session {
    /// Connects to containerd's socket. Succeeds only if a process listens there. If the connection is lost later, the
    /// next call restores it.
    ///
    /// # Errors
    /// The message names the socket, and states whether it is absent, refused, forbidden, or not containerd's.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn connect(ctx: &Context, address: &Path, namespace: &Namespace) -> Result<Self, Error> {
        const CALL: &str = "Connect";
        let target = address.display().to_string();
        let fail = |cause| Error::new(CALL, target.as_str(), cause);
        let stamp = MetadataValue::try_from(namespace.as_str())
            .map_err(|why| fail(Cause::Unusable(why.to_string())))?;
        let stream = probe(ctx, address, CALL).await?;
        let first_server = peer_of(&stream).map_err(|why| fail(Cause::Socket(why)))?;
        greeted(ctx, stream).await.map_err(fail)?;
        let path = Arc::<Path>::from(address);
        // The URI is never resolved: the connector opens the socket.
        let channel = Endpoint::from_static("http://containerd")
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = Arc::clone(&path);
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }));
        Ok(Self {
            channel,
            scope: Arc::new(Scope {
                address: address.to_owned(),
                namespace: namespace.clone(),
                stamp,
                meter: Meter::default(),
                metrics: Arc::new(Metrics::new()),
                first_server,
            }),
            lease: None,
        })
    }

    /// The containerd namespace that every call is made in.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.scope.namespace
    }

    /// The path of containerd's socket.
    pub(crate) fn address(&self) -> &Path {
        &self.scope.address
    }

    /// The counters of the calls, and those that the session's owner adds.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.scope.metrics
    }

    /// The lease that the calls of this session carry, if any.
    pub(crate) fn lease(&self) -> Option<&LeaseId> {
        self.lease.as_ref().map(|(id, _)| id)
    }

    /// The same session, except that the objects its calls create belong to `lease`.
    pub(crate) fn leased(&self, lease: &LeaseId) -> Self {
        // A lease id consists only of letters, digits and -_. and so is always a valid metadata value.
        let stamp = MetadataValue::try_from(lease.as_str()).ok();
        Self {
            lease: stamp.map(|stamp| (lease.clone(), stamp)),
            ..self.clone()
        }
    }

    /// The process that listened on the socket when the session was made. After a restart of containerd,
    /// [`Session::server_pid`] returns the new one.
    pub(crate) fn first_server(&self) -> Option<u32> {
        self.scope.first_server
    }

    /// The process that listens on the socket, as the kernel reports it: the containerd daemon. `None` if the process
    /// is in another pid namespace.
    ///
    /// # Errors
    /// As [`Session::connect`].
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn server_pid(&self, ctx: &Context) -> Result<Option<u32>, Error> {
        const CALL: &str = "Connect";
        let stream = probe(ctx, self.address(), CALL).await?;
        peer_of(&stream)
            .map_err(|why| Error::new(CALL, self.address().display().to_string(), Cause::Socket(why)))
    }

    /// Records how long the calls of this connection take.
    pub(crate) fn meter(&self) -> &Meter {
        &self.scope.meter
    }

    /// Container records.
    pub(crate) fn containers(&self) -> Containers {
        Containers::new(self.clone())
    }

    /// Running processes of containers.
    pub(crate) fn tasks(&self) -> Tasks {
        Tasks::new(self.clone())
    }

    /// Root file systems, kept by the snapshotter with this name.
    pub(crate) fn snapshots(&self, snapshotter: &str) -> Snapshots {
        Snapshots::new(self.clone(), snapshotter)
    }

    /// Image names and their targets.
    pub(crate) fn images(&self) -> Images {
        Images::new(self.clone())
    }

    /// Blobs by digest.
    pub(crate) fn content(&self) -> Content {
        Content::new(self.clone())
    }

    /// Unpacking of layers.
    pub(crate) fn diff(&self) -> Diff {
        Diff::new(self.clone())
    }

    /// Leases, which keep objects from the garbage collector.
    pub(crate) fn leases(&self) -> Leases {
        Leases::new(self.clone())
    }

    /// Events of tasks.
    pub(crate) fn events(&self) -> Events {
        Events::new(self.clone())
    }

    /// Tenants of the containerd server.
    pub(crate) fn namespaces(&self) -> Namespaces {
        Namespaces::new(self.clone())
    }

    /// The plugins of the server.
    pub(crate) fn introspection(&self) -> Introspection {
        Introspection::new(self.clone())
    }

    /// The version of the server.
    pub(crate) fn version(&self) -> Version {
        Version::new(self.clone())
    }

    pub(super) fn call<'a>(&'a self, ctx: &'a Context, name: &'static str, target: &'a str) -> Call<'a> {
        Call::new(self, ctx, name, target)
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn stamp(&self, metadata: &mut MetadataMap) {
        metadata.insert("containerd-namespace", self.scope.stamp.clone());
        if let Some((_, lease)) = &self.lease {
            metadata.insert("containerd-lease", lease.clone());
        }
    }
}

/// Sends the HTTP/2 greeting, and fails if the answer belongs to another protocol. A server that does not answer in
/// time passes here, because its calls have limits of their own.
async fn greeted(ctx: &Context, mut stream: UnixStream) -> Result<(), Cause> {
    let greeting = async {
        let mut answer = [0; FRAME_HEAD];
        stream.write_all(HELLO).await?;
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = ctx.run(tokio::time::timeout(GREETING, greeting)).await;
    match answer.map_err(Cause::Interrupted)? {
        Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.") => Err(Cause::Foreign("HTTP/1, as Docker does")),
        Ok(Ok([_, _, _, SETTINGS, ..])) | Ok(Err(_)) | Err(_) => Ok(()),
        Ok(Ok(_)) => Err(Cause::Foreign("another protocol")),
    }
}

/// The process at the other end, as SO_PEERCRED reports it (unix(7)); 0 stands for one in another pid namespace.
fn peer_of(stream: &UnixStream) -> io::Result<Option<u32>> {
    let pid = stream.peer_cred()?.pid();
    Ok(pid
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid != 0))
}

async fn probe(ctx: &Context, address: &Path, call: &'static str) -> Result<UnixStream, Error> {
    let fail = |cause| Error::new(call, address.display().to_string(), cause);
    let connected: io::Result<UnixStream> = ctx
        .run(UnixStream::connect(address))
        .await
        .map_err(|why| fail(Cause::Interrupted(why)))?;
    connected.map_err(|why| fail(Cause::Socket(why)))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("address", &self.scope.address)
            .field("namespace", &self.scope.namespace.as_str())
            .field("lease", &self.lease().map(LeaseId::as_str))
            .finish_non_exhaustive()
    }
}
