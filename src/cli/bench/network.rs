//! Measures how long it takes to make and remove sandboxes, and the share of each plugin.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::figures::Figures;
use crate::Context;
use crate::cli::Invocation;
use crate::cli::connect::network_settings;
use crate::cli::failure::Failure;
use crate::cli::output::{Print, table};
use crate::ids::unique;
use crate::pool::{Bounds, Pool};
use crate::sandbox::{Error, NetworkRequest, Sandbox, Sandboxes};

/// How many times each taker takes a sandbox from the pool.
const TAKES: usize = 1000;

/// Runs the benchmark and prints the result. It needs no containerd.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    network: &str,
    rounds: u32,
    takers: usize,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let ctx = invocation.interrupt.ctx();
    let opened = Sandboxes::open(
        &network_settings(invocation.global),
        "/run/fnctr".as_ref(),
        "bench",
        &unique(),
    );
    let sandboxes = opened.map_err(|error| Failure::host(&error))?;
    let wanted = NetworkRequest {
        networks: vec![network.to_owned()],
        ports: Vec::new(),
    };
    let (mut add, mut del) = (Shares::default(), Shares::default());
    for _ in 0..rounds {
        ctx.check().map_err(|_| Failure::interrupted())?;
        let measured = measure(&sandboxes, &wanted, &mut add, &mut del).await;
        measured.map_err(|error| Failure::host(&error))?;
    }
    let taking = crowd(&sandboxes, &wanted, takers).await;
    let Taken { takes, misses } = taking.map_err(|error| Failure::host(&error))?;
    let value = json!({
        "network": network,
        "rounds": rounds,
        "make": add.json(),
        "remove": del.json(),
        "take": { "takers": takers, "p50_us": takes.us(50), "p99_us": takes.us(99), "misses": misses },
    });
    print.result(&value, || {
        let mut rows = add.rows("make");
        rows.extend(del.rows("remove"));
        format!(
            "{rounds} sandboxes on {network}, milliseconds\n{}",
            table(&["", "p50", "p90", "SHARE"], &rows)
        ) + &format!(
            "\na prepared one, taken by {takers} at once: p50 {:.1} us, p99 {:.1} us, {misses} times there was none",
            takes.us(50),
            takes.us(99)
        )
    });
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    sandboxes: &Sandboxes,
    wanted: &NetworkRequest,
    add: &mut Shares,
    del: &mut Shares,
) -> Result<(), Error> {
    let ctx = Context::new();
    let reserved = sandboxes.reserve(wanted)?;
    let id = reserved.id().to_owned();
    let began = Instant::now();
    let made = sandboxes.attach(&ctx, reserved, None).await;
    let took = began.elapsed();
    let began = Instant::now();
    let removed = sandboxes.remove(&ctx, &id).await;
    let removing = began.elapsed();
    add.push(took, made?.taken);
    del.push(removing, removed?);
    Ok(())
}

struct Taken {
    takes: Figures,
    misses: u64,
}

/// Runs the takers as tasks on the worker threads of the runtime, as in a host, while this task washes the sandboxes
/// that the takers give back.
async fn crowd(sandboxes: &Sandboxes, wanted: &NetworkRequest, takers: usize) -> Result<Taken, Error> {
    let ctx = Context::new();
    let floor = takers + takers / 2;
    let pool = Pool::new(
        Bounds {
            floor,
            ceiling: floor,
        },
        false,
    );
    let mut ids = Vec::new();
    let mut filled = Ok(());
    for _ in 0..pool.chores(usize::MAX, false).make {
        let reserved = sandboxes.reserve(wanted)?;
        ids.push(reserved.id().to_owned());
        match sandboxes.attach(&ctx, reserved, None).await {
            Ok(sandbox) => pool.put(sandbox),
            Err(error) => {
                filled = Err(error);
                break;
            }
        }
    }
    let mut taken = Taken {
        takes: Figures::default(),
        misses: 0,
    };
    if filled.is_ok() {
        let tracker = TaskTracker::new();
        let takers: Vec<_> = (0..takers).map(|_| tracker.spawn(take(pool.clone()))).collect();
        tracker.close();
        let wash = async {
            loop {
                pool.woken().await;
                pool.chores(0, false)
                    .wash
                    .into_iter()
                    .for_each(|slot| pool.put(slot));
            }
        };
        tokio::select! {
            () = tracker.wait() => {}
            () = wash => {}
        }
        for taker in takers {
            taker
                .await
                .unwrap_or_default()
                .into_iter()
                .for_each(|took| taken.takes.push(took));
        }
        taken.misses = pool.counts().misses;
    }
    for id in ids {
        sandboxes.remove(&ctx, &id).await?;
    }
    filled.map(|()| taken)
}

async fn take(pool: Pool<Sandbox>) -> Vec<Duration> {
    let mut takes = Vec::new();
    while takes.len() < TAKES {
        let began = Instant::now();
        let lease = pool.take(Sandbox::is_there);
        let took = began.elapsed();
        let Some(mut lease) = lease else {
            // A host would make a new sandbox here, which takes much longer than this pause.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        takes.push(took);
        lease.touch();
        tokio::task::yield_now().await;
        drop(lease.give_back());
    }
    takes
}

/// The time of a whole operation, and the times of its parts.
#[derive(Debug, Default)]
struct Shares {
    whole: Figures,
    parts: Vec<(String, Figures)>,
}

impl Shares {
    fn push(&mut self, whole: Duration, parts: Vec<(String, Duration)>) {
        self.whole.push(whole);
        let mut rest = whole;
        let named = parts
            .into_iter()
            .inspect(|(_, took)| rest = rest.saturating_sub(*took));
        let named: Vec<_> = named.collect();
        for (at, (name, took)) in named
            .into_iter()
            .chain([("fnctr itself".to_owned(), rest)])
            .enumerate()
        {
            if self.parts.len() <= at {
                self.parts.push((name, Figures::default()));
            }
            if let Some((_, figures)) = self.parts.get_mut(at) {
                figures.push(took);
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let parts = self.parts.iter();
        let parts: Vec<_> = parts.map(|(name, figures)| json!({ "plugin": name, "p50_ms": figures.ms(50), "p90_ms": figures.ms(90) })).collect();
        json!({ "p50_ms": self.whole.ms(50), "p90_ms": self.whole.ms(90), "parts": parts })
    }

    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let whole = self.whole.ms(50);
        let row = |name: String, figures: &Figures| {
            let share = if whole > 0.0 {
                figures.ms(50) / whole * 100.0
            } else {
                0.0
            };
            vec![
                name,
                format!("{:.2}", figures.ms(50)),
                format!("{:.2}", figures.ms(90)),
                format!("{share:.0} %"),
            ]
        };
        let mut rows = vec![row(name.to_owned(), &self.whole)];
        rows.extend(
            self.parts
                .iter()
                .map(|(name, figures)| row(format!("  {name}"), figures)),
        );
        rows
    }
}
