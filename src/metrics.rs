//! What an engine has done, counted and timed, for a monitoring system: in the text format that Prometheus reads
//! (OpenMetrics 1.0).
//!
//! Recording costs some hundred nanoseconds, without a call to anything outside this process.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One label and its value.
type Label = (&'static str, &'static str);
type Times<const LABELS: usize> = Family<[Label; LABELS], Histogram, Buckets>;
type Counts<const LABELS: usize> = Family<[Label; LABELS], Counter>;

/// The bounds of the times of calls and phases: from 0.1 ms to 37 s.
#[derive(Debug, Clone, Copy)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.0001, 2.5, 15))
    }
}

/// The counters of one engine.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Times<2>,
    phases: Times<2>,
    freezes: Histogram,
    thaws: Histogram,
    ends: Counts<1>,
    strays: Counts<2>,
    lost_events: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // From 2 µs to 48 ms.
        let turns = || Histogram::new(exponential_buckets(0.000_002, 2.5, 12));
        let mut this = Self {
            registry: Registry::with_prefix("fnctr"),
            calls: Family::new_with_constructor(Buckets),
            phases: Family::new_with_constructor(Buckets),
            freezes: turns(),
            thaws: turns(),
            ends: Family::default(),
            strays: Family::default(),
            lost_events: Counter::default(),
        };
        let registry = &mut this.registry;
        let mut times = |name: &str, help: &str, metric: Times<2>| {
            registry.register_with_unit(name, help, Unit::Seconds, metric);
        };
        times(
            "containerd_call",
            "Calls to containerd by name, and how containerd answered",
            this.calls.clone(),
        );
        times(
            "phase",
            "The phases of containers' lives and of images, and how they went",
            this.phases.clone(),
        );
        for (name, help, metric) in [
            ("freeze", "Freezes that the kernel has confirmed", &this.freezes),
            ("thaw", "Thaws that the kernel has confirmed", &this.thaws),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        registry.register(
            "container_ends",
            "Containers that have ended, by how: succeeded, failed, killed, out_of_memory, lost",
            this.ends.clone(),
        );
        registry.register(
            "strays",
            "What nothing needed any more when an engine looked after its start, by kind, and whether it could be removed",
            this.strays.clone(),
        );
        registry.register(
            "lost_events",
            "Events that could not be written to the log",
            this.lost_events.clone(),
        );
        this
    }

    /// A call to containerd: `answer` is `ok`, the name of a status, or why there was none.
    pub(crate) fn call(&self, name: &'static str, answer: &'static str, took: Duration) {
        let labels = [("call", name), ("answer", answer)];
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A phase, such as the create of a container.
    pub(crate) fn phase(&self, name: &'static str, outcome: &'static str, took: Duration) {
        let labels = [("phase", name), ("outcome", outcome)];
        self.phases.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A freeze, which was confirmed.
    pub(crate) fn froze(&self, took: Duration) {
        self.freezes.observe(took.as_secs_f64());
    }

    /// A thaw, likewise.
    pub(crate) fn thawed(&self, took: Duration) {
        self.thaws.observe(took.as_secs_f64());
    }

    /// The end of a container.
    pub(crate) fn end(&self, how: &'static str) {
        self.ends.get_or_create(&[("how", how)]).inc();
    }

    /// Something that nothing needed any more.
    pub(crate) fn stray(&self, object: &'static str, is_removed: bool) {
        let removed = if is_removed { "true" } else { "false" };
        let labels = [("object", object), ("removed", removed)];
        self.strays.get_or_create(&labels).inc();
    }

    /// An event that could not be written.
    pub(crate) fn lost_event(&self) {
        self.lost_events.inc();
    }

    /// All of it, as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok(), "{written:?}");
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_in_the_text_with_its_labels() {
        let metrics = Metrics::new();
        metrics.call("Tasks/Create", "ok", Duration::from_millis(20));
        metrics.call("Tasks/Create", "NotFound", Duration::from_millis(1));
        metrics.phase("create", "ok", Duration::from_millis(30));
        metrics.froze(Duration::from_micros(9));
        metrics.end("out_of_memory");
        metrics.end("out_of_memory");
        metrics.stray("shim", true);
        let text = metrics.text();
        for line in [
            "# TYPE fnctr_containerd_call_seconds histogram",
            "fnctr_containerd_call_seconds_count{call=\"Tasks/Create\",answer=\"ok\"} 1",
            "fnctr_containerd_call_seconds_count{call=\"Tasks/Create\",answer=\"NotFound\"} 1",
            "fnctr_phase_seconds_count{phase=\"create\",outcome=\"ok\"} 1",
            "fnctr_freeze_seconds_count 1",
            "fnctr_thaw_seconds_count 0",
            "fnctr_container_ends_total{how=\"out_of_memory\"} 2",
            "fnctr_strays_total{object=\"shim\",removed=\"true\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
