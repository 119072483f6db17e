//! What a container uses, as its task is told once a second, held against what it is known to do.
//!
//! A slow machine must not fail these: they wait for what must come to pass, and compare measurements with each other.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fnctr::driver::{Cookie, Stat, Status, Task, WaitResult, metric};
use tokio::time::Instant;

use crate::world::{Stage, ctx, idle_ticks, started};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How this host arranges its cgroups. Each test says it, since what can be measured follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Unified,
    Hybrid,
    V1,
}

impl Layout {
    pub(crate) fn of_host(test: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let layout = if top.join("cgroup.controllers").exists() {
            Self::Unified
        } else if top.join("unified/cgroup.controllers").exists() {
            Self::Hybrid
        } else {
            Self::V1
        };
        say(test, &format!("on the layout {layout:?}"));
        layout
    }
}

/// Past the capture of the test's own output.
pub(crate) fn say(test: &str, what: &str) {
    crate::real::tell(&format!("--- {test}: {what}"));
}

/// A container that runs, and what is told of it.
pub(crate) struct Measured {
    pub(crate) cookie: Box<dyn Cookie>,
    pub(crate) running: Box<dyn WaitResult>,
    told: Arc<Mutex<Vec<Stat>>>,
}

impl Measured {
    /// Runs `script`.
    pub(crate) async fn start(stage: &Stage, task: Task, script: &str) -> Self {
        let told: Arc<Mutex<Vec<Stat>>> = Arc::default();
        let sink = Arc::clone(&told);
        let task = Task {
            stats: Some(Arc::new(move |stat| sink.lock().expect("a lock").push(stat))),
            ..task
        };
        let (cookie, running) = started(&stage.driver, task, script).await;
        Self {
            cookie,
            running,
            told,
        }
    }

    pub(crate) fn told(&self) -> Vec<Stat> {
        self.told.lock().expect("a lock").clone()
    }

    /// Waits until a report fulfils this, and returns it.
    #[track_caller]
    pub(crate) fn until(
        &self,
        what: &'static str,
        fits: impl Fn(&Stat) -> bool,
    ) -> impl Future<Output = Stat> {
        let caller = std::panic::Location::caller();
        async move {
            let since = Instant::now();
            loop {
                let told = self.told();
                if let Some(stat) = told.iter().find(|stat| fits(stat)) {
                    return stat.clone();
                }
                assert!(
                    since.elapsed() < PATIENCE,
                    "{caller}: never {what}; the last of {}: {:?}",
                    told.len(),
                    told.last()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// The next report from now on.
    pub(crate) async fn next(&self) -> Stat {
        let had = self.told().len();
        let since = Instant::now();
        loop {
            if let Some(stat) = self.told().get(had) {
                return stat.clone();
            }
            assert!(since.elapsed() < PATIENCE, "no report comes any more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn close(self) {
        self.cookie.close(&ctx()).await.expect("to close");
    }
}

pub(crate) fn get(stat: &Stat, name: &str) -> Option<u64> {
    stat.metrics.get(name).copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_loop_takes_all_it_gets_and_a_quota_stops_it() {
    const TEST: &str = "a_busy_loop_takes_all_it_gets";
    Layout::of_host(TEST);
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let busy = "while :; do :; done";
    let free = Measured::start(&stage, stage.task(""), busy).await;
    let since = Instant::now();
    // It always wants to run: what it does not get of a core, it waits for, as the kernel's pressure shows; where that is
    // not told, no core is left idle then. In most of the seconds, because a report may be late, and count for two. Pressure
    // is a mean over the cores, each weighted by the time that the group was not idle there (kernel/sched/psi.c), so of a
    // process that moves from core to core it shows less than the whole wait, but never less than the wait by their number.
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    free.next().await;
    let mut seconds = Vec::new();
    while seconds.len() < 7 {
        let (idle, began) = (idle_ticks(), Instant::now());
        let stat = free.next().await;
        let window = u64::try_from(began.elapsed().as_millis()).expect("a short time");
        let spare = (idle_ticks() - idle) * 1000 / window.max(1);
        let (got, waits) = (get(&stat, metric::CPU_TOTAL), get(&stat, metric::PSI_CPU_SOME));
        let got = got.expect("time on the CPU");
        let is_all = waits.is_some_and(|waits| got + waits <= 120 && got + waits * cores >= 80);
        let holds = is_all || (waits.is_none() && got > 0 && got <= 120 && spare < 20);
        seconds.push((holds, spare, stat));
        assert!(since.elapsed() < PATIENCE, "reports come too slowly: {seconds:?}");
    }
    let held = seconds.iter().filter(|(holds, ..)| *holds).count();
    assert!(held >= 4, "a core is not all its own, or waited for: {seconds:?}");
    let (.., stat) = seconds
        .into_iter()
        .max_by_key(|(.., stat)| get(stat, metric::CPU_TOTAL))
        .expect("seven");
    say(TEST, &format!("without a quota: {:?}", stat.metrics));
    assert!(get(&stat, metric::CPU_TOTAL) > Some(0));
    if get(&stat, metric::PSI_CPU_SOME).is_none() {
        say(
            TEST,
            "no pressure is told here: this kernel has none, or no v2 tree",
        );
    }
    assert_eq!(get(&stat, metric::CPU_THROTTLED), Some(0));
    free.close().await;

    let task = Task {
        cpus: 100,
        ..stage.task("")
    };
    let held = Measured::start(&stage, task, busy).await;
    let stat = held
        .until("throttling", |stat| get(stat, metric::CPU_THROTTLED) > Some(5))
        .await;
    say(TEST, &format!("with a tenth of a core: {:?}", stat.metrics));
    let (periods, throttled) = (
        get(&stat, metric::CPU_PERIODS).expect("periods"),
        get(&stat, metric::CPU_THROTTLED).expect("throttled periods"),
    );
    assert!(periods >= throttled, "{stat:?}");
    // Each of them ends a long wait for the next one.
    assert!(
        get(&stat, metric::CPU_THROTTLED_TIME) > Some(throttled * 1000),
        "{stat:?}"
    );
    let later = held.next().await;
    // A tenth, and what of a period of 100 ms falls on either side of a second.
    assert!(get(&later, metric::CPU_TOTAL) < Some(40), "{later:?}");
    held.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_a_peak_processes_are_counted_and_nothing_is_said_after_the_end() {
    const TEST: &str = "memory_has_a_peak";
    Layout::of_host(TEST);
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let task = Task {
        memory: 128 << 20,
        ..stage.task("")
    };
    // tail keeps the last line, which is all of it; then that is given back. The init, the shell and three more.
    let script = "head -c 20m /dev/zero | tail >/dev/null; sleep 600 & sleep 600 & sleep 600 & wait";
    let measured = Measured::start(&stage, task, script).await;
    let stat = measured
        .until("five processes", |stat| get(stat, metric::PIDS) == Some(5))
        .await;
    assert_eq!(get(&stat, metric::MEM_LIMIT), Some(128 << 20));
    match get(&stat, metric::MEM_PEAK) {
        Some(peak) => assert!(
            peak >= 20 << 20 && Some(peak) > get(&stat, metric::MEM_USAGE),
            "{stat:?}"
        ),
        None => say(
            TEST,
            "SKIPPED the peak: this kernel tells none on cgroup v2 (before 5.19)",
        ),
    }
    assert_eq!(get(&stat, metric::OOM_KILLS), Some(0));
    assert_eq!(get(&stat, metric::FROZEN_TIME), Some(0));
    // A network of its own with nothing in it.
    assert_eq!(
        (get(&stat, metric::NET_RX), get(&stat, metric::NET_TX)),
        (Some(0), Some(0))
    );
    say(TEST, &format!("{:?}", stat.metrics));

    let Measured {
        cookie,
        running,
        told,
    } = measured;
    cookie.close(&ctx()).await.expect("to close");
    assert_eq!(running.wait(&ctx()).await.status(), Status::Killed);
    // What was being handed over at that moment is over at once.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let at_the_end = told.lock().expect("a lock").len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(told.lock().expect("a lock").len(), at_the_end);
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_traffic_is_not_the_containers() {
    const TEST: &str = "the_hosts_traffic";
    let Some(stage) = Stage::with(TEST, |config| config.docker_networks = "host".into()).await else {
        return;
    };
    let task = Task {
        disable_net: false,
        ..stage.task("")
    };
    let measured = Measured::start(&stage, task, "sleep 600").await;
    let stat = measured.next().await;
    assert!(get(&stat, metric::MEM_USAGE).is_some(), "{stat:?}");
    assert_eq!(
        (get(&stat, metric::NET_RX), get(&stat, metric::NET_TX)),
        (None, None)
    );
    measured.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_containers_time_is_counted_and_its_reports_go_on() {
    const TEST: &str = "a_frozen_containers_time";
    Layout::of_host(TEST);
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let measured = Measured::start(&stage, stage.task(""), "while :; do :; done").await;
    measured.next().await;
    let frozen_at = Instant::now();
    measured.cookie.freeze(&ctx()).await.expect("to freeze");
    // The first report after a freeze may tell of a time that was in part before it.
    measured.next().await;
    let (mut last, mut seconds) = (measured.next().await, 0);
    while seconds < 6 {
        let next = measured.next().await;
        assert!(
            get(&next, metric::FROZEN_TIME) > get(&last, metric::FROZEN_TIME),
            "{next:?}"
        );
        assert_eq!(get(&next, metric::CPU_TOTAL), Some(0), "{next:?}");
        let passed = next.timestamp.unix_ms() - last.timestamp.unix_ms();
        assert!(passed >= 400, "reports {passed} ms apart");
        (last, seconds) = (next, seconds + 1);
    }
    let told = Duration::from_micros(get(&last, metric::FROZEN_TIME).expect("a frozen time"));
    let whole = frozen_at.elapsed();
    assert!(told <= whole && told >= whole / 2, "{told:?} of {whole:?}");
    measured.cookie.unfreeze(&ctx()).await.expect("to thaw");
    let whole = frozen_at.elapsed();
    let stat = measured
        .until("a running loop again", |stat| {
            stat.timestamp > last.timestamp && get(stat, metric::CPU_TOTAL) > Some(0)
        })
        .await;
    let (one, other) = (measured.next().await, measured.next().await);
    assert_eq!(get(&one, metric::FROZEN_TIME), get(&other, metric::FROZEN_TIME));
    assert!(get(&stat, metric::FROZEN_TIME) >= get(&last, metric::FROZEN_TIME));
    let total = Duration::from_micros(get(&other, metric::FROZEN_TIME).expect("a frozen time"));
    assert!(total <= whole && total >= told, "{total:?} of {whole:?}");
    say(TEST, &format!("frozen for {whole:?}, told of {total:?}"));
    measured.close().await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_container_costs_one_descriptor_and_two_more_once_frozen_and_one_task_with_its_statistics() {
    const TEST: &str = "an_idle_container_costs";
    let layout = Layout::of_host(TEST);
    let Some(stage) = Stage::set(TEST).await else {
        return;
    };
    let many: usize = std::env::var("FNCTR_TEST_IDLE").map_or(8, |many| many.parse().expect("a number"));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // The ways of the first container are paid for, and what it set going is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (tasks(), held(&stage));
    assert_eq!(before.1, Held::default());
    let mut idle = Vec::new();
    for _ in 0..many {
        idle.push(Measured::start(&stage, stage.task(""), "sleep 600").await);
    }
    // Until then the reply to Tasks/Wait is waited for too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for measured in &idle {
        measured.next().await;
    }
    let (running, more) = (held(&stage), tasks() - before.0);
    say(
        TEST,
        &format!("{many} idle containers hold {running:?} and {more} tasks"),
    );
    let pidfds = Held {
        processes: many,
        ..Held::default()
    };
    assert_eq!(running, pidfds);
    // It waits for the end. A report being handed over may be one more for that moment.
    assert!(more <= many + many / 4, "{more} tasks");
    for measured in &idle {
        measured.cookie.freeze(&ctx()).await.expect("to freeze");
    }
    for measured in &idle {
        measured.next().await;
    }
    let frozen = held(&stage);
    say(TEST, &format!("{many} frozen containers hold {frozen:?}"));
    let freezers = if layout == Layout::V1 { many } else { 2 * many };
    let with_freezers = Held {
        cgroups: freezers,
        ..pidfds
    };
    assert_eq!(frozen, with_freezers);
    for measured in idle {
        measured.close().await;
    }
    assert_eq!(held(&stage), Held::default());
    stage.strike().await;
}

/// Descriptors of this process that belong to containers of one stage. Tests run beside each other in one process, so each
/// counts what bears its own name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    /// pidfds of its containers' processes.
    processes: usize,
    /// Files of its containers' cgroups.
    cgroups: usize,
    /// Fifos of its containers' streams.
    streams: usize,
}

fn held(stage: &Stage) -> Held {
    let mut held = Held::default();
    let namespace = stage.real.namespace();
    for fd in std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten() {
        let Ok(target) = std::fs::read_link(fd.path()) else {
            continue;
        };
        if target.starts_with("/sys/fs/cgroup") {
            held.cgroups += usize::from(target.components().any(|part| part.as_os_str() == namespace));
        } else if target.starts_with(stage.real.dir().join("run")) {
            // The log of events is one for the whole engine.
            held.streams += usize::from(!target.ends_with(".events/events.log"));
        } else if target.ends_with("anon_inode:[pidfd]") || target.to_string_lossy().starts_with("pidfd:") {
            let info = Path::new("/proc/self/fdinfo").join(fd.file_name());
            let info = std::fs::read_to_string(info).unwrap_or_default();
            let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
            let cgroup =
                pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).ok());
            held.processes +=
                usize::from(cgroup.is_some_and(|text| text.contains(&format!("/{namespace}/"))));
        }
    }
    held
}
