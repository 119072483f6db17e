//! Measures what each idle container costs this process in memory, tasks, descriptors and processor time, with
//! statistics off and on, and how long the life cycle of another container takes meanwhile.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::batches::in_batches;
use super::figures::Figures;
use super::lifecycle::live;
use super::usage::{Held, cpu, held, pause};
use crate::cli::Invocation;
use crate::cli::connect::with_driver;
use crate::cli::failure::Failure;
use crate::cli::output::{Print, line, table};
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{Cookie as _, Error, ErrorKind, StatSink, Task};
use crate::{ContainerdDriver, Context};

/// How long to wait after a start so that the work it causes is over.
const SETTLE: Duration = Duration::from_secs(5);
/// The number of life cycles that are measured while the other containers are idle.
const LIVES: u32 = 9;

/// The parameters of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) containers: u32,
    /// The period for which processor time is counted.
    pub(super) seconds: u32,
    pub(super) image: String,
}

/// One row of the figures.
#[derive(Debug)]
struct Row {
    name: &'static str,
    containers: u32,
    /// The resources held before there was any container.
    before: Held,
    held: Held,
    /// The processor time of the whole process, in percent of one core.
    cpu: f64,
    lives: Figures,
}

impl Row {
    /// The increase per container in memory, tasks and descriptors; without containers, the totals.
    fn each(&self) -> (f64, f64, f64) {
        let share = |now: f64, before: f64| match self.containers {
            0 => now,
            containers => (now - before) / f64::from(containers),
        };
        (
            share(kibibytes(self.held.memory), kibibytes(self.before.memory)),
            share(to_f64(self.held.tasks), to_f64(self.before.tasks)),
            share(to_f64(self.held.descriptors), to_f64(self.before.descriptors)),
        )
    }
}

/// Runs the benchmark and prints the result.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    plan: &Plan,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let rows = with_driver(
        invocation,
        |_| {},
        async |driver| {
            // Measure on a worker thread of the runtime, where a platform's request handlers run.
            let (worker, planned, ctx) = (driver.clone(), plan.clone(), invocation.interrupt.ctx().clone());
            let measuring = async move { measure(&ctx, &worker, &planned).await };
            driver
                .engine()
                .tracker()
                .spawn(measuring)
                .await
                .unwrap_or_else(|panic| Err(Error::new(ErrorKind::Internal, panic).into()))
        },
    )
    .await?;
    print.result(&report(&rows, plan), || describe(&rows, plan));
    Ok(ExitCode::SUCCESS)
}

async fn measure(ctx: &Context, driver: &ContainerdDriver, plan: &Plan) -> Result<Vec<Row>, Failure> {
    // Run one life cycle first: its one-time costs do not depend on idle containers.
    live(ctx, driver, &plan.image, false).await?;
    pause(ctx, SETTLE).await?;
    let before = held()?;
    let none = Row {
        name: "none",
        containers: 0,
        before,
        held: before,
        cpu: cpu(ctx, plan.seconds).await?,
        lives: lives(ctx, driver, &plan.image).await?,
    };
    let mut rows = vec![none];
    // Discards every sample.
    let listener: StatSink = Arc::new(drop);
    for (name, stats) in [("statistics off", None), ("statistics on", Some(listener))] {
        let mut idle = Vec::new();
        let measured: Result<Row, Failure> = async {
            start(ctx, driver, plan, stats, &mut idle).await?;
            pause(ctx, SETTLE).await?;
            Ok(Row {
                name,
                containers: plan.containers,
                before,
                held: held()?,
                cpu: cpu(ctx, plan.seconds).await?,
                lives: lives(ctx, driver, &plan.image).await?,
            })
        }
        .await;
        let closed = close(idle).await;
        rows.push(measured?);
        closed?;
    }
    Ok(rows)
}

/// Starts the containers. Every cookie that was made is in `idle` afterwards, even on failure.
async fn start(
    ctx: &Context,
    driver: &ContainerdDriver,
    plan: &Plan,
    stats: Option<StatSink>,
    idle: &mut Vec<ContainerdCookie>,
) -> Result<(), Failure> {
    for _ in 0..plan.containers {
        let task = Task {
            id: format!("bench-{:012x}", crate::driver::dice() & 0xffff_ffff_ffff),
            image: plan.image.clone(),
            command: "sleep 1000000".to_owned(),
            disable_net: true,
            stats: stats.clone(),
            ..Task::default()
        };
        idle.push(super::cookie(driver, task)?);
    }
    let run = |cookie: ContainerdCookie, ctx: Context| async move {
        if cookie.validate_image(&ctx).await? {
            cookie.pull_image(&ctx).await?;
        }
        cookie.create_container(&ctx).await?;
        cookie.run(&ctx).await?;
        Ok::<_, Failure>(())
    };
    in_batches(idle, |cookie| run(cookie, ctx.clone())).await
}

async fn close(idle: Vec<ContainerdCookie>) -> Result<(), Failure> {
    let ctx = Context::new();
    let close = |cookie: ContainerdCookie| {
        let ctx = ctx.clone();
        async move { Ok(cookie.close(&ctx).await?) }
    };
    in_batches(&idle, close).await
}

async fn lives(ctx: &Context, driver: &ContainerdDriver, image: &str) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    for _ in 0..LIVES {
        figures.push(live(ctx, driver, image, false).await?.iter().sum());
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn kibibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// Converts by way of `u32`, because no conversion from `usize` to `f64` is exact for all values. No count that is
/// measured here exceeds a `u32`.
fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn report(rows: &[Row], plan: &Plan) -> Value {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (memory, tasks, descriptors) = row.each();
            json!({
                "what": row.name,
                "containers": row.containers,
                "memory_kib": rounded(memory),
                "tasks": rounded(tasks),
                "descriptors": rounded(descriptors),
                "cpu_percent": rounded(row.cpu),
                "life_ms": { "p50": row.lives.ms(50), "p90": row.lives.ms(90) },
            })
        })
        .collect();
    json!({ "seconds": plan.seconds, "rows": rows })
}

fn describe(rows: &[Row], plan: &Plan) -> String {
    line(&format!(
        "{} idle containers, processor time over {} s; memory, tasks and descriptors are those of each container \
         (in row `none`: totals of this process)",
        plan.containers, plan.seconds
    ));
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (memory, tasks, descriptors) = row.each();
            vec![
                row.name.to_owned(),
                format!("{memory:.1}"),
                format!("{tasks:.2}"),
                format!("{descriptors:.2}"),
                format!("{:.2}", row.cpu),
                format!("{:.1}", row.lives.ms(50)),
                format!("{:.1}", row.lives.ms(90)),
            ]
        })
        .collect();
    let head = [
        "",
        "KiB",
        "tasks",
        "descriptors",
        "% of a core",
        "life ms p50",
        "p90",
    ];
    table(&head, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Held = Held {
        memory: 10 << 20,
        tasks: 20,
        descriptors: 30,
    };

    #[test]
    fn each_container_costs_its_share_of_what_is_more_than_before() {
        let row = |containers| Row {
            name: "",
            containers,
            before: HELD,
            held: Held {
                memory: 30 << 20,
                tasks: 40,
                descriptors: 35,
            },
            cpu: 0.0,
            lives: Figures::default(),
        };
        assert_eq!(row(10).each(), (2048.0, 2.0, 0.5));
        assert_eq!(row(0).each(), (30720.0, 40.0, 35.0));
    }
}
