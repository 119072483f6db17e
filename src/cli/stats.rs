//! `fnctr stats`: the resources that containers use, live, whichever process made the containers.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::Invocation;
use super::connect::with;
use super::container_ref::ContainerRef;
use super::failure::Failure;
use super::interrupt::Wish;
use super::keys::Keys;
use super::output::Print;
use super::ps::state_of;
use super::stats_table::{self, Row, Screen};
use crate::containerd_driver::stat;
use crate::driver::Stat;
use crate::engine::{Engine, ListedContainer, Usage};
use crate::{ContainerId, Context};

/// The time between the first two readings. It is long compared with the kernel's tick (1 to 10 ms), by which a rate is
/// uncertain.
const FIRST: Duration = Duration::from_millis(500);
/// The signal that Ctrl-C sends.
const SIGINT: u8 = 2;
/// The time between all later readings.
const PERIOD: Duration = Duration::from_secs(1);

/// One container in one round, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    id: &'a str,
    state: &'static str,
    pid: Option<u32>,
    #[serde(flatten)]
    stat: Option<Stat>,
}

/// Shows what the named containers use, or all running containers if none is named.
pub(super) async fn stats(
    invocation: Invocation<'_>,
    containers: &[ContainerRef],
    once: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let keys = if once { None } else { Keys::listen() };
    let quit = async {
        match &keys {
            Some(keys) => keys.quit().await,
            None => std::future::pending().await,
        }
    };
    let mut quit = std::pin::pin!(quit);
    with(invocation, async |engine| {
        let mut wishes = invocation.interrupt.pass_on();
        let ctx = Context::new();
        let mut ids = Vec::with_capacity(containers.len());
        for container in containers {
            let id = container.id(engine).await?;
            engine.inspect(&ctx, &id).await?;
            ids.push(id);
        }
        let ids = ids.as_slice();
        let mut show = Show {
            print: *print,
            rounds: 0,
        };
        let mut before = Readings::of(engine, &ctx, ids).await?;
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut quit => return Ok(()),
                wish = wishes.next() => match wish {
                    // Without --once the output does not end by itself, so Ctrl-C is not a failure.
                    Wish::End(SIGINT) if !once => return Ok(()),
                    wish => return Err(invocation.interrupt.grant(wish)),
                },
            }
            let now = Readings::of(engine, &ctx, ids).await?;
            if show.round(&now, &before).is_err() {
                invocation.interrupt.nobody_reads();
            }
            let over = !ids.is_empty() && now.0.iter().all(|(_, usage)| usage.is_none());
            if once || over {
                return Ok(());
            }
            (before, pause) = (now, PERIOD);
        }
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// The readings of one round: all named containers, or, if none is named, the containers that can be read.
struct Readings(Vec<(ListedContainer, Option<Usage>)>);

impl Readings {
    async fn of(engine: &Engine, ctx: &Context, ids: &[ContainerId]) -> Result<Self, Failure> {
        let mut readings = engine.usages(ctx).await?;
        readings.retain(|(container, usage)| {
            if ids.is_empty() {
                usage.is_some()
            } else {
                ids.contains(&container.id)
            }
        });
        readings.sort_by(|(a, _), (b, _)| a.id.as_str().cmp(b.id.as_str()));
        Ok(Self(readings))
    }

    /// The readings by name and pid, because a new container may have the name of an earlier one.
    fn by_life(&self) -> BTreeMap<(&str, Option<u32>), &Usage> {
        let read = self.0.iter().filter_map(|(container, usage)| {
            let usage = usage.as_ref()?;
            Some(((container.id.as_str(), container.pid), usage))
        });
        read.collect()
    }
}

/// Prints rounds, and counts them.
struct Show {
    print: Print,
    rounds: u64,
}

impl Show {
    /// Prints one round. An error means that the reader of standard output has gone.
    fn round(&mut self, now: &Readings, before: &Readings) -> io::Result<()> {
        let before = before.by_life();
        let rounds = self.rounds;
        self.rounds += 1;
        let mut out = io::stdout().lock();
        if self.print.is_json() {
            for (container, usage) in &now.0 {
                let was = before.get(&(container.id.as_str(), container.pid));
                let report = Report {
                    id: container.id.as_str(),
                    state: state_of(container),
                    pid: container.pid,
                    // Without an earlier reading, the rates are missing and everything else is reported.
                    stat: usage.as_ref().map(|usage| stat(was.unwrap_or(&usage), usage)),
                };
                serde_json::to_writer(&mut out, &report)?;
                writeln!(out)?;
            }
            return out.flush();
        }
        let rows: Vec<_> = now
            .0
            .iter()
            .map(|(container, usage)| Row {
                id: container.id.as_str(),
                state: state_of(container),
                now: usage.as_ref(),
                before: before.get(&(container.id.as_str(), container.pid)).copied(),
            })
            .collect();
        let terminal = out.is_terminal().then(Screen::of_stdout).flatten();
        match terminal {
            Some(screen) => out.write_all(stats_table::frame(&rows, screen, rounds == 0).as_bytes())?,
            None => {
                if rounds > 0 {
                    writeln!(out)?;
                }
                writeln!(out, "{}", stats_table::table(&rows, None))?;
            }
        }
        out.flush()
    }
}
