//! Measures a server beside many containers: how long it takes until it knows all of them, what it costs while nothing
//! happens, and how fast it lists and finds them.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::batches::in_batches;
use super::figures::Figures;
use super::usage::{Held, cpu, held, pause};
use crate::cli::Invocation;
use crate::cli::connect::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::{Print, line, table};
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{Cookie as _, Task};
use crate::engine::{Custody, Engine, Kind, Server};
use crate::{ContainerId, ContainerdDriver, Context};

/// How often a server is begun; the last one is measured further.
const STARTS: u32 = 5;
/// How often all containers are listed, and one is found.
const LISTS: u32 = 50;
const FINDS: usize = 1000;
/// The time from the start of a server to the measurement of its idle state, in which the work of the start ends.
const SETTLE: Duration = Duration::from_secs(5);

/// The parameters of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) stopped: u32,
    pub(super) running: u32,
    /// The period for which processor time is counted.
    pub(super) seconds: u32,
    pub(super) image: String,
}

/// What was measured.
#[derive(Debug)]
struct Measured {
    ready: Figures,
    list: Figures,
    find: Figures,
    before: Held,
    held: Held,
    /// The processor time of the whole process, in percent of one core.
    cpu: f64,
}

/// Runs the benchmark and prints the result.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    plan: &Plan,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(invocation, |_| {}).await?;
    let measured = async {
        let driver = &connection.driver(invocation).await?;
        let made = make(driver, plan)?;
        let measured = async {
            let ends = usize::try_from(plan.stopped).unwrap_or(usize::MAX);
            let (stopped, running) = made.split_at(ends.min(made.len()));
            let ctx = invocation.interrupt.ctx();
            in_batches(stopped, |cookie| begin(cookie, ctx.clone(), true)).await?;
            in_batches(running, |cookie| begin(cookie, ctx.clone(), false)).await?;
            measure(invocation, plan).await
        };
        let measured = measured.await;
        for cookie in &made {
            remove(&connection.engine, cookie.id()).await?;
        }
        measured
    };
    let measured = measured.await;
    connection.close().await;
    let measured = measured?;
    print.result(&report(&measured, plan), || describe(&measured, plan));
    Ok(ExitCode::SUCCESS)
}

/// The containers; nothing of them exists yet.
fn make(driver: &ContainerdDriver, plan: &Plan) -> Result<Vec<ContainerdCookie>, Failure> {
    let custody = Custody {
        detached: true,
        limit: None,
    };
    let made = (0..plan.stopped + plan.running).map(|n| {
        let command = if n < plan.stopped {
            "/bin/true"
        } else {
            "sleep 1000000"
        };
        let task = Task {
            // As a front door makes them up, so that their beginnings can be looked up.
            id: ContainerId::random().into(),
            image: plan.image.clone(),
            command: command.to_owned(),
            disable_net: true,
            ..Task::default()
        };
        let kept = driver.cookie(std::sync::Arc::new(task))?;
        Ok(kept.looked_after(custody.clone(), true))
    });
    made.collect()
}

/// Runs a container, and leaves it running, or after its end is written if `ends`.
async fn begin(cookie: ContainerdCookie, ctx: Context, ends: bool) -> Result<(), Failure> {
    if cookie.validate_image(&ctx).await? {
        cookie.pull_image(&ctx).await?;
    }
    cookie.create_container(&ctx).await?;
    let started = cookie.run(&ctx).await?;
    if ends {
        drop(started.wait(&ctx).await);
        cookie.settle().await?;
    } else {
        cookie.leave().await;
    }
    Ok(())
}

/// Removes a container, if it exists.
async fn remove(engine: &Engine, id: &str) -> Result<(), Failure> {
    let id = ContainerId::new(id).map_err(|error| Failure::usage(error.to_string()))?;
    match engine.adopt(&Context::new(), &id).await {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        adopted => Ok(adopted?.remove().await?),
    }
}

async fn measure(invocation: Invocation<'_>, plan: &Plan) -> Result<Measured, Failure> {
    let ctx = invocation.interrupt.ctx();
    let (mut ready, before) = (Figures::default(), held()?);
    for start in 1..=STARTS {
        let began = Instant::now();
        let connection = Connection::serving(invocation, |_| {}).await?;
        let measured = async {
            let server = connection.engine.serve(ctx).await?;
            ready.push(began.elapsed());
            let measured = match start {
                STARTS => Some(of_server(ctx, &server, plan, before).await?),
                _ => None,
            };
            server.close().await;
            Ok::<_, Failure>(measured)
        };
        let measured = measured.await;
        connection.close().await;
        if let Some((list, find, held, cpu)) = measured? {
            return Ok(Measured {
                ready,
                list,
                find,
                before,
                held,
                cpu,
            });
        }
    }
    Err(Failure::interrupted())
}

async fn of_server(
    ctx: &Context,
    server: &Server,
    plan: &Plan,
    before: Held,
) -> Result<(Figures, Figures, Held, f64), Failure> {
    let (mut list, mut find) = (Figures::default(), Figures::default());
    pause(ctx, SETTLE).await?;
    let cpu = cpu(ctx, plan.seconds).await?;
    let held = held()?;
    debug_assert!(held.tasks >= before.tasks, "{held:?} {before:?}");
    for _ in 0..LISTS {
        let began = Instant::now();
        let listed: Vec<_> = server.containers().iter().map(|served| served.look()).collect();
        list.push(began.elapsed());
        if listed.len() < usize::try_from(plan.stopped + plan.running).unwrap_or(0) {
            return Err(Failure::usage(format!(
                "the server knows {} containers only",
                listed.len()
            )));
        }
    }
    let ids: Vec<_> = server
        .containers()
        .iter()
        .map(|served| served.id().to_string())
        .collect();
    for id in ids.iter().cycle().take(FINDS) {
        let began = Instant::now();
        // Without its last digits, as people give it.
        let found = server.find(id.get(..id.len() - 2).unwrap_or(id));
        let found = found.map_err(|why| Failure::usage(why.to_string()))?;
        let shown = (found.look(), found.plan()?);
        find.push(began.elapsed());
        drop(shown);
    }
    Ok((list, find, held, cpu))
}

/// Bytes in mebibytes, rounded to a tenth.
fn mebibytes(bytes: u64) -> f64 {
    let tenths = u32::try_from((bytes * 10) >> 20).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}

fn report(measured: &Measured, plan: &Plan) -> Value {
    json!({
        "stopped": plan.stopped,
        "running": plan.running,
        "seconds": plan.seconds,
        "ready_ms": { "p50": measured.ready.ms(50), "max": measured.ready.ms(100) },
        "list_ms": { "p50": measured.list.ms(50), "p90": measured.list.ms(90) },
        "find_us": { "p50": measured.find.us(50), "p90": measured.find.us(90) },
        "cpu_percent": (measured.cpu * 1000.0).round() / 1000.0,
        "memory_mib": { "before": mebibytes(measured.before.memory), "serving": mebibytes(measured.held.memory) },
    })
}

fn describe(measured: &Measured, plan: &Plan) -> String {
    line(&format!(
        "a server beside {} containers that have ended and {} that run; processor time over {} s",
        plan.stopped, plan.running, plan.seconds
    ));
    let memory = format!(
        "{:.1} MiB, of which {:.1} MiB before it began",
        mebibytes(measured.held.memory),
        mebibytes(measured.before.memory)
    );
    let rows = [
        (
            "ready",
            format!(
                "{:.0} ms, at most {:.0} ms",
                measured.ready.ms(50),
                measured.ready.ms(100)
            ),
        ),
        (
            "list all",
            format!(
                "{:.2} ms, p90 {:.2} ms",
                measured.list.ms(50),
                measured.list.ms(90)
            ),
        ),
        (
            "find one",
            format!(
                "{:.1} µs, p90 {:.1} µs",
                measured.find.us(50),
                measured.find.us(90)
            ),
        ),
        ("idle", format!("{:.3} % of a core", measured.cpu)),
        ("memory", memory),
    ];
    let rows = rows.map(|(what, value)| vec![what.to_owned(), value]);
    table(&["", ""], &rows)
}
