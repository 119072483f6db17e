//! The counters and times of one engine, and their text.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::levels::{ImageLevels, PoolCounts};
use super::retry_reason::RetryReason;

/// One label and its value.
type Label = (&'static str, &'static str);
type Times<const LABELS: usize> = Family<[Label; LABELS], Histogram, Buckets>;
type Counts<const LABELS: usize> = Family<[Label; LABELS], Counter>;
/// Values that rise and fall. They are set right before the text is made; what is never set is absent from it.
type Levels<const LABELS: usize> = Family<[Label; LABELS], Gauge<u64, AtomicU64>>;

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
    retries: Counts<1>,
    pool_slots: Levels<1>,
    pool_target: Levels<0>,
    pool_takes: Counts<1>,
    pool_dead: Counts<0>,
    images: Levels<1>,
    image_bytes: Levels<1>,
    evictions: Counter,
    evicted_bytes: Counter,
    image_facts: Counts<2>,
    lost_log_messages: Counter,
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
            retries: Family::default(),
            pool_slots: Family::default(),
            pool_target: Family::default(),
            pool_takes: Family::default(),
            pool_dead: Family::default(),
            images: Family::default(),
            image_bytes: Family::default(),
            evictions: Counter::default(),
            evicted_bytes: Counter::default(),
            image_facts: Family::default(),
            lost_log_messages: Counter::default(),
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
            "Containers that have ended, by outcome: succeeded, failed, killed, out_of_memory, lost",
            this.ends.clone(),
        );
        registry.register(
            "strays",
            "Leftovers that an engine found after its start, by kind and by whether they could be removed",
            this.strays.clone(),
        );
        registry.register(
            "lost_events",
            "Events that could not be written to the log",
            this.lost_events.clone(),
        );
        registry.register(
            "lost_log_messages",
            "Messages of containers' logs that syslog did not take",
            this.lost_log_messages.clone(),
        );
        registry.register(
            "retries",
            "What was done once more after it had failed or broken off, by what it was",
            this.retries.clone(),
        );
        this.register_pool();
        this.register_images();
        this
    }

    fn register_pool(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "network_pool_slots",
            "Prepared network namespaces: ready, leased to containers, or being made, washed or checked (preparing)",
            self.pool_slots.clone(),
        );
        registry.register(
            "network_pool_target",
            "How many network namespaces the pool should have, those in use included if they come back",
            self.pool_target.clone(),
        );
        registry.register(
            "network_pool_takes",
            "Networks that containers wanted from the pool, by whether one was ready or had to be made",
            self.pool_takes.clone(),
        );
        registry.register(
            "network_pool_dead_slots",
            "Prepared network namespaces that were found dead, and replaced",
            self.pool_dead.clone(),
        );
    }

    fn register_images(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "images",
            "Images where their disk space is limited: in use by this process, exempt from removal, or idle",
            self.images.clone(),
        );
        registry.register_with_unit(
            "image_space",
            "The disk space that images occupy together, and its limit",
            Unit::Bytes,
            self.image_bytes.clone(),
        );
        registry.register(
            "image_evictions",
            "Idle images that were removed to make room",
            self.evictions.clone(),
        );
        registry.register_with_unit(
            "image_evicted",
            "The disk space that this has freed",
            Unit::Bytes,
            self.evicted_bytes.clone(),
        );
        registry.register(
            "image_facts",
            "Questions about images and their root file systems, and whether the answer was known",
            self.image_facts.clone(),
        );
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

    /// A confirmed freeze.
    pub(crate) fn froze(&self, took: Duration) {
        self.freezes.observe(took.as_secs_f64());
    }

    /// A confirmed thaw.
    pub(crate) fn thawed(&self, took: Duration) {
        self.thaws.observe(took.as_secs_f64());
    }

    /// The end of a container.
    pub(crate) fn end(&self, how: &'static str) {
        self.ends.get_or_create(&[("how", how)]).inc();
    }

    /// A leftover that an engine found after its start.
    pub(crate) fn stray(&self, object: &'static str, is_removed: bool) {
        let removed = if is_removed { "true" } else { "false" };
        let labels = [("object", object), ("removed", removed)];
        self.strays.get_or_create(&labels).inc();
    }

    /// An event that could not be written.
    pub(crate) fn lost_event(&self) {
        self.lost_events.inc();
    }

    /// Messages of a log that were dropped.
    pub(crate) fn lost_log_messages(&self, count: u64) {
        self.lost_log_messages.inc_by(count);
    }

    /// Something is done once more.
    pub(crate) fn retry(&self, reason: RetryReason) {
        self.retries.get_or_create(&[("reason", reason.name())]).inc();
    }

    /// The pool of prepared networks, as it is now.
    pub(crate) fn set_pool(&self, now: PoolCounts) {
        for (state, slots) in [
            ("ready", now.ready),
            ("leased", now.leased),
            ("preparing", now.preparing),
        ] {
            let level = self.pool_slots.get_or_create(&[("state", state)]);
            level.set(slots as u64);
        }
        self.pool_target.get_or_create(&[]).set(now.target as u64);
        for (found, takes) in [("ready", now.hits), ("none", now.misses)] {
            let counter = self.pool_takes.get_or_create(&[("found", found)]);
            counter.inner().store(takes, Ordering::Relaxed);
        }
        let dead = self.pool_dead.get_or_create(&[]);
        dead.inner().store(now.dead, Ordering::Relaxed);
    }

    /// The images whose disk space is limited, as they are now.
    pub(crate) fn set_images(&self, now: ImageLevels) {
        for (state, images) in [("in_use", now.in_use), ("exempt", now.exempt), ("idle", now.idle)] {
            let level = self.images.get_or_create(&[("state", state)]);
            level.set(images as u64);
        }
        for (what, bytes) in [("occupied", now.occupied), ("limit", now.limit)] {
            let level = self.image_bytes.get_or_create(&[("what", what)]);
            level.set(bytes);
        }
    }

    /// An idle image that was removed to make room.
    pub(crate) fn evicted(&self, freed: u64) {
        self.evictions.inc();
        self.evicted_bytes.inc_by(freed);
    }

    /// A question about an image, and whether its answer was known.
    pub(crate) fn image_fact(&self, fact: &'static str, was_known: bool) {
        let known = if was_known { "true" } else { "false" };
        let labels = [("fact", fact), ("known", known)];
        self.image_facts.get_or_create(&labels).inc();
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
impl Metrics {
    /// The value of a line of the text, named as there: `fnctr_x_total{reason="y"}`; 0 if there is none.
    #[track_caller]
    pub(crate) fn value(&self, line: &str) -> u64 {
        let text = self.text();
        let mut found = text
            .lines()
            .filter_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.next().map_or(0, |value| value.parse().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_set_is_absent_and_what_is_set_again_is_replaced() {
        let metrics = Metrics::new();
        let text = metrics.text();
        for absent in ["network_pool", "fnctr_images", "image_space", "retries"] {
            assert!(!text.contains(absent), "{absent}\n{text}");
        }
        let mut pool = PoolCounts {
            ready: 3,
            leased: 2,
            preparing: 1,
            target: 6,
            hits: 40,
            misses: 4,
            dead: 1,
        };
        metrics.set_pool(pool);
        (pool.ready, pool.hits) = (0, 43);
        metrics.set_pool(pool);
        metrics.set_images(ImageLevels {
            in_use: 1,
            exempt: 2,
            idle: 3,
            occupied: 5 << 30,
            limit: 6 << 30,
        });
        for (line, value) in [
            ("fnctr_network_pool_slots{state=\"ready\"}", 0),
            ("fnctr_network_pool_slots{state=\"leased\"}", 2),
            ("fnctr_network_pool_slots{state=\"preparing\"}", 1),
            ("fnctr_network_pool_target", 6),
            ("fnctr_network_pool_takes_total{found=\"ready\"}", 43),
            ("fnctr_network_pool_takes_total{found=\"none\"}", 4),
            ("fnctr_network_pool_dead_slots_total", 1),
            ("fnctr_images{state=\"in_use\"}", 1),
            ("fnctr_images{state=\"exempt\"}", 2),
            ("fnctr_images{state=\"idle\"}", 3),
            ("fnctr_image_space_bytes{what=\"occupied\"}", 5_u64 << 30),
            ("fnctr_image_space_bytes{what=\"limit\"}", 6 << 30),
        ] {
            let expected = format!("{line} {value}");
            let text = metrics.text();
            assert!(text.lines().any(|found| found == expected), "{expected}\n{text}");
        }
    }

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
        metrics.retry(RetryReason::EventStream);
        metrics.retry(RetryReason::EventStream);
        metrics.lost_log_messages(7);
        metrics.evicted(1 << 20);
        metrics.image_fact("program", true);
        metrics.image_fact("program", false);
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
            "fnctr_retries_total{reason=\"event_stream\"} 2",
            "fnctr_lost_log_messages_total 7",
            "fnctr_image_evictions_total 1",
            "fnctr_image_evicted_bytes_total 1048576",
            "fnctr_image_facts_total{fact=\"program\",known=\"true\"} 1",
            "fnctr_image_facts_total{fact=\"program\",known=\"false\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
