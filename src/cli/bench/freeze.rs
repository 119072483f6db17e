//! Measures freeze and thaw in three ways, interleaved on one container: through the driver's cookie, by the bare write
//! and read-back in this process, and by containerd's Pause and Resume.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::figures::Figures;
use crate::cgroup::RawFreezer;
use crate::cli::Invocation;
use crate::cli::connect::with_driver;
use crate::cli::failure::Failure;
use crate::cli::output::{Print, line, table};
use crate::driver::{Cookie, Task};
use crate::{ContainerOptions, ContainerdDriver, Context};

/// The time between two measurements: long enough that one does not warm the caches for the next, as in a host that
/// freezes idle functions.
const PAUSE: Duration = Duration::from_millis(1);
/// One round in this many also measures containerd, which takes a thousand times as long.
const RPC_EVERY: u32 = 10;

#[derive(Debug, Default)]
struct Measured {
    freeze: Figures,
    thaw: Figures,
    raw_freeze: Figures,
    raw_thaw: Figures,
    pause_rpc: Figures,
    resume_rpc: Figures,
}

/// Measures and prints.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    procs: u32,
    rounds: u32,
    image: &str,
    print: &Print,
) -> Result<ExitCode, Failure> {
    if procs == 0 || rounds == 0 {
        return Err(Failure::usage("--procs and --rounds must be at least 1"));
    }
    let measured = with_driver(
        invocation,
        |_| {},
        async |driver| {
            let id = format!("bench-{:08x}", crate::driver::dice() & 0xffff_ffff);
            let task = Task {
                id,
                image: image.to_owned(),
                disable_net: true,
                ..Task::default()
            };
            let cookie = super::cookie(driver, task)?;
            let measured = measure(driver, &cookie, procs, rounds).await;
            cookie.close(&Context::new()).await?;
            measured
        },
    )
    .await?;
    let value = report(&measured, procs, rounds);
    print.result(&value, || describe(&measured, procs, rounds));
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    driver: &ContainerdDriver,
    cookie: &crate::containerd_driver::ContainerdCookie,
    procs: u32,
    rounds: u32,
) -> Result<Measured, Failure> {
    let ctx = Context::new();
    let contract: &dyn Cookie = cookie;
    // Run without an init, so that the container has exactly the requested number of processes.
    let script =
        format!("n=1; while [ $n -lt {procs} ]; do sleep 1000000 & n=$((n+1)); done; exec sleep 1000000");
    contract.change_options(|options: &mut ContainerOptions| {
        options.init = false;
        options.config.command = Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
    })?;
    if contract.validate_image(&ctx).await? {
        contract.pull_image(&ctx).await?;
    }
    contract.create_container(&ctx).await?;
    contract.run(&ctx).await?;
    let container = cookie.started()?;
    let Some(paths) = container.paths() else {
        return Err(Failure::usage(
            "the container's cgroups cannot be found, so there is nothing to compare with",
        ));
    };
    settle(paths, procs).await?;
    let raw = RawFreezer::open(paths).map_err(|error| Failure::host(&error))?;
    let tasks = driver.engine().session().tasks();
    let mut measured = Measured::default();
    for round in 0..rounds {
        sleep(PAUSE).await;
        measured.freeze.push(timed(contract.freeze(&ctx)).await?);
        sleep(PAUSE).await;
        measured.thaw.push(timed(contract.unfreeze(&ctx)).await?);
        sleep(PAUSE).await;
        measured
            .raw_freeze
            .push(raw.freeze().map_err(|error| Failure::host(&error))?);
        sleep(PAUSE).await;
        measured
            .raw_thaw
            .push(raw.thaw().map_err(|error| Failure::host(&error))?);
        if round % RPC_EVERY == 0 {
            measured.pause_rpc.push(
                timed(tasks.pause(&ctx, container.id()))
                    .await
                    .map_err(|e| Failure::host(&e))?,
            );
            measured.resume_rpc.push(
                timed(tasks.resume(&ctx, container.id()))
                    .await
                    .map_err(|e| Failure::host(&e))?,
            );
        }
    }
    Ok(measured)
}

/// Waits until all processes have started.
async fn settle(paths: &crate::cgroup::Paths, procs: u32) -> Result<(), Failure> {
    let Some(dir) = paths.dirs().next() else {
        return Ok(());
    };
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        if text.lines().count() >= usize::try_from(procs).unwrap_or(usize::MAX) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::usage(format!(
                "the container did not start {procs} processes within 30 s"
            )));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn timed<E>(work: impl Future<Output = Result<(), E>>) -> Result<Duration, E> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

fn report(measured: &Measured, procs: u32, rounds: u32) -> Value {
    let pair = |figures: &Figures| json!({ "p50_us": figures.us(50), "p99_us": figures.us(99) });
    json!({
        "procs": procs,
        "rounds": rounds,
        "freeze": pair(&measured.freeze),
        "thaw": pair(&measured.thaw),
        "raw_freeze": pair(&measured.raw_freeze),
        "raw_thaw": pair(&measured.raw_thaw),
        "pause_rpc": pair(&measured.pause_rpc),
        "resume_rpc": pair(&measured.resume_rpc),
    })
}

fn describe(measured: &Measured, procs: u32, rounds: u32) -> String {
    let row = |name: &str, freeze: &Figures, thaw: &Figures| {
        let us = |figures: &Figures, percent| format!("{:.1}", figures.us(percent));
        vec![
            name.to_owned(),
            us(freeze, 50),
            us(freeze, 99),
            us(thaw, 50),
            us(thaw, 99),
        ]
    };
    let rows = [
        row("driver (Cookie)", &measured.freeze, &measured.thaw),
        row("bare kernel write", &measured.raw_freeze, &measured.raw_thaw),
        row("containerd Pause", &measured.pause_rpc, &measured.resume_rpc),
    ];
    line(&format!("{rounds} rounds, {procs} processes, microseconds"));
    table(&["", "freeze p50", "p99", "thaw p50", "p99"], &rows)
}
