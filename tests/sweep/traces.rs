//! The spans of a command, as a collector of OpenTelemetry gets them; and a command whose collector is away.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::post;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::command::prepared;
use crate::rig::Rig;

/// What is read here of `opentelemetry/proto/collector/trace/v1/trace_service.proto` and what that imports.
#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {}

/// SPAN_KIND_CLIENT.
const CLIENT: i32 = 3;
/// STATUS_CODE_ERROR.
const FAILED: i32 = 2;

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.string.as_deref()
}

/// A collector that keeps what it gets.
struct Collector {
    endpoint: String,
    got: Arc<Mutex<Vec<ResourceSpans>>>,
    _server: AbortOnDropHandle<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&got);
        let export = move |request: Request| async move {
            let keep = service_fn(move |request: tonic::Request<ExportRequest>| {
                keep.lock().unwrap().extend(request.into_inner().resource_spans);
                std::future::ready(Ok::<_, tonic::Status>(tonic::Response::new(ExportResponse {})))
            });
            let mut grpc = Grpc::new(ProstCodec::default());
            grpc.unary(keep, request).await.map(axum::body::Body::new)
        };
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let router = Router::new().route(path, post(export));
        let server = TaskTracker::new();
        let serving = server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            endpoint,
            got,
            _server: AbortOnDropHandle::new(serving),
        }
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().unwrap();
        let scopes = got.iter().flat_map(|of| &of.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    fn services(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        let resources = got.iter().filter_map(|of| of.resource.as_ref());
        let names = resources.filter_map(|resource| attribute(&resource.attributes, "service.name"));
        names.map(str::to_owned).collect()
    }
}

/// Runs the command with its spans sent to `endpoint`.
async fn traced(rig: &Rig, root: &Path, endpoint: &str, args: &[&str]) -> Output {
    let mut command = prepared(rig, root, args);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command.output().await.expect("to run fnctr")
}

#[tokio::test]
async fn a_commands_phases_and_calls_are_the_spans_of_one_trace() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let (rig, collector) = (Rig::warm().await, Collector::start().await);
    let args = ["run", "--name", "c1", "fake", "true"];
    let ran = traced(&rig, rig.run.path(), &collector.endpoint, &args).await;
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");

    let spans = collector.spans();
    let named: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    let span = |name: &str| {
        let found = named.get(name);
        *found.unwrap_or_else(|| panic!("no span {name} among {:?}", named.keys()))
    };
    let whole = span("run");
    assert!(whole.parent_span_id.is_empty(), "{whole:?}");
    assert_eq!(attribute(&whole.attributes, "outcome"), Some("ok"));
    for phase in ["create", "start", "remove"] {
        let phase = span(phase);
        assert_eq!(attribute(&phase.attributes, "id"), Some("c1"), "{phase:?}");
        assert_eq!(attribute(&phase.attributes, "outcome"), Some("ok"), "{phase:?}");
        assert_eq!(phase.parent_span_id, whole.span_id, "{phase:?}");
    }
    for (call, phase) in [
        ("Tasks/Create", "create"),
        ("Tasks/Start", "start"),
        ("Containers/Delete", "remove"),
    ] {
        let call = span(call);
        assert_eq!(call.kind, CLIENT, "{call:?}");
        assert_eq!(attribute(&call.attributes, "object"), Some("c1"), "{call:?}");
        assert_eq!(attribute(&call.attributes, "answer"), Some("ok"), "{call:?}");
        assert_eq!(call.parent_span_id, span(phase).span_id, "{call:?}");
    }
    assert!(
        spans.iter().all(|span| span.trace_id == whole.trace_id),
        "{spans:?}"
    );
    assert!(
        collector.services().iter().all(|name| name == "fnctr"),
        "{:?}",
        collector.services()
    );
    rig.end().await;
}

#[tokio::test]
async fn what_fails_says_why_in_its_span() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let (rig, collector) = (Rig::warm().await, Collector::start().await);
    let args = ["run", "--name", "c1", "fake", "true"];
    let broken = crate::fake_containerd::How::BeforeEffect(tonic::Status::internal("a full disk"));
    rig.fake.faults().break_call("Snapshots/Prepare", 1, broken);
    let ran = traced(&rig, rig.run.path(), &collector.endpoint, &args).await;
    assert_eq!(ran.status.code(), Some(125), "{ran:?}");
    let spans = collector.spans();
    for name in ["run", "create", "Snapshots/Prepare"] {
        let found = spans.iter().find(|span| span.name == name);
        let status = found.and_then(|span| span.status.clone()).unwrap_or_default();
        assert_eq!(status.code, FAILED, "{name} of {spans:?}");
        assert!(status.message.contains("a full disk"), "{name}: {status:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_collector_that_is_away_or_does_not_answer_costs_a_second_at_most_and_no_word() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let rig = Rig::warm().await;
    // The kernel takes the connection, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (format!("http://{}", silent.local_addr().unwrap()), silent);
    let args = ["images", "--quiet"];
    let began = Instant::now();
    let expected = prepared(&rig, rig.run.path(), &args).output().await.unwrap();
    let usual = began.elapsed();
    assert!(expected.status.success(), "{expected:?}");
    for endpoint in ["http://127.0.0.1:1", silent.0.as_str()] {
        let began = Instant::now();
        let ran = traced(&rig, rig.run.path(), endpoint, &args).await;
        let longer = began.elapsed().saturating_sub(usual);
        assert_eq!(ran, expected, "{endpoint}");
        // Twice what the command allows itself: other tests run on this machine.
        assert!(longer < Duration::from_secs(2), "{endpoint}: {longer:?}");
    }
    // What cannot be done is told, and is none of the command's failures.
    let wrong = traced(&rig, rig.run.path(), "not a place", &args).await;
    assert!(wrong.status.success(), "{wrong:?}");
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(said.contains("spans are not sent"), "{said}");
    rig.end().await;
}
