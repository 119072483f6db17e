//! `freeze`, `thaw`, `kill`, `rm`, `container prune`: containers that an earlier process may have made.

use std::process::ExitCode;

use tokio::time::Instant;

use super::At;
use super::args::containers::{FreezeArgs, IdsArgs, KillArgs, RmArgs};
use super::confirm::confirm;
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use crate::driver::{Error, ErrorKind};
use crate::engine::{Engine, Kind, Seen, State};
use crate::{ByteSize, ContainerId, Context};

/// Freezes containers, and says how long it took; then takes memory back from them if asked to, and says how much.
pub(super) async fn freeze(at: At<'_>, args: &FreezeArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        Ok(each(&args.ids, print, async |id| {
            turn(engine, id, print, true, args.reclaim).await
        })
        .await)
    })
    .await
}

/// Thaws containers, and says how long it took.
pub(super) async fn thaw(at: At<'_>, args: &IdsArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        Ok(each(&args.ids, print, async |id| {
            turn(engine, id, print, false, false).await
        })
        .await)
    })
    .await
}

async fn turn(
    engine: &Engine,
    id: &ContainerId,
    print: &Print,
    freeze: bool,
    reclaim: bool,
) -> Result<(), Failure> {
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
        true => Some(run.reclaim(&ctx).await?.bytes),
        false => None,
    };
    // To a tenth: what lies below is noise.
    let us = (took.as_secs_f64() * 1e7).round() / 10.0;
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
    Ok(())
}

/// Sends a signal.
pub(super) async fn kill(at: At<'_>, args: &KillArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let send = async |id: &ContainerId| {
            let ctx = Context::new();
            let container = engine.adopt(&ctx, id).await?;
            container.run().signal(&ctx, args.signal).await?;
            let value = serde_json::json!({ "id": id.as_str(), "signal": args.signal });
            print.result(&value, || id.to_string());
            Ok(())
        };
        Ok(each(&args.ids, print, send).await)
    })
    .await
}

/// Removes containers; each that cannot be removed is reported, and the others are removed all the same.
pub(super) async fn rm(at: At<'_>, args: &RmArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let ids = if args.all {
            let seen = engine.list(&Context::new()).await?;
            seen.into_iter().map(|seen| seen.id).collect()
        } else {
            args.ids.clone()
        };
        Ok(each(&ids, print, async |id| {
            remove(engine, id, args.force, print).await
        })
        .await)
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
        Ok(each(&ids, print, async |id| remove(engine, id, false, print).await).await)
    })
    .await
}

/// Does the same to each. One of which it fails is reported, and does not keep the others.
pub(super) async fn each(
    ids: &[ContainerId],
    print: &Print,
    work: impl AsyncFn(&ContainerId) -> Result<(), Failure>,
) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        if let Err(failure) = work(id).await {
            code = ExitCode::FAILURE;
            print.failure(&failure);
        }
    }
    code
}

async fn remove(engine: &Engine, id: &ContainerId, force: bool, print: &Print) -> Result<(), Failure> {
    let removed = || {
        let value = serde_json::json!({ "id": id.as_str(), "removed": true });
        print.result(&value, || id.to_string());
    };
    let ctx = Context::new();
    let seen = match engine.inspect(&ctx, id).await {
        // A runtime or a containerd that was killed may have left what no record stands for.
        Err(error) if error.kind() == Kind::NotFound => {
            return match engine.remove_remains(id, force).await? {
                true => {
                    removed();
                    Ok(())
                }
                false => Err(error.into()),
            };
        }
        seen => seen?,
    };
    if !force && matches!(seen.state, State::Running | State::Frozen | State::Lost) {
        let does = if seen.state == State::Frozen {
            "frozen"
        } else {
            "running"
        };
        let text = format!("container {id} is {does}: stop it first, or remove it with --force");
        return Err(Error::new(ErrorKind::Conflict, text).into());
    }
    let container = engine.adopt(&ctx, id).await?;
    container.remove().await?;
    removed();
    Ok(())
}
