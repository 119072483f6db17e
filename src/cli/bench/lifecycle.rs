//! Measures the life cycle of a container through the driver, from create to close, and the containerd calls in it.
//!
//! The time of the calls is taken from the same life cycle, as the union of their intervals: two calls at the same time
//! count once. The wait counts from the reply to the start, because it has nothing to wait for before that. The rest of
//! the time is fnctr's own.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::calls::{clipped, gaps, union};
use super::figures::Figures;
use crate::cli::Invocation;
use crate::cli::connect::with_driver;
use crate::cli::failure::Failure;
use crate::cli::output::{Print, line, table};
use crate::driver::{Config, Cookie as _, Error, ErrorKind, Status, Task};
use crate::{ContainerdDriver, Context};

/// The phases of a life cycle, in order.
const PHASES: [&str; 5] = ["validate", "create", "run", "wait", "close"];

/// The command of a container that holds a network namespace.
const HOLDER: &str = "tail -f /dev/null";

/// The number of life cycles before the first measurement.
const WARM_UP: u32 = 2;

/// The parameters of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    /// The number of containers at the same time, in an additional round that is not part of the figures.
    pub(super) parallel: u32,
    /// The network of every second life cycle, if any.
    pub(super) network: Option<String>,
    /// The number of network namespaces that are prepared for the life cycles on the network.
    pub(super) pool: u64,
    /// Whether a container holds each prepared namespace.
    pub(super) holder: bool,
    pub(super) image: String,
}

#[derive(Debug, Default)]
struct Measured {
    total: Figures,
    rpc_sum: Figures,
    overhead: Figures,
    phases: [Figures; 5],
    calls: BTreeMap<&'static str, (usize, Figures)>,
    /// The time before each call while no call was under way.
    before: BTreeMap<&'static str, Figures>,
    rpcs_per_life: usize,
    /// Life cycles on the network: the total times, and the times of the phases.
    networked: (Figures, [Figures; 5]),
}

/// Runs the benchmark and prints the result.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    plan: &Plan,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let (rounds, parallel) = (plan.rounds, plan.parallel);
    if rounds == 0 {
        return Err(Failure::usage("--rounds must be at least 1"));
    }
    let configure = |config: &mut Config| {
        let network = plan.network.clone().unwrap_or_default();
        (config.docker_networks, config.pre_fork_networks) = (network.clone(), network);
        config.pre_fork_pool_size = plan.pool;
        if plan.holder {
            config.pre_fork_image.clone_from(&plan.image);
            config.pre_fork_cmd = HOLDER.to_owned();
        }
    };
    let (measured, crowd) = with_driver(invocation, configure, async |driver| {
        // Measure on a worker thread of the runtime, where the request handlers of a host run too.
        let (worker, planned, ctx) = (driver.clone(), plan.clone(), invocation.interrupt.ctx().clone());
        let tracker = driver.engine().tracker();
        let measuring = tracker.spawn(async move { measure(&ctx, &worker, &planned).await });
        let measured = measuring
            .await
            .unwrap_or_else(|panic| Err(Error::new(ErrorKind::Internal, panic).into()))?;
        let crowd = if parallel == 0 {
            None
        } else {
            Some(crowd(driver, &plan.image, parallel).await?)
        };
        Ok((measured, crowd))
    })
    .await?;
    let value = report(&measured, plan, crowd);
    print.result(&value, || describe(&measured, plan, crowd));
    Ok(ExitCode::SUCCESS)
}

async fn measure(ctx: &Context, driver: &ContainerdDriver, plan: &Plan) -> Result<Measured, Failure> {
    let (image, networked) = (plan.image.as_str(), plan.network.is_some());
    for _ in 0..WARM_UP {
        live(ctx, driver, image, false).await?;
    }
    while driver.pool().is_some_and(|pool| pool.ready < pool.target) {
        ctx.check().map_err(|_| Failure::interrupted())?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let meter = driver.engine().session().meter();
    meter.start();
    let mut measured = Measured::default();
    for _ in 0..plan.rounds {
        if networked {
            let phases = live(ctx, driver, image, true).await?;
            measured.networked.0.push(phases.iter().sum());
            for (figures, phase) in measured.networked.1.iter_mut().zip(phases) {
                figures.push(phase);
            }
        }
        drop(meter.take());
        let phases = live(ctx, driver, image, false).await?;
        let timings = meter.take();
        let total = phases.iter().sum::<Duration>();
        let calls = union(&timings);
        measured.total.push(total);
        measured.rpc_sum.push(calls);
        measured.overhead.push(total.saturating_sub(calls));
        for (figures, phase) in measured.phases.iter_mut().zip(phases) {
            figures.push(phase);
        }
        measured.rpcs_per_life = timings.len();
        for (call, gap) in gaps(&timings) {
            measured.before.entry(call).or_default().push(gap);
        }
        for timing in clipped(&timings) {
            let (count, figures) = measured.calls.entry(timing.call).or_default();
            *count += 1;
            figures.push(timing.ended.saturating_duration_since(timing.began));
        }
    }
    Ok(measured)
}

/// Runs one life cycle of `/bin/true`, and returns the time of each phase.
pub(super) async fn live(
    ctx: &Context,
    driver: &ContainerdDriver,
    image: &str,
    networked: bool,
) -> Result<[Duration; 5], Failure> {
    let id = format!("bench-{:012x}", crate::driver::dice() & 0xffff_ffff_ffff);
    let task = Task {
        id,
        image: image.to_owned(),
        command: "/bin/true".to_owned(),
        disable_net: !networked,
        ..Task::default()
    };
    let cookie = super::cookie(driver, task)?;
    let lived = async {
        let mut clock = Clock(Instant::now());
        if cookie.validate_image(ctx).await? {
            cookie.pull_image(ctx).await?;
        }
        let validate = clock.lap();
        cookie.create_container(ctx).await?;
        let create = clock.lap();
        let started = cookie.run(ctx).await?;
        let run = clock.lap();
        let result = started.wait(ctx).await;
        let wait = clock.lap();
        if result.status() != Status::Success {
            return Err(Failure::usage(format!("/bin/true ended as {}", result.status())));
        }
        Ok([validate, create, run, wait])
    }
    .await;
    let mut clock = Clock(Instant::now());
    cookie.close(ctx).await?;
    let close = clock.lap();
    let [validate, create, run, wait] = lived?;
    Ok([validate, create, run, wait, close])
}

struct Clock(Instant);

impl Clock {
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let took = now.duration_since(self.0);
        self.0 = now;
        took
    }
}

/// Runs the requested number of containers at the same time. All are alive together before any ends.
async fn crowd(driver: &ContainerdDriver, image: &str, parallel: u32) -> Result<Duration, Failure> {
    let began = Instant::now();
    let tracker = TaskTracker::new();
    let alive = Arc::new(tokio::sync::Barrier::new(
        usize::try_from(parallel).unwrap_or(usize::MAX),
    ));
    let lives: Vec<_> = (0..parallel)
        .map(|_| {
            let (driver, image, alive) = (driver.clone(), image.to_owned(), Arc::clone(&alive));
            tracker.spawn(async move { one_of_many(&driver, &image, &alive).await })
        })
        .collect();
    let mut first = Ok(());
    for life in lives {
        let lived = life
            .await
            .unwrap_or_else(|panic| Err(Error::new(ErrorKind::Internal, panic).into()));
        first = first.and(lived);
    }
    first.map(|()| began.elapsed())
}

async fn one_of_many(
    driver: &ContainerdDriver,
    image: &str,
    alive: &tokio::sync::Barrier,
) -> Result<(), Failure> {
    let ctx = Context::new();
    let id = format!("bench-{:012x}", crate::driver::dice() & 0xffff_ffff_ffff);
    let command = "sleep 1000000".to_owned();
    let task = Task {
        id,
        image: image.to_owned(),
        command,
        disable_net: true,
        ..Task::default()
    };
    let cookie = super::cookie(driver, task)?;
    let started = async {
        if cookie.validate_image(&ctx).await? {
            cookie.pull_image(&ctx).await?;
        }
        cookie.create_container(&ctx).await?;
        cookie.run(&ctx).await?;
        cookie.freeze(&ctx).await?;
        cookie.unfreeze(&ctx).await
    }
    .await;
    // Wait even after a failure, or the other containers would wait at the barrier for ever.
    alive.wait().await;
    cookie.close(&ctx).await?;
    Ok(started?)
}

fn report(measured: &Measured, plan: &Plan, crowd: Option<Duration>) -> Value {
    let pair = |figures: &Figures| json!({ "p50_ms": figures.ms(50), "p90_ms": figures.ms(90) });
    let phases: BTreeMap<_, _> = PHASES
        .iter()
        .zip(&measured.phases)
        .map(|(name, phase)| (*name, pair(phase)))
        .collect();
    let calls: BTreeMap<_, _> = measured
        .calls
        .iter()
        .map(|(name, (_, figures))| (*name, pair(figures)))
        .collect();
    let before: BTreeMap<_, _> = measured
        .before
        .iter()
        .map(|(name, figures)| (*name, pair(figures)))
        .collect();
    let mut value = json!({
        "rounds": plan.rounds,
        "total": pair(&measured.total),
        "rpc_sum": pair(&measured.rpc_sum),
        "overhead": pair(&measured.overhead),
        "phases": phases,
        "rpcs_per_life": measured.rpcs_per_life,
        "rpcs": calls,
        "before": before,
    });
    if let (Some(took), Some(object)) = (crowd, value.as_object_mut()) {
        object.insert(
            "parallel".to_owned(),
            json!({ "containers": plan.parallel, "seconds": took.as_secs_f64() }),
        );
    }
    if let (Some(network), Some(object)) = (&plan.network, value.as_object_mut()) {
        let (total, phases) = &measured.networked;
        let phases: BTreeMap<_, _> = PHASES
            .iter()
            .zip(phases)
            .map(|(name, phase)| (*name, pair(phase)))
            .collect();
        let value = json!({ "network": network, "pool": plan.pool, "total": pair(total), "phases": phases });
        object.insert("networked".to_owned(), value);
    }
    value
}

fn describe(measured: &Measured, plan: &Plan, crowd: Option<Duration>) -> String {
    let (rounds, parallel) = (plan.rounds, plan.parallel);
    let row = |name: &str, figures: &Figures| {
        vec![
            name.to_owned(),
            format!("{:.2}", figures.ms(50)),
            format!("{:.2}", figures.ms(90)),
        ]
    };
    let mut rows = vec![row("total", &measured.total)];
    rows.extend(
        PHASES
            .iter()
            .zip(&measured.phases)
            .map(|(name, phase)| row(&format!("  {name}"), phase)),
    );
    rows.push(row("containerd calls", &measured.rpc_sum));
    rows.extend(
        measured
            .calls
            .iter()
            .map(|(name, (_, figures))| row(&format!("  {name}"), figures)),
    );
    rows.push(row("fnctr itself", &measured.overhead));
    rows.extend(
        measured
            .before
            .iter()
            .map(|(name, figures)| row(&format!("  before {name}"), figures)),
    );
    if let Some(network) = &plan.network {
        let (total, phases) = &measured.networked;
        let ratio = total.ms(50) / measured.total.ms(50).max(f64::MIN_POSITIVE);
        rows.push(row(
            &format!("on {network}, pool of {} ({ratio:.2}x)", plan.pool),
            total,
        ));
        rows.extend(
            PHASES
                .iter()
                .zip(phases)
                .map(|(name, phase)| row(&format!("  {name}"), phase)),
        );
    }
    line(&format!(
        "{rounds} lives of /bin/true, {} calls each, milliseconds",
        measured.rpcs_per_life
    ));
    if let Some(took) = crowd {
        line(&format!(
            "{parallel} containers at once, all running together, then removed: {:.1} s",
            took.as_secs_f64()
        ));
    }
    table(&["", "p50", "p90"], &rows)
}
