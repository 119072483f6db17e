//! `freeze`, `thaw`, `kill`, `rm` and `container prune`, on containers that another process may have made.

use std::process::ExitCode;

use tokio::time::Instant;

use super::Invocation;
use super::args::containers::{FreezeArgs, IdsArgs, KillArgs, RmArgs};
use super::confirm::confirm;
use super::connect::with;
use super::container_ref::ContainerRef;
use super::failure::Failure;
use super::output::Print;
use crate::driver::{Error, ErrorKind};
use crate::engine::{self, Action, Engine, Kind, ListedContainer, State, Step, is_stop};
use crate::{ByteSize, ContainerId, Context};

/// Freezes containers, and prints how long this took. With `--reclaim`, then takes memory back and prints how much.
pub(super) async fn freeze(
    invocation: Invocation<'_>,
    args: &FreezeArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        Ok(each(engine, &args.ids, print, async |id| {
            turn(engine, id, print, true, args.reclaim).await
        })
        .await)
    })
    .await
}

/// Thaws containers, and prints how long this took.
pub(super) async fn thaw(
    invocation: Invocation<'_>,
    args: &IdsArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        Ok(each(engine, &args.ids, print, async |id| {
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
    let step = if freeze { Step::Freeze } else { Step::Thaw };
    let run = container.run_for(step)?;
    // Check first, so that a host that cannot reclaim memory leaves the container unfrozen.
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
    run.tell(if freeze { Action::Pause } else { Action::Unpause });
    let reclaimed = match reclaim {
        true => Some(run.reclaim(&ctx).await?.bytes),
        false => None,
    };
    // Round to a tenth, because finer digits are noise.
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

/// Sends a signal to containers.
pub(super) async fn kill(
    invocation: Invocation<'_>,
    args: &KillArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let send = async |id: &ContainerId| {
            let ctx = Context::new();
            let container = engine.adopt(&ctx, id).await?;
            if is_stop(args.signal) {
                container.note_stop().await?;
            }
            container.run_for(Step::Signal)?.signal(&ctx, args.signal).await?;
            let value = serde_json::json!({ "id": id.as_str(), "signal": args.signal });
            print.result(&value, || id.to_string());
            Ok(())
        };
        Ok(each(engine, &args.ids, print, send).await)
    })
    .await
}

/// Removes containers. A container that cannot be removed is reported, and the others are still removed.
pub(super) async fn rm(
    invocation: Invocation<'_>,
    args: &RmArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let ids = if args.all {
            let containers = engine.list(&Context::new()).await?;
            containers
                .into_iter()
                .map(|container| container.id.into())
                .collect()
        } else {
            args.ids.clone()
        };
        let how = Removal {
            force: args.force,
            with_volumes: args.volumes,
        };
        Ok(each(engine, &ids, print, async |id| match args.all {
            true => remove_listed(engine, id, how, print).await,
            false => remove(engine, id, how, print).await,
        })
        .await)
    })
    .await
}

/// Removes the containers that have ended, except those whose owner is alive and will remove them itself.
pub(super) async fn prune(
    invocation: Invocation<'_>,
    force: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    if !force {
        confirm(
            invocation,
            "fnctr: remove all containers that have ended?".to_owned(),
        )
        .await?;
    }
    with(invocation, async |engine| {
        let containers = engine.list(&Context::new()).await?;
        let ended = |container: &&ListedContainer| {
            matches!(container.state, State::Exited(_) | State::Dead) && !container.is_looked_after()
        };
        let ids: Vec<_> = containers
            .iter()
            .filter(ended)
            .map(|container| container.id.clone().into())
            .collect();
        Ok(each(engine, &ids, print, async |id| {
            remove_listed(engine, id, Removal::default(), print).await
        })
        .await)
    })
    .await
}

/// How containers are removed.
#[derive(Debug, Clone, Copy, Default)]
struct Removal {
    /// Those that run, too.
    force: bool,
    /// With the volumes without a name that they alone use.
    with_volumes: bool,
}

/// Does `work` for each container. A failure is reported, and does not stop the work for the others.
pub(super) async fn each(
    engine: &Engine,
    containers: &[ContainerRef],
    print: &Print,
    work: impl AsyncFn(&ContainerId) -> Result<(), Failure>,
) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for container in containers {
        let done = async { work(&container.id(engine).await?).await };
        if let Err(failure) = done.await {
            code = ExitCode::FAILURE;
            print.failure(&failure);
        }
    }
    code
}

/// Removes a container that was in a list a moment ago. One that is gone by now was removed by its owner.
async fn remove_listed(
    engine: &Engine,
    id: &ContainerId,
    how: Removal,
    print: &Print,
) -> Result<(), Failure> {
    remove_if_there(engine, id, how, print).await.map(drop)
}

async fn remove(engine: &Engine, id: &ContainerId, how: Removal, print: &Print) -> Result<(), Failure> {
    match remove_if_there(engine, id, how, print).await? {
        None => Ok(()),
        Some(missing) => Err(missing.into()),
    }
}

/// Removes a container, or what is left of one without a record. Returns the error that says that there is none.
async fn remove_if_there(
    engine: &Engine,
    id: &ContainerId,
    Removal { force, with_volumes }: Removal,
    print: &Print,
) -> Result<Option<engine::Error>, Failure> {
    let removed = || {
        let value = serde_json::json!({ "id": id.as_str(), "removed": true });
        print.result(&value, || id.to_string());
    };
    let ctx = Context::new();
    let container = match engine.inspect(&ctx, id).await {
        // If the runtime or containerd was killed, parts of a container may be left without a record.
        Err(error) if error.kind() == Kind::NotFound => {
            return match engine.remove_remains(id, force).await? {
                true => {
                    removed();
                    Ok(None)
                }
                false => Ok(Some(error)),
            };
        }
        found => found?.0,
    };
    if !force && matches!(container.state, State::Running | State::Frozen | State::Lost) {
        let does = if container.state == State::Frozen {
            "frozen"
        } else {
            "running"
        };
        let text = format!("container {id} is {does}: stop it first, or remove it with --force");
        return Err(Error::new(ErrorKind::Conflict, text).into());
    }
    let container = engine.adopt(&ctx, id).await?;
    let used = match with_volumes {
        true => engine.volumes_of(&ctx, id).await?,
        false => Vec::new(),
    };
    match force {
        true => container.remove().await?,
        false => container.remove_unless_started().await?,
    }
    engine.remove_anonymous_volumes(&ctx, &used).await;
    removed();
    Ok(None)
}
