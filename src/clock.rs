//! The host's clock, which may be set at any time, in either direction. It is for times that people and other programs
//! read; a duration within one boot is measured by [`since_boot`] if another process must understand it, and by tokio's
//! clock otherwise.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::failpoint;

/// The time.
pub(crate) fn now() -> SystemTime {
    let offset = failpoint::clock_offset();
    let by = Duration::from_secs(offset.unsigned_abs());
    let now = SystemTime::now();
    if offset < 0 { now - by } else { now + by }
}

/// How long ago that was; `None` if it is yet to come, which means that the clock was set back.
pub(crate) fn age(of: SystemTime) -> Option<Duration> {
    now().duration_since(of).ok()
}

/// The time since the boot, with that in which the host was suspended. The same in every process of a time namespace.
pub(crate) fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)).saturating_add(Duration::from_nanos(part(time.tv_nsec)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_yet_to_come_has_no_age() {
        let hour = Duration::from_secs(3600);
        assert_eq!(age(now() + hour), None);
        assert!(age(now() - hour).unwrap() >= hour);
    }

    #[test]
    fn the_time_since_the_boot_is_that_of_proc() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let difference = since_boot().as_secs_f64() - uptime;
        assert!((0.0..60.0).contains(&difference), "{difference}");
    }
}
