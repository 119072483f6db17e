//! What a container has used, as the engine measures it once a second.

use std::pin::Pin;

use bollard::models::{
    ContainerBlkioStats, ContainerCpuStats, ContainerMemoryStats, ContainerNetworkStats,
    ContainerStatsResponse,
};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::{Stream, StreamExt as _};

use super::Daemon;
use super::failed::Failed;
use crate::driver::Timestamp;

/// The samples of a container, until it is removed.
pub(in crate::docker_driver) type Samples = Pin<Box<dyn Stream<Item = Result<Sample, Failed>> + Send>>;

/// One sample. What the engine does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::docker_driver) struct Sample {
    /// When it was taken. `None` in the empty sample of a container that does not run.
    pub(in crate::docker_driver) at: Option<Timestamp>,
    pub(in crate::docker_driver) cpu: Option<CpuTime>,
    pub(in crate::docker_driver) throttling: Option<Throttling>,
    pub(in crate::docker_driver) memory: Option<Memory>,
    /// Processes and threads.
    pub(in crate::docker_driver) pids: Option<u64>,
    /// Of all interfaces together; absent without a network of its own.
    pub(in crate::docker_driver) traffic: Option<Traffic>,
    pub(in crate::docker_driver) disk: Option<Disk>,
}

/// Processor time in nanoseconds since the container's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::docker_driver) struct CpuTime {
    pub(in crate::docker_driver) total: u64,
    pub(in crate::docker_driver) user: u64,
    pub(in crate::docker_driver) kernel: u64,
}

/// What the CPU quota has done since the container's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::docker_driver) struct Throttling {
    pub(in crate::docker_driver) periods: u64,
    pub(in crate::docker_driver) throttled: u64,
    /// In nanoseconds.
    pub(in crate::docker_driver) time: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::docker_driver) struct Memory {
    /// Page cache included.
    pub(in crate::docker_driver) usage: u64,
    /// The page cache that the kernel would drop first.
    pub(in crate::docker_driver) inactive_file: u64,
    /// The most that was in use at once; on cgroup v1 only.
    pub(in crate::docker_driver) peak: Option<u64>,
}

/// Bytes since the container's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::docker_driver) struct Traffic {
    pub(in crate::docker_driver) received: u64,
    pub(in crate::docker_driver) sent: u64,
}

/// Bytes since the container's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::docker_driver) struct Disk {
    pub(in crate::docker_driver) read: u64,
    pub(in crate::docker_driver) written: u64,
}

impl Daemon {
    /// Samples of a container, one a second, from now on.
    pub(in crate::docker_driver) fn samples(&self, id: &str) -> Samples {
        let options = StatsOptionsBuilder::default().stream(true).build();
        let target = id.to_owned();
        let samples = self.calls.stats(id, Some(options)).map(move |sample| {
            sample
                .map(read)
                .map_err(|error| Failed::of("measure container", &target, error))
        });
        Box::pin(samples)
    }
}

fn read(stats: ContainerStatsResponse) -> Sample {
    let at = stats.read.and_then(|at| at.parse::<Timestamp>().ok());
    let cpu = stats.cpu_stats.as_ref();
    Sample {
        // Go's zero time is year 1.
        at: at.filter(|at| at.unix_ms() > 0),
        cpu: cpu.and_then(cpu_time),
        throttling: cpu.and_then(throttling),
        memory: stats.memory_stats.as_ref().and_then(memory),
        pids: stats.pids_stats.and_then(|pids| pids.current),
        traffic: stats.networks.map(|networks| traffic(networks.values())),
        disk: stats.blkio_stats.as_ref().and_then(disk),
    }
}

fn cpu_time(cpu: &ContainerCpuStats) -> Option<CpuTime> {
    let usage = cpu.cpu_usage.as_ref()?;
    Some(CpuTime {
        total: usage.total_usage?,
        user: usage.usage_in_usermode.unwrap_or_default(),
        kernel: usage.usage_in_kernelmode.unwrap_or_default(),
    })
}

fn throttling(cpu: &ContainerCpuStats) -> Option<Throttling> {
    let data = cpu.throttling_data.as_ref()?;
    Some(Throttling {
        periods: data.periods?,
        throttled: data.throttled_periods?,
        time: data.throttled_time?,
    })
}

fn memory(memory: &ContainerMemoryStats) -> Option<Memory> {
    let stats = memory.stats.as_ref();
    // The name of cgroup v1 counts the container's whole tree, as the name of v2 does.
    let stat = |name: &str| stats.and_then(|stats| stats.get(name)).copied();
    Some(Memory {
        usage: memory.usage?,
        inactive_file: stat("total_inactive_file")
            .or_else(|| stat("inactive_file"))
            .unwrap_or_default(),
        peak: memory.max_usage.filter(|peak| *peak != 0),
    })
}

fn traffic<'a>(networks: impl Iterator<Item = &'a ContainerNetworkStats>) -> Traffic {
    networks.fold(Traffic::default(), |sum, one| Traffic {
        received: sum.received.saturating_add(one.rx_bytes.unwrap_or_default()),
        sent: sum.sent.saturating_add(one.tx_bytes.unwrap_or_default()),
    })
}

/// `None` if the engine counts no bytes, as for a container that has read and written none.
fn disk(blkio: &ContainerBlkioStats) -> Option<Disk> {
    let entries = blkio.io_service_bytes_recursive.as_ref()?;
    let sum = |op: &str| {
        entries
            .iter()
            .filter(|entry| {
                entry
                    .op
                    .as_ref()
                    .is_some_and(|named| named.eq_ignore_ascii_case(op))
            })
            .fold(0_u64, |sum, entry| {
                sum.saturating_add(entry.value.unwrap_or_default())
            })
    };
    Some(Disk {
        read: sum("read"),
        written: sum("write"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(json: serde_json::Value) -> Sample {
        read(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_sample_of_either_cgroup_version_is_read() {
        let v1 = serde_json::json!({
            "read": "2026-11-23T19:00:23.27Z", "preread": "0001-01-01T00:00:00Z",
            "pids_stats": { "current": 2, "limit": 50 },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "major": 8, "minor": 0, "op": "Read", "value": 5 },
                { "major": 8, "minor": 1, "op": "Read", "value": 6 },
                { "major": 8, "minor": 0, "op": "Write", "value": 7 },
                { "major": 8, "minor": 0, "op": "Total", "value": 18 },
            ] },
            "cpu_stats": {
                "cpu_usage": {
                    "total_usage": 30, "percpu_usage": [10, 20], "usage_in_kernelmode": 10, "usage_in_usermode": 20,
                },
                "system_cpu_usage": 5_702_730, "online_cpus": 2,
                "throttling_data": { "periods": 4, "throttled_periods": 1, "throttled_time": 9 },
            },
            "memory_stats": {
                "usage": 100, "max_usage": 300, "limit": 500,
                "stats": { "inactive_file": 1, "total_inactive_file": 40 },
            },
            "networks": { "eth0": { "rx_bytes": 426, "tx_bytes": 1 }, "eth1": { "rx_bytes": 4, "tx_bytes": 2 } },
        });
        let read = sample(v1);
        assert_eq!(read.at.unwrap().to_string(), "2026-11-23T19:00:23.270Z");
        let cpu = CpuTime {
            total: 30,
            user: 20,
            kernel: 10,
        };
        assert_eq!((read.cpu, read.pids), (Some(cpu), Some(2)));
        let memory = Memory {
            usage: 100,
            inactive_file: 40,
            peak: Some(300),
        };
        assert_eq!(read.memory, Some(memory));
        assert_eq!(
            read.traffic,
            Some(Traffic {
                received: 430,
                sent: 3
            })
        );
        assert_eq!(read.disk, Some(Disk { read: 11, written: 7 }));
        assert_eq!(
            read.throttling,
            Some(Throttling {
                periods: 4,
                throttled: 1,
                time: 9
            })
        );
        let v2 = serde_json::json!({
            "read": "2026-11-23T19:00:23.271828Z",
            "memory_stats": { "usage": 100, "stats": { "inactive_file": 7 } },
            "blkio_stats": { "io_service_bytes_recursive": null },
        });
        let read = sample(v2);
        let memory = Memory {
            usage: 100,
            inactive_file: 7,
            peak: None,
        };
        assert_eq!((read.memory, read.disk, read.traffic), (Some(memory), None, None));
    }

    #[test]
    fn the_sample_of_a_container_that_does_not_run_is_empty() {
        let empty = serde_json::json!({
            "read": "0001-01-01T00:00:00Z", "preread": "0001-01-01T00:00:00Z", "pids_stats": {}, "memory_stats": {},
            "cpu_stats": { "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 } },
        });
        let read = sample(empty);
        assert_eq!((read.at, read.memory, read.pids), (None, None, None));
    }
}
