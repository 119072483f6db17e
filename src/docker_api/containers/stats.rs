//! `GET /containers/{id}/stats`: one sample a second, before, during and after a run, until the container is removed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::inspect;
use super::running::alive;
use super::view::Seen;
use crate::Context;
use crate::clock;
use crate::docker_api::answer::{Answer, line};
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::docker_api::time::{NEVER, stamp};
use crate::engine::{Served, Usage};

const PERIOD: Duration = Duration::from_secs(1);

/// The samples of a container.
pub(in crate::docker_api) async fn stats(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let query = &request.query;
    let mut samples = Samples::new(door, served, request.client.clone());
    if query.flag_or("stream", true) {
        let lines = stream::unfold(samples, |mut samples| async move {
            let sample = samples.next().await?;
            Some((sample, samples))
        });
        return Ok(Answer::stream(None, lines.map(Ok)));
    }
    let first = samples.sample();
    if alive(&samples.served).is_none() || query.flag("one-shot") {
        return Ok(Answer::ok(&first));
    }
    // The rates that clients show need two.
    let _ = request.client.run(tokio::time::sleep(PERIOD)).await;
    Ok(Answer::ok(&samples.sample()))
}

/// Takes samples of a container.
struct Samples {
    door: Arc<Door>,
    served: Arc<Served>,
    client: Context,
    before: Option<Taken>,
    next_at: Instant,
}

/// A sample, as the next one repeats it.
struct Taken {
    cpu: Value,
    at: String,
}

impl Samples {
    fn new(door: &Arc<Door>, served: Arc<Served>, client: Context) -> Self {
        Self {
            door: Arc::clone(door),
            served,
            client,
            before: None,
            next_at: Instant::now(),
        }
    }

    /// The next sample; `None` if the container is removed, or the client is gone.
    async fn next(&mut self) -> Option<Bytes> {
        self.client
            .run(tokio::time::sleep_until(self.next_at))
            .await
            .ok()?;
        self.next_at += PERIOD;
        let known = self.door.server.find(self.served.id().as_str()).ok()?;
        if !Arc::ptr_eq(&known, &self.served) {
            return None;
        }
        Some(line(&self.sample()))
    }

    /// A sample now; an empty one if the container does not run.
    fn sample(&mut self) -> Value {
        let seen = inspect::seen(&self.served);
        let usage = alive(&self.served).and_then(|run| run.usage().ok());
        let Some(usage) = usage else {
            self.before = None;
            return empty(&seen);
        };
        let at = stamp(Some(clock::now()));
        let cpu = cpu(&usage);
        let before = self.before.replace(Taken {
            cpu: cpu.clone(),
            at: at.clone(),
        });
        let (before_cpu, before_at) = match before {
            Some(Taken { cpu, at }) => (cpu, at),
            None => (no_cpu(), NEVER.to_owned()),
        };
        let mut pids = json!({ "current": usage.cgroup.pids.unwrap_or_default() });
        if let Some(limit) = seen.plan.as_ref().and_then(|plan| plan.config.resources.pids) {
            set(&mut pids, "limit", json!(limit));
        }
        let mut sample = json!({
            "name": seen.name(), "id": self.served.id().as_str(), "read": at, "preread": before_at,
            "pids_stats": pids,
            "blkio_stats": blkio(&usage), "num_procs": 0, "storage_stats": {},
            "cpu_stats": cpu, "precpu_stats": before_cpu, "memory_stats": memory(&usage),
        });
        if let Some(traffic) = usage.network.filter(|_| inspect::is_attached(&seen)) {
            let interface = json!({
                "rx_bytes": traffic.rx, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0,
                "tx_bytes": traffic.tx, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0,
            });
            set(&mut sample, "networks", json!({ "eth0": interface }));
        }
        sample
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn empty(seen: &Seen) -> Value {
    json!({
        "name": seen.name(), "id": seen.container.id.as_str(), "read": NEVER, "preread": NEVER, "pids_stats": {},
        "blkio_stats": no_blkio(), "num_procs": 0, "storage_stats": {}, "cpu_stats": no_cpu(), "precpu_stats": no_cpu(),
        "memory_stats": {},
    })
}

fn no_cpu() -> Value {
    json!({
        "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
        "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
    })
}

/// Processor time. Clients take the length of `percpu_usage` for the number of CPUs (Fn), and full cgroup v2 has no
/// such numbers, so the time is divided evenly.
fn cpu(usage: &Usage) -> Value {
    let online = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = usage.cgroup.cpu;
    let total = cpu.map(|cpu| cpu.total).unwrap_or_default();
    let count = u64::try_from(online).unwrap_or(1);
    let mut each = vec![total / count; online];
    if let Some(first) = each.first_mut() {
        *first += total % count;
    }
    let throttling = usage.cgroup.throttling;
    json!({
        "cpu_usage": {
            "total_usage": total, "percpu_usage": each,
            "usage_in_kernelmode": cpu.map(|cpu| cpu.kernel).unwrap_or_default(),
            "usage_in_usermode": cpu.map(|cpu| cpu.user).unwrap_or_default(),
        },
        "system_cpu_usage": system_cpu(), "online_cpus": online,
        "throttling_data": {
            "periods": throttling.map(|of| of.periods).unwrap_or_default(),
            "throttled_periods": throttling.map(|of| of.throttled).unwrap_or_default(),
            "throttled_time": throttling.map(|of| of.time.saturating_mul(1000)).unwrap_or_default(),
        },
    })
}

/// The processor time of the whole host, idle time included, in nanoseconds: the first seven numbers of the first line
/// of `/proc/stat` (proc(5)), which are in hundredths of a second.
fn system_cpu() -> u64 {
    const TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let numbers = line
        .split_whitespace()
        .skip(1)
        .take(7)
        .filter_map(|number| number.parse::<u64>().ok());
    numbers.sum::<u64>().saturating_mul(TICK)
}

/// The page cache that would be dropped first is not counted, so there is none for clients to subtract.
fn memory(usage: &Usage) -> Value {
    let Some(memory) = usage.cgroup.memory else {
        return json!({});
    };
    let host = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    json!({
        "usage": memory.usage, "max_usage": memory.peak.unwrap_or_default(), "limit": memory.limit.unwrap_or(host),
        "stats": { "inactive_file": 0, "total_inactive_file": 0 },
    })
}

fn blkio(usage: &Usage) -> Value {
    let mut blkio = no_blkio();
    if let Some(disk) = usage.cgroup.disk {
        let entry = |op: &str, value: u64| json!({ "major": 0, "minor": 0, "op": op, "value": value });
        let both = json!([entry("read", disk.read), entry("write", disk.written)]);
        set(&mut blkio, "io_service_bytes_recursive", both);
    }
    blkio
}

fn no_blkio() -> Value {
    json!({
        "io_service_bytes_recursive": null, "io_serviced_recursive": null, "io_queue_recursive": null,
        "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
        "io_time_recursive": null, "sectors_recursive": null,
    })
}
