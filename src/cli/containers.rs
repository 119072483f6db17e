//! `freeze`, `thaw`, `kill`, `rm`, `container prune`: containers that an earlier process may have made.

use std::process::ExitCode;

use tokio::time::Instant;

use super::At;
use super::confirm::confirm;
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use crate::driver::{Error, ErrorKind};
use crate::engine::{Engine, Kind, Seen, State};
use crate::{ByteSize, ContainerId, Context};

/// Freezes a container, and says how long it took; then takes memory back from it if asked to, and says how much.
pub(super) async fn freeze(
    at: At<'_>,
    id: &ContainerId,
    reclaim: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    turn(at, id, print, true, reclaim).await
}

/// Thaws a container, and says how long it took.
pub(super) async fn thaw(at: At<'_>, id: &ContainerId, print: &Print) -> Result<ExitCode, Failure> {
    turn(at, id, print, false, false).await
}

async fn turn(
    at: At<'_>,
    id: &ContainerId,
    print: &Print,
    freeze: bool,
    reclaim: bool,
) -> Result<ExitCode, Failure> {
    let (us, reclaimed) = with(at, async |engine| {
        let ctx = Context::new();
        let container = engine.adopt(&ctx, id).await?;
        let run = container.run();
        // A host that cannot leaves the container as it is.
        if reclaim {
            run.can_reclaim()?;
        }
        let began = Instant::now();
        let turned = if freeze {
            run.freeze(&ctx).await
        } else {
            run.thaw(&ctx).await
        };
        let took = began.elapsed();
        turned?;
        let reclaimed = match reclaim {
            true => Some(run.reclaim(&ctx).await?),
            false => None,
        };
        // To a tenth: what lies below is noise.
        let us = (took.as_secs_f64() * 1e7).round() / 10.0;
        Ok((us, reclaimed.map(|back| back.bytes)))
    })
    .await?;
    let (state, word) = if freeze {
        ("frozen", "froze")
    } else {
        ("running", "thawed")
    };
    let mut result = serde_json::json!({ "id": id.as_str(), "state": state, "us": us });
    if let (Some(bytes), Some(result)) = (reclaimed, result.as_object_mut()) {
        result.insert("reclaimed".to_owned(), bytes.into());
    }
    print.result(&result, || match reclaimed {
        Some(bytes) => format!("{word} {id} in {us:.1} µs, took {} back", ByteSize(bytes)),
        None => format!("{word} {id} in {us:.1} µs"),
    });
    Ok(ExitCode::SUCCESS)
}

/// Sends a signal.
pub(super) async fn kill(
    at: At<'_>,
    id: &ContainerId,
    signal: u32,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let (ctx, container) = (Context::new(), engine.adopt(&Context::new(), id).await?);
        Ok(container.run().signal(&ctx, signal).await?)
    })
    .await?;
    print.result(
        &serde_json::json!({ "id": id.as_str(), "signal": signal }),
        || id.to_string(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Removes containers; each that cannot be removed is reported, and the others are removed all the same. `all` is every
/// container that there is.
pub(super) async fn rm(
    at: At<'_>,
    ids: &[ContainerId],
    all: bool,
    force: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let ids = if all {
            let seen = engine.list(&Context::new()).await?;
            seen.into_iter().map(|seen| seen.id).collect()
        } else {
            ids.to_vec()
        };
        Ok(each(engine, &ids, force, print).await)
    })
    .await
}

/// Removes the containers that have ended, but for those whose owner lives and will remove them itself.
pub(super) async fn prune(at: At<'_>, force: bool, print: &Print) -> Result<ExitCode, Failure> {
    if !force {
        confirm(at, "fnctr: remove all containers that have ended?".to_owned()).await?;
    }
    with(at, async |engine| {
        let seen = engine.list(&Context::new()).await?;
        let ended =
            |seen: &&Seen| matches!(seen.state, State::Exited(_) | State::Dead) && !seen.is_looked_after();
        let ids: Vec<_> = seen.iter().filter(ended).map(|seen| seen.id.clone()).collect();
        Ok(each(engine, &ids, false, print).await)
    })
    .await
}

async fn each(engine: &Engine, ids: &[ContainerId], force: bool, print: &Print) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match remove(engine, id, force).await {
            Ok(()) => print.result(&serde_json::json!({ "id": id.as_str(), "removed": true }), || {
                id.to_string()
            }),
            Err(error) => {
                code = ExitCode::FAILURE;
                print.failure(&error);
            }
        }
    }
    code
}

async fn remove(engine: &Engine, id: &ContainerId, force: bool) -> Result<(), Failure> {
    let ctx = Context::new();
    let seen = match engine.inspect(&ctx, id).await {
        // A runtime or a containerd that was killed may have left what no record stands for.
        Err(error) if error.kind() == Kind::NotFound => {
            return match engine.remove_remains(id, force).await? {
                true => Ok(()),
                false => Err(error.into()),
            };
        }
        seen => seen?,
    };
    if !force && matches!(seen.state, State::Running | State::Frozen | State::Lost) {
        let text = format!("container {id} is running: kill it first, or remove it with --force");
        return Err(Error::new(ErrorKind::Conflict, text).into());
    }
    let container = engine.adopt(&ctx, id).await?;
    Ok(container.remove().await?)
}
