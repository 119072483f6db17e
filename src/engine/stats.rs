//! The resource usage of a container: the counters of its cgroup and its network, and the rates between two readings.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::find::{self, ListedContainer};
use super::run::Run;
use super::traffic::{self, Traffic};
use super::{Deps, Engine, host, pidfd};
use crate::Context;
use crate::cgroup::{self, Cpu, Sample, ThawCount};

/// How much processor time, in nanoseconds, an idle container may use between two readings: an init that looks for
/// orphans each second uses some ten microseconds for it.
const SLIGHT: u64 = 250_000;

/// One reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// When it was read, on the clock that rates are computed from.
    pub(crate) at: Instant,
    /// When the reading was complete.
    pub(crate) read_by: Instant,
    /// The cgroup's counters.
    pub(crate) cgroup: Sample,
    /// The container's own network; `None` if it cannot be read, or is the host's, whose traffic is not the container's
    /// own.
    pub(crate) network: Option<Traffic>,
    /// How long the container was frozen in total, as counted by the kernel, otherwise by the process that made and
    /// froze it.
    pub(crate) frozen: Option<Duration>,
}

/// The rates between two readings. CPU time in hundredths of a percent of one core, pressure in hundredths of a percent
/// of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rates {
    /// All CPU time.
    pub(crate) cpu_total: Option<u64>,
    /// CPU time in user mode.
    pub(crate) cpu_user: Option<u64>,
    /// CPU time in the kernel.
    pub(crate) cpu_kernel: Option<u64>,
    /// Waits for CPU time.
    pub(crate) stalled_on_cpu: Stalled,
    /// Waits for memory.
    pub(crate) stalled_on_memory: Stalled,
    /// Waits for disks.
    pub(crate) stalled_on_io: Stalled,
}

/// The part of the time in which processes waited for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stalled {
    /// At least one process waited.
    pub(crate) some: Option<u64>,
    /// All processes that were not idle waited.
    pub(crate) full: Option<u64>,
}

impl Usage {
    /// This reading, as of `now`, for a container that is frozen and has not run since.
    pub(crate) fn still(self, now: Instant) -> Self {
        // Counted from the end of the reading: the frozen time was read during it, and must not be counted twice.
        let more = now.saturating_duration_since(self.read_by);
        Self {
            at: now,
            read_by: now,
            frozen: self.frozen.map(|frozen| frozen.saturating_add(more)),
            ..self
        }
    }

    /// This reading, as of `now`, for a container that has used next to no processor time since. `total` is all the
    /// processor time that it has used by now. `None` if it has used more, or if this reading has no processor time.
    fn unmoved(self, now: Instant, total: u64) -> Option<Self> {
        let before = self.cgroup.cpu?;
        let cpu = Some(Cpu { total, ..before });
        (total.checked_sub(before.total)? <= SLIGHT).then_some(Self {
            at: now,
            read_by: now,
            cgroup: Sample { cpu, ..self.cgroup },
            ..self
        })
    }

    /// The rates since an earlier reading.
    pub(crate) fn since(&self, before: &Self) -> Rates {
        let elapsed = self.at.saturating_duration_since(before.at).as_nanos();
        // From nanoseconds to hundredths of a percent, to the nearest.
        let rate = |was: u64, now: u64| {
            let part = u128::from(now.saturating_sub(was)).saturating_mul(10_000);
            let rounded = part.saturating_add(elapsed / 2).checked_div(elapsed);
            rounded.and_then(|rate| u64::try_from(rate).ok())
        };
        let stalled = |was: Option<cgroup::Stall>, now: Option<cgroup::Stall>| {
            // From microseconds. The two clocks differ slightly, but no process waits for more than all of the time.
            let share = |was: u64, now: u64| {
                let nanoseconds = now.saturating_sub(was).saturating_mul(1000);
                rate(0, nanoseconds).map(|share| share.min(10_000))
            };
            let (Some(was), Some(now)) = (was, now) else {
                return Stalled::default();
            };
            let full = was.full.zip(now.full);
            Stalled {
                some: share(was.some, now.some),
                full: full.and_then(|(was, now)| share(was, now)),
            }
        };
        let cpu = before.cgroup.cpu.zip(self.cgroup.cpu);
        let (was, now) = (before.cgroup.pressure, self.cgroup.pressure);
        Rates {
            cpu_total: cpu.and_then(|(was, now)| rate(was.total, now.total)),
            cpu_user: cpu.and_then(|(was, now)| rate(was.user, now.user)),
            cpu_kernel: cpu.and_then(|(was, now)| rate(was.kernel, now.kernel)),
            stalled_on_cpu: stalled(was.cpu, now.cpu),
            stalled_on_memory: stalled(was.memory, now.memory),
            stalled_on_io: stalled(was.io, now.io),
        }
    }
}

impl Run {
    /// Reads the counters now. Fails with [`Kind::NotFound`] for a container that has ended.
    ///
    /// Opens some twenty small files and keeps none open.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let fail = |kind, why: &'static str| Error::new(Step::Stats, self.id(), kind, why);
        let ended = || fail(Kind::NotFound, "its process has ended");
        let paths = self
            .paths()
            .ok_or_else(|| fail(Kind::Unsupported, "its cgroups could not be found"))?;
        let pid = self.pid().ok_or_else(ended)?;
        let sample = cgroup::sample(paths).at(Step::Stats, self.id())?;
        let mut network = match self.shares_hosts_network(pid) {
            Some(false) => traffic::of_pid(pid).map(|now| now.since(self.traffic_before())),
            Some(true) | None => None,
        };
        // If the process is still there now, all of the above was read from this process and from its whole cgroup.
        match self.alive().now() {
            Some(true) => {}
            Some(false) => return Err(ended()),
            None if self.exit_now().is_some() => return Err(ended()),
            // A kernel without pidfds: the pid alone does not prove whose network was read.
            None => network = None,
        }
        self.oom().note_sample(&sample);
        let counted = sample.frozen.map(Duration::from_micros);
        let frozen = counted.or_else(|| self.freezer().frozen_time());
        Ok(Usage {
            at: sample.at,
            read_by: Instant::now(),
            cgroup: sample,
            network,
            frozen,
        })
    }

    /// A reading as of now, from one file, if the container has used next to no processor time since `last`; `None` if
    /// it has used more, or if this is unknown. Changes from outside are not in the reading: memory that is taken from
    /// the container, packets that it does not read.
    pub(crate) fn usage_if_unmoved(&self, last: &Usage) -> Option<Usage> {
        let now = Instant::now();
        let total = cgroup::processor_time(self.paths()?)?;
        // The processor time is this container's only while its process is there.
        last.unmoved(now, total)
            .filter(|_| self.alive().now() == Some(true))
    }

    /// Whether the network is the host's. Looked up once, because a function cannot leave its network namespace.
    fn shares_hosts_network(&self, pid: u32) -> Option<bool> {
        if let Some(known) = self.on_host_network().get() {
            return Some(*known);
        }
        let own = host::network_of(pid)?;
        let shared = || self.deps().host.networks.contains(&own);
        Some(*self.on_host_network().get_or_init(shared))
    }
}

impl Engine {
    /// Every container of the engine with its usage; `None` for one that does not run or cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn usages(&self, ctx: &Context) -> Result<Vec<(ListedContainer, Option<Usage>)>> {
        let containers = find::list(&self.0, ctx).await?;
        let usages = containers.into_iter().map(|container| {
            let usage = read_usage(&self.0, &container);
            (container, usage)
        });
        Ok(usages.collect())
    }
}

/// Which of the containers are frozen by their own handle, with one system call for all of them. Between two equal
/// values no thaw of a container was noticed, so a reading taken after the first counts as valid at the second.
pub(crate) fn still_frozen(containers: &[&Run]) -> Vec<Option<ThawCount>> {
    let freezers: Vec<_> = containers.iter().map(|container| container.freezer()).collect();
    cgroup::still_frozen(&freezers)
}

/// Reads the counters of a container that was found in a list, whichever process made it. `None` if it no longer runs,
/// or cannot be read.
fn read_usage(deps: &Deps, container: &ListedContainer) -> Option<Usage> {
    let (pid, paths) = (container.pid?, container.paths.as_ref()?);
    let held = pidfd::open_once(pid)?;
    // The pid was read before the pidfd was opened, so check that the process is in the container's cgroup.
    let found = deps.host.cgroups.of_pid(pid).ok()?;
    found.named(container.cgroup_name.as_ref()?)?;
    let sample = cgroup::sample(paths).ok()?;
    let own = host::network_of(pid)?;
    let network = if deps.host.networks.contains(&own) {
        None
    } else {
        traffic::of_pid(pid)
    };
    (!pidfd::has_ended(&held)).then_some(Usage {
        at: sample.at,
        read_by: Instant::now(),
        cgroup: sample,
        network,
        frozen: sample.frozen.map(Duration::from_micros),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Pressure, Stall};

    fn usage(at: Instant, cpu: Option<u64>, memory: Option<(u64, Option<u64>)>) -> Usage {
        let sample = Sample {
            at,
            memory: None,
            oom_kills: None,
            cpu: cpu.map(|total| Cpu {
                total,
                user: total / 4,
                kernel: 0,
            }),
            throttling: None,
            pids: None,
            disk: None,
            pressure: Pressure {
                memory: memory.map(|(some, full)| Stall { some, full }),
                ..Pressure::default()
            },
            frozen: None,
        };
        Usage {
            at,
            read_by: at,
            cgroup: sample,
            network: None,
            frozen: Some(Duration::from_secs(5)),
        }
    }

    #[test]
    fn rates_are_relative_to_the_time_between_the_readings() {
        let began = Instant::now();
        let before = usage(began, Some(1_000_000), Some((0, Some(7))));
        // Two seconds with 1.5 of CPU time, and a quarter of a second of waits for memory.
        let later = began + Duration::from_secs(2);
        let now = usage(later, Some(1_501_000_000), Some((250_000, Some(7))));
        let rates = now.since(&before);
        assert_eq!((rates.cpu_total, rates.cpu_user), (Some(7500), Some(1875)));
        let stalled = Stalled {
            some: Some(1250),
            full: Some(0),
        };
        assert_eq!(rates.stalled_on_memory, stalled);
        assert_eq!(rates.stalled_on_io, Stalled::default());
        // A single reading, missing counters, and counters that went backwards give no rate.
        assert_eq!(now.since(&now).cpu_total, None);
        assert_eq!(now.since(&usage(began, None, None)).cpu_total, None);
        assert_eq!(
            before
                .since(&usage(began - Duration::from_secs(1), Some(9_000_000), None))
                .cpu_total,
            Some(0)
        );
        let absurd = usage(later, Some(0), Some((9_000_000, None)));
        assert_eq!(absurd.since(&before).stalled_on_memory.some, Some(10_000));
    }

    #[test]
    fn a_reading_stays_valid_while_next_to_nothing_runs_and_counts_what_ran() {
        let began = Instant::now();
        let later = began + Duration::from_secs(1);
        let last = usage(began, Some(1_000_000), None);
        let idle = last.unmoved(later, 1_000_000 + SLIGHT).unwrap();
        assert_eq!(
            (idle.at, idle.cgroup.cpu.unwrap().total),
            (later, 1_000_000 + SLIGHT)
        );
        assert_eq!((idle.frozen, idle.since(&last).cpu_total), (last.frozen, Some(3)));
        assert!(last.unmoved(later, 1_000_001 + SLIGHT).is_none());
        assert!(last.unmoved(later, 1).is_none(), "another container's");
        assert!(usage(began, None, None).unmoved(later, 0).is_none());
    }

    #[test]
    fn a_frozen_container_stays_frozen_and_uses_nothing() {
        let began = Instant::now();
        let last = usage(began, Some(1_000_000), Some((9, Some(9))));
        let still = last.still(began + Duration::from_secs(3));
        assert_eq!(still.frozen, Some(Duration::from_secs(8)));
        let rates = still.since(&last);
        assert_eq!(
            (rates.cpu_total, rates.stalled_on_memory.some),
            (Some(0), Some(0))
        );
    }
}
