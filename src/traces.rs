//! The spans of a command, sent to an OpenTelemetry collector (OTLP over gRPC) if the environment names one.
//!
//! The standard variables decide where they go and what is said of their origin: `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_SERVICE_NAME` and their kin. A command does its work in the same way without its collector: the last spans are
//! waited for at its end, but not for long, and what did not arrive by then is lost.

use std::io;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, RetryPolicy, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// How long the end of a command may wait for the collector.
const FLUSHING: Duration = Duration::from_secs(1);
/// The service, unless the environment names another.
const SERVICE: &str = "fnctr";

/// Spans on their way to a collector.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    /// Has the connection. The command's own runtime ends before the last spans are sent.
    runtime: Runtime,
}

/// Why spans are not sent, although a collector is named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTraced {
    #[error("OTLP over {0:?} is not built in, only \"grpc\" is")]
    Protocol(String),
    #[error("the exporter cannot be made")]
    Exporter(#[from] ExporterBuildError),
    #[error("the exporter's runtime cannot be started")]
    Runtime(#[from] io::Error),
}

impl Traces {
    /// What the environment asks for; `None` if it names no collector, or turns tracing off.
    pub(crate) fn from_env() -> Result<Option<Self>, NotTraced> {
        if !is_wanted(set) {
            return Ok(None);
        }
        let protocol =
            set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(other) = protocol.filter(|protocol| protocol != "grpc") {
            return Err(NotTraced::Protocol(other));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fnctr-traces")
            .enable_all()
            .build()?;
        let exporter = {
            let _within = runtime.enter();
            // A command has no time to try again: its end waits for what is being sent.
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_retry_policy(RetryPolicy::disabled());
            exporter.build()?
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self { provider, runtime }))
    }

    /// The layer that collects the spans of this program, and of none of the crates that it uses: those of the
    /// connection to the collector would be about themselves.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target("fnctr", LevelFilter::DEBUG))
    }

    /// Sends the spans that are left.
    pub(crate) fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSHING) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
        // Dropped, it would wait for a name that is being resolved.
        self.runtime.shutdown_background();
    }
}

/// Whether spans are to be sent, by the variables that OpenTelemetry's specification defines.
fn is_wanted(set: impl Fn(&str) -> Option<String>) -> bool {
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let is_elsewhere = set("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
    let mut endpoints = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ]
    .into_iter();
    !is_off && !is_elsewhere && endpoints.any(|name| set(name).is_some())
}

/// A variable of the environment; an empty one counts as none.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What is said of the origin of the spans.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    let attributes = set("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_named = set("OTEL_SERVICE_NAME").is_some() || attributes.contains("service.name=");
    if is_named {
        resource.build()
    } else {
        resource.with_service_name(SERVICE).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sent_where_a_collector_is_named_and_nothing_turns_them_off() {
        let wanted = |variables: &[(&str, &str)]| {
            is_wanted(|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert!(!wanted(&[]));
        assert!(wanted(&[endpoint]));
        assert!(wanted(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4317")]));
        assert!(wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!wanted(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
    }
}
