//! CPU time: a busy loop gets its milli-CPUs, and no more.

use std::time::Duration;

use fnctr::driver::Task;
use tokio::time::Instant;

use super::outside::{Outside, keyed};
use super::{Held, seen};
use crate::world::{Stage, idle_ticks};

const MILLI: u64 = 250;
const WINDOW: Duration = Duration::from_secs(2);
/// A host that others keep busy may give less than it promised for a while.
const TRIES: usize = 10;
/// What proc_stat(5) counts in, on every architecture that Linux runs on.
const TICKS: f64 = 100.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_loop_gets_its_milli_cpus_and_no_more() {
    let Some(stage) = Stage::set("a_busy_loop_gets_its_milli_cpus").await else {
        return;
    };
    let task = Task {
        cpus: MILLI,
        ..stage.task("")
    };
    // Two loops, so that the quota is what holds them and not the speed of one core.
    let held = Held::start(&stage, task, "while :; do :; done & echo go; while :; do :; done").await;
    held.until_it_says("go").await;
    let quota = match held.outside.dir("cpu").expect("the cpu controller") {
        (_, true) => held.outside.read("cpu", "", "cpu.max"),
        (_, false) => held.outside.read("cpu", "cpu.cfs_quota_us", ""),
    };
    let quota = quota.expect("a quota");
    assert_eq!(
        quota.split(' ').next(),
        Some((MILLI * 100).to_string().as_str()),
        "{quota}"
    );

    let slack = slack();
    let promised = f64::from(u32::try_from(MILLI).expect("a small number")) / 1000.0;
    let mut got = Vec::new();
    // Whether the host had as much to spare as was promised, in any window.
    let mut had_it = false;
    for _ in 0..TRIES {
        let (before, idle, began) = (used(&held.outside), idle_ticks(), Instant::now());
        tokio::time::sleep(WINDOW).await;
        let (after, window) = (used(&held.outside), began.elapsed());
        let share = (after - before).as_secs_f64() / window.as_secs_f64();
        let ticks = u32::try_from(idle_ticks() - idle).expect("a short time");
        had_it |= f64::from(ticks) / TICKS / window.as_secs_f64() >= promised;
        got.push(share);
        assert!(
            share <= promised * (1.0 + slack),
            "{share:.3} of a core for {MILLI} milli-CPUs"
        );
        if share >= promised * (1.0 - slack) {
            break;
        }
    }
    let share = got.last().expect("a window");
    let has_all = *share >= promised * (1.0 - slack);
    assert!(has_all || !had_it, "{MILLI} milli-CPUs, and got {got:.3?}");
    if !has_all {
        seen("this host was too busy to show that a busy loop gets all of its quota");
        held.close().await;
        return stage.strike().await;
    }
    let stat = held
        .outside
        .read("cpu", "cpu.stat", "cpu.stat")
        .expect("cpu.stat");
    let throttled = keyed(&stat, "nr_throttled").expect("a count");
    assert!(throttled > 0, "{stat}");
    seen(&format!(
        "two busy loops under {MILLI} milli-CPUs used {share:.3} of a core in {:?} (window {}), throttled {throttled} times",
        WINDOW,
        got.len(),
    ));
    held.close().await;
    stage.strike().await;
}

/// CPU time of the whole container.
fn used(outside: &Outside) -> Duration {
    match outside.dir("cpuacct") {
        Some((_, false)) => {
            let nanoseconds = outside.read("cpuacct", "cpuacct.usage", "").expect("usage");
            Duration::from_nanos(nanoseconds.parse().expect("a number"))
        }
        // v2 accounts for CPU time in every cgroup, without a controller.
        _ => {
            let dir = outside.v2().expect("a v2 tree");
            let stat = std::fs::read_to_string(dir.join("cpu.stat")).expect("cpu.stat");
            Duration::from_micros(keyed(&stat, "usage_usec").expect("a number"))
        }
    }
}

/// How far usage may be off: a tenth where the clock is real, a quarter under emulation.
fn slack() -> f64 {
    match std::env::var("FNCTR_TEST_CPU_SLACK") {
        Ok(text) => text.parse().expect("FNCTR_TEST_CPU_SLACK is a number"),
        Err(_) => 0.10,
    }
}
