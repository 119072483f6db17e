//! Measures how long a container's output takes to reach one reader and many, in turns.

use std::process::ExitCode;

use serde_json::json;
use tokio::time::Instant;

use super::cookie;
use super::figures::Figures;
use crate::cli::Invocation;
use crate::cli::connect::with_driver;
use crate::cli::failure::Failure;
use crate::cli::output::Print;
use crate::driver::{Cookie as _, Error, ErrorKind, Output, Task};
use crate::engine::{Attachment, SharedStreams, Wants};
use crate::ids::unique;
use crate::{ByteSize, ContainerdDriver, Context};

/// The parameters of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) readers: u32,
    pub(super) bytes: u64,
    pub(super) rounds: u32,
    pub(super) image: String,
}

/// Runs the benchmark and prints the result.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    plan: &Plan,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let [one, many] = with_driver(
        invocation,
        |_| {},
        async |driver| {
            let ctx = invocation.interrupt.ctx();
            // The first run warms up the image and the runtime.
            deliver(ctx, driver, plan, 1).await?;
            let mut figures = [Figures::default(), Figures::default()];
            for _ in 0..plan.rounds {
                for (figures, readers) in figures.iter_mut().zip([1, plan.readers]) {
                    figures.push(deliver(ctx, driver, plan, readers).await?);
                }
            }
            Ok(figures)
        },
    )
    .await?;
    let (one, many, peak) = (one.ms(50), many.ms(50), peak_memory());
    let value = json!({
        "bytes": plan.bytes,
        "one_ms": one,
        "readers": plan.readers,
        "many_ms": many,
        "ratio": (many / one * 100.0).round() / 100.0,
        "peak_memory": peak,
    });
    print.result(&value, || {
        format!(
            "{} to one reader in {one} ms, to {} readers in {many} ms, {:.2} times as long; this process used {} of memory at most",
            ByteSize(plan.bytes),
            plan.readers,
            many / one,
            ByteSize(peak),
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// Runs a container that writes, and returns how long it took from its start until every reader had everything.
async fn deliver(
    ctx: &Context,
    driver: &ContainerdDriver,
    plan: &Plan,
    readers: u32,
) -> Result<std::time::Duration, Failure> {
    let shared = SharedStreams::output();
    let task = Task {
        id: format!("bench-{}", unique()),
        image: plan.image.clone(),
        command: format!("head -c {} /dev/zero", plan.bytes),
        memory: 64 << 20,
        disable_net: true,
        stdout: Output::to_writer(shared.stdout_beside(tokio::io::sink())).into(),
        ..Task::default()
    };
    let cookie = cookie(driver, task)?;
    let tracker = driver.engine().tracker();
    let reading: Vec<_> = (0..readers)
        .map(|_| tracker.spawn(count(shared.attach(Wants::ALL, true))))
        .collect();
    let run = async {
        cookie.validate_image(ctx).await?;
        cookie.create_container(ctx).await?;
        let began = Instant::now();
        let waiting = cookie.run(ctx).await?;
        for reader in reading {
            let got = reader
                .await
                .map_err(|panic| Error::new(ErrorKind::Internal, panic))?;
            if got != plan.bytes {
                return Err(Failure::usage(format!(
                    "a reader got {got} of {} bytes",
                    plan.bytes
                )));
            }
        }
        let took = began.elapsed();
        drop(waiting.wait(ctx).await);
        Ok(took)
    };
    let run = run.await;
    cookie.close(ctx).await?;
    run
}

async fn count(mut attachment: Attachment) -> u64 {
    let mut bytes = 0;
    while let Ok(chunk) = attachment.next().await {
        bytes += chunk.bytes.len() as u64;
    }
    bytes
}

/// The most memory that this process had at any time, in bytes (VmHWM in proc(5)).
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() << 10
}
