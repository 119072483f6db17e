//! From a path to a function: the part of a gRPC server that code is usually generated for.
//!
//! Also where faults strike and deadlines pass, so that no service knows of either.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::post;
use prost::Message;
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{Fake, How};

/// containerd's own limit for one message.
const MAX_MESSAGE: usize = 16 << 20;

/// What a streaming method answers with.
pub(super) type Replies<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// What the metadata of a call says.
#[derive(Debug, Clone)]
pub(super) struct Call {
    namespace: Option<String>,
    /// The lease that holds what the call creates.
    pub(super) lease: Option<String>,
    /// The caller's deadline, from now on.
    pub(super) timeout: Option<Duration>,
}

impl Call {
    fn of(metadata: &MetadataMap) -> Self {
        let get = |key: &str| metadata.get(key)?.to_str().ok().map(str::to_owned);
        Self {
            namespace: get("containerd-namespace"),
            lease: get("containerd-lease"),
            timeout: get("grpc-timeout").as_deref().and_then(timeout),
        }
    }

    /// The containerd namespace, which most services insist on.
    pub(super) fn namespace(&self) -> Result<&str, Status> {
        self.namespace
            .as_deref()
            .ok_or_else(|| Status::failed_precondition("namespace is required: failed precondition"))
    }
}

/// The value of `grpc-timeout`: up to eight digits and a unit.
fn timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// The routes of one service while they are collected.
pub(super) struct Service {
    router: Router,
    /// With the package, as in `containerd.services.tasks.v1.Tasks`.
    name: &'static str,
    fake: Arc<Fake>,
}

impl Service {
    pub(super) fn new(fake: &Arc<Fake>, name: &'static str) -> Self {
        Self {
            router: Router::new(),
            name,
            fake: Arc::clone(fake),
        }
    }

    pub(super) fn routes(self) -> Router {
        self.router
    }

    /// A unary method that only looks at or changes the model.
    pub(super) fn plain<M, R>(
        self,
        method: &'static str,
        work: fn(&Fake, &Call, M) -> Result<R, Status>,
    ) -> Self
    where
        M: Message + Default + 'static,
        R: Message + Default + 'static,
    {
        self.unary(method, move |fake, call, message| async move {
            work(&fake, &call, message)
        })
    }

    /// A unary method that waits for something.
    pub(super) fn unary<M, R, F, W>(self, method: &'static str, work: F) -> Self
    where
        M: Message + Default + 'static,
        R: Message + Default + 'static,
        F: Fn(Arc<Fake>, Call, M) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = Result<R, Status>> + Send + 'static,
    {
        let (path, short, fake) = self.names(method);
        self.route(&path, move |request: Request| async move {
            let answer = service_fn(move |request: tonic::Request<M>| {
                let call = Call::of(request.metadata());
                let effect = work(Arc::clone(&fake), call.clone(), request.into_inner());
                let answer = answer(Arc::clone(&fake), call, short.clone(), false, effect);
                async move { answer.await.map(tonic::Response::new) }
            });
            let mut grpc = codec::<R, M>();
            grpc.unary(answer, request).await.map(axum::body::Body::new)
        })
    }

    /// A method with one request and a stream of replies.
    pub(super) fn streaming<M, R, F, W>(self, method: &'static str, work: F) -> Self
    where
        M: Message + Default + 'static,
        R: Message + Default + 'static,
        F: Fn(Arc<Fake>, Call, M) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = Result<Replies<R>, Status>> + Send + 'static,
    {
        let (path, short, fake) = self.names(method);
        self.route(&path, move |request: Request| async move {
            let answer = service_fn(move |request: tonic::Request<M>| {
                let call = Call::of(request.metadata());
                let effect = work(Arc::clone(&fake), call.clone(), request.into_inner());
                let answer = answer(Arc::clone(&fake), call, short.clone(), true, effect);
                async move { answer.await.map(tonic::Response::new) }
            });
            let mut grpc = codec::<R, M>();
            grpc.server_streaming(answer, request)
                .await
                .map(axum::body::Body::new)
        })
    }

    /// A method with a stream each way.
    pub(super) fn duplex<M, R, F, W>(self, method: &'static str, work: F) -> Self
    where
        M: Message + Default + 'static,
        R: Message + Default + 'static,
        F: Fn(Arc<Fake>, Call, Streaming<M>) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = Result<Replies<R>, Status>> + Send + 'static,
    {
        let (path, short, fake) = self.names(method);
        self.route(&path, move |request: Request| async move {
            let answer = service_fn(move |request: tonic::Request<Streaming<M>>| {
                let call = Call::of(request.metadata());
                let effect = work(Arc::clone(&fake), call.clone(), request.into_inner());
                let answer = answer(Arc::clone(&fake), call, short.clone(), true, effect);
                async move { answer.await.map(tonic::Response::new) }
            });
            let mut grpc = codec::<R, M>();
            grpc.streaming(answer, request).await.map(axum::body::Body::new)
        })
    }

    fn names(&self, method: &str) -> (String, String, Arc<Fake>) {
        let short = self.name.rsplit('.').next().unwrap_or(self.name);
        (
            format!("/{}/{method}", self.name),
            format!("{short}/{method}"),
            Arc::clone(&self.fake),
        )
    }

    fn route<W>(
        mut self,
        path: &str,
        serve: impl FnOnce(Request) -> W + Clone + Send + Sync + 'static,
    ) -> Self
    where
        W: Future<Output = Response> + Send + 'static,
    {
        self.router = self.router.route(path, post(serve));
        self
    }
}

/// What a method answers that this server does not have.
pub(super) async fn unimplemented(request: Request) -> Response {
    let path = request.uri().path();
    Status::unimplemented(format!("the fake has no {path}")).into_http()
}

fn codec<R, M>() -> Grpc<ProstCodec<R, M>>
where
    R: Message + Default + 'static,
    M: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE)
}

/// Lets a call take effect on a task of its own, unless the plan says otherwise, and answers within the deadline.
async fn answer<T: Send + 'static>(
    fake: Arc<Fake>,
    call: Call,
    method: String,
    streaming: bool,
    effect: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let how = fake.faults.arrive(&method, streaming);
    let broken = async {
        let lost = match how {
            Some(How::BeforeEffect(status)) => return Err(status),
            Some(How::Hang) => std::future::pending().await,
            Some(How::Cancel(call)) => {
                call();
                false
            }
            Some(How::AfterEffect) => true,
            None => false,
        };
        let done = fake.tracker.spawn(effect).await;
        let done = done.unwrap_or_else(|panic| Err(Status::internal(format!("the fake panicked: {panic}"))));
        if lost {
            Err(Status::unavailable("the reply was lost"))
        } else {
            done
        }
    };
    match call.timeout.filter(|_| !streaming) {
        Some(limit) => tokio::time::timeout(limit, broken)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded"))),
        None => broken.await,
    }
}
