//! Reads the files of one sample.

use std::path::Path;

use tokio::time::Instant;

use super::parse::{self, Cpu, Disk, Memory, Pressure, Sample, Throttling};
use crate::cgroup::error::Error;
use crate::cgroup::files::{keyed, read, read_number};
use crate::cgroup::layout::Version;
use crate::cgroup::oom::{kills, limit_v1, limit_v2};
use crate::cgroup::paths::Paths;

/// Reads all controllers once. A controller that the host lacks is `None` in the sample.
///
/// # Errors
/// [`Error::Gone`] if the container ended before or while it was read. A runtime removes one hierarchy after the other,
/// so if the container's process ends meanwhile, the sample may have `None` for the hierarchies that are already
/// removed. A caller that holds the container's process should therefore check *after* this call that it is still
/// running.
pub(crate) fn sample(paths: &Paths) -> Result<Sample, Error> {
    let at = Instant::now();
    let (cpu, throttling) = cpu(paths)?;
    let sample = Sample {
        at,
        memory: memory(paths)?,
        oom_kills: kills(paths)?,
        cpu,
        throttling,
        pids: pids(paths)?,
        disk: disk(paths)?,
        pressure: pressure(paths)?,
        frozen: frozen_usec(paths)?,
    };
    let partial = [
        sample.memory.is_none(),
        sample.cpu.is_none(),
        sample.pids.is_none(),
        sample.disk.is_none(),
        sample.frozen.is_none(),
    ];
    if partial.contains(&true) && !paths.exist() {
        return Err(Error::Gone { path: paths.name() });
    }
    Ok(sample)
}

/// Reads only the container's total processor time, in nanoseconds, as in [`sample`]. `None` if the host does not count
/// it, or the container no longer exists.
pub(crate) fn processor_time(paths: &Paths) -> Option<u64> {
    match paths.controller(&paths.cpuacct)? {
        (Version::V1, dir) => read_number(dir, "cpuacct.usage").ok()?,
        (Version::V2, dir) => {
            let stat = read(dir, "cpu.stat").ok()??;
            parse::cpu_v2(&stat).map(|cpu| cpu.total)
        }
    }
}

fn memory(paths: &Paths) -> Result<Option<Memory>, Error> {
    let Some((version, dir)) = paths.controller(&paths.memory) else {
        return Ok(None);
    };
    let (usage, inactive_key, limit, peak) = match version {
        Version::V1 => (
            read_number(dir, "memory.usage_in_bytes")?,
            "total_inactive_file",
            read_number(dir, "memory.limit_in_bytes")?.and_then(limit_v1),
            read_number(dir, "memory.max_usage_in_bytes")?,
        ),
        Version::V2 => (
            read_number(dir, "memory.current")?,
            "inactive_file",
            read(dir, "memory.max")?.as_deref().and_then(limit_v2),
            // Since kernel 5.19.
            read_number(dir, "memory.peak")?,
        ),
    };
    let (Some(charged), Some(stat)) = (usage, read(dir, "memory.stat")?) else {
        return Ok(None);
    };
    let usage = parse::in_use(charged, &stat, inactive_key);
    Ok(Some(Memory { usage, limit, peak }))
}

/// CPU time and throttling: from one file in the v2 tree, from two controllers on a v1 host.
fn cpu(paths: &Paths) -> Result<(Option<Cpu>, Option<Throttling>), Error> {
    let cpu_controller = paths.controller(&paths.cpu);
    let stat = match cpu_controller {
        Some((_, dir)) => read(dir, "cpu.stat")?,
        None => None,
    };
    let throttling = stat.as_deref().and_then(parse::throttling);
    let cpu = match paths.controller(&paths.cpuacct) {
        None => None,
        Some((Version::V1, dir)) => cpuacct(dir)?,
        // On a hybrid host without CPU accounting in v1, the time and the quota are in different hierarchies.
        Some((Version::V2, dir)) if cpu_controller != Some((Version::V2, dir)) => {
            read(dir, "cpu.stat")?.as_deref().and_then(parse::cpu_v2)
        }
        Some((Version::V2, _)) => stat.as_deref().and_then(parse::cpu_v2),
    };
    Ok((cpu, throttling))
}

fn cpuacct(dir: &Path) -> Result<Option<Cpu>, Error> {
    let total = read_number(dir, "cpuacct.usage")?;
    let user = read_number(dir, "cpuacct.usage_user")?;
    let kernel = read_number(dir, "cpuacct.usage_sys")?;
    match (total, user, kernel) {
        (Some(total), Some(user), Some(kernel)) => Ok(Some(Cpu { total, user, kernel })),
        // Kernels before 4.7 report the two parts only in clock ticks.
        (Some(total), ..) => Ok(read(dir, "cpuacct.stat")?.and_then(|stat| parse::cpu_v1(total, &stat))),
        (None, ..) => Ok(None),
    }
}

fn pids(paths: &Paths) -> Result<Option<u64>, Error> {
    // The file has the same name and format in both versions.
    let Some((_, dir)) = paths.controller(&paths.pids) else {
        return Ok(None);
    };
    read_number(dir, "pids.current")
}

fn disk(paths: &Paths) -> Result<Option<Disk>, Error> {
    match paths.controller(&paths.blkio) {
        None => Ok(None),
        Some((Version::V2, dir)) => Ok(read(dir, "io.stat")?.as_deref().map(parse::disk_v2)),
        Some((Version::V1, dir)) => Ok(blkio(dir)?.as_deref().map(parse::disk_v1)),
    }
}

fn pressure(paths: &Paths) -> Result<Pressure, Error> {
    let Some(dir) = paths.v2.as_deref() else {
        return Ok(Pressure::default());
    };
    let stall = |file| Ok::<_, Error>(read(dir, file)?.as_deref().and_then(parse::stall));
    Ok(Pressure {
        cpu: stall("cpu.pressure")?,
        memory: stall("memory.pressure")?,
        io: stall("io.pressure")?,
    })
}

fn frozen_usec(paths: &Paths) -> Result<Option<u64>, Error> {
    let Some(dir) = paths.v2.as_deref() else {
        return Ok(None);
    };
    let local = read(dir, "cgroup.stat.local")?;
    Ok(local.and_then(|local| keyed(&local, "frozen_usec")))
}

/// The recursive file includes cgroups that the container created; it exists since about kernel 3.17.
fn blkio(dir: &Path) -> Result<Option<String>, Error> {
    match read(dir, "blkio.throttle.io_service_bytes_recursive")? {
        Some(text) => Ok(Some(text)),
        None => read(dir, "blkio.throttle.io_service_bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::parse::Stall;
    use super::*;
    use crate::cgroup::Root;
    use crate::cgroup::testing::Limited;

    #[test]
    fn a_v2_container_is_sampled_from_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu io memory pids").unwrap();
        let paths = Root::at(dir.path()).unwrap().of_path("/fnctr/a").unwrap();
        assert!(sample(&paths).unwrap_err().is_gone());
        let cgroup = dir.path().join("fnctr/a");
        fs::create_dir_all(&cgroup).unwrap();
        for (file, text) in [
            ("memory.current", "1000\n"),
            ("memory.max", "4096\n"),
            ("memory.stat", "anon 100\ninactive_file 300\nactive_file 5\n"),
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 9\nnr_throttled 4\nthrottled_usec 77\n",
            ),
            ("memory.events", "low 0\nhigh 0\nmax 1\noom 1\noom_kill 2\n"),
            ("memory.peak", "2048\n"),
            ("cgroup.stat.local", "frozen_usec 5000\n"),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=8\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=6\n",
            ),
            ("pids.current", "3\n"),
            (
                "io.stat",
                "254:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n",
            ),
        ] {
            fs::write(cgroup.join(file), text).unwrap();
        }
        let seen = sample(&paths).unwrap();
        assert_eq!(processor_time(&paths), seen.cpu.map(|cpu| cpu.total));
        let memory = Memory {
            usage: 700,
            limit: Some(4096),
            peak: Some(2048),
        };
        assert_eq!(seen.memory, Some(memory));
        assert_eq!((seen.oom_kills, seen.frozen), (Some(2), Some(5000)));
        let throttling = Throttling {
            periods: 9,
            throttled: 4,
            time: 77,
        };
        assert_eq!(seen.throttling, Some(throttling));
        let memory = Stall {
            some: 8,
            full: Some(6),
        };
        let pressure = Pressure {
            memory: Some(memory),
            ..Pressure::default()
        };
        assert_eq!(seen.pressure, pressure);
        let cpu = Cpu {
            total: 30_000,
            user: 10_000,
            kernel: 20_000,
        };
        assert_eq!(seen.cpu, Some(cpu));
        assert_eq!(seen.pids, Some(3));
        assert_eq!(
            seen.disk,
            Some(Disk {
                read: 10,
                written: 20
            })
        );
    }

    #[test]
    fn a_controller_that_is_missing_is_none_and_not_zero() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("unified/fnctr/a")).unwrap();
        fs::create_dir_all(dir.path().join("pids/fnctr/a")).unwrap();
        fs::write(dir.path().join("pids/fnctr/a/pids.current"), "7\n").unwrap();
        let paths = Root::at(dir.path()).unwrap().of_path("/fnctr/a").unwrap();
        let seen = sample(&paths).unwrap();
        assert_eq!(processor_time(&paths), seen.cpu.map(|cpu| cpu.total));
        assert_eq!((seen.memory, seen.cpu, seen.disk), (None, None, None));
        assert_eq!((seen.oom_kills, seen.throttling, seen.frozen), (None, None, None));
        assert_eq!(seen.pressure, Pressure::default());
        assert_eq!(seen.pids, Some(7));
    }

    #[test]
    fn a_cgroup_that_is_removed_under_the_reader_is_gone_and_never_an_error_of_another_kind() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let Some(limited) = Limited::new("vanish", 64 << 20) else {
            return;
        };
        const ROUNDS: u32 = 300;
        // On a busy host the reader may not run at all during `ROUNDS` rounds.
        const MAX_ROUNDS: u32 = 100 * ROUNDS;
        let (over, met) = (AtomicBool::new(false), AtomicBool::new(false));
        let (mut read, mut gone) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..MAX_ROUNDS {
                    limited.remove();
                    limited.make().unwrap();
                    if round >= ROUNDS && met.load(Ordering::Acquire) {
                        break;
                    }
                }
                over.store(true, Ordering::Release);
            });
            while !over.load(Ordering::Acquire) {
                match sample(limited.paths()) {
                    Ok(_) => read += 1,
                    Err(error) => {
                        assert!(error.is_gone(), "{error:?}");
                        gone += 1;
                    }
                }
                met.store(read > 0 && gone > 0, Ordering::Release);
                let oom = crate::cgroup::oom_kills(limited.paths(), &crate::cgroup::Above::default());
                assert!(
                    oom.as_ref()
                        .is_ok_and(|seen| seen.as_ref().is_none_or(|seen| seen.kills == 0)),
                    "{oom:?}"
                );
            }
        });
        eprintln!("read {read} times, gone {gone} times");
        assert!(
            read > 0 && gone > 0,
            "the reader never saw both a present and a removed cgroup"
        );
    }

    #[test]
    fn this_kernels_throttling_agrees_with_an_independent_reader() {
        use cgroups_rs::fs::cpu::CpuController;

        let Some(limited) = Limited::new("throttled", 64 << 20) else {
            return;
        };
        let paths = limited.paths();
        let (version, dir) = paths.controller(&paths.cpu).unwrap();
        let theirs = CpuController::new(dir.to_owned(), "/".into(), version == Version::V2);
        if theirs
            .set_cfs_quota_and_period(Some(5_000), Some(50_000))
            .is_err()
        {
            eprintln!("*** SKIPPED, this host has no quota of CPU time for children of the root ***");
            return;
        }
        limited.run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
        let seen = sample(paths).unwrap().throttling.unwrap();
        let stat = theirs.cpu().stat;
        let theirs = parse::throttling(&stat).unwrap();
        assert!(
            seen.throttled > 0 && seen.time > 0 && seen.periods >= seen.throttled,
            "{seen:?}"
        );
        assert_eq!(
            (seen.throttled, seen.time),
            (theirs.throttled, theirs.time),
            "{stat}"
        );
    }

    #[test]
    fn this_kernels_numbers_agree_with_an_independent_reader() {
        const TICK: u64 = 10_000_000;
        use cgroups_rs::fs::{cpuacct::CpuAcctController, memory::MemController};
        let Some(limited) = Limited::new("stats", 64 << 20) else {
            return;
        };
        let paths = limited.paths();
        assert!(
            limited
                .run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
                .success()
        );
        let seen = sample(paths).unwrap();
        let (ours, cpu) = (seen.memory.unwrap(), seen.cpu.unwrap());
        let (version, dir) = paths.controller(&paths.memory).unwrap();
        let v2 = version == Version::V2;
        let theirs = MemController::new(dir.to_owned(), "/".into(), v2).memory_stat();
        assert_eq!(ours.limit, u64::try_from(theirs.limit_in_bytes).ok());
        assert_eq!(ours.peak, Some(theirs.max_usage_in_bytes));
        let stat = theirs.stat;
        let inactive = if v2 {
            stat.inactive_file
        } else {
            stat.total_inactive_file
        };
        // The kernel may release cached pages and unused charges between the two reads.
        let usage = theirs.usage_in_bytes.saturating_sub(inactive);
        assert!(ours.usage.abs_diff(usage) < 1 << 20, "{} and {usage}", ours.usage);
        assert!(cpu.total > 1_000_000, "{cpu:?}");
        let split = cpu.user + cpu.kernel;
        // The two parts are scaled from clock ticks, of which a few may be counted in either part.
        assert!(split.abs_diff(cpu.total) <= cpu.total / 4 + 2 * TICK, "{cpu:?}");
        if let Some(dir) = paths.cpuacct.clone() {
            let theirs = CpuAcctController::new(dir, "/".into()).cpuacct();
            let theirs = (theirs.usage, theirs.usage_user, theirs.usage_sys);
            assert_eq!((cpu.total, cpu.user, cpu.kernel), theirs);
        }
    }
}
