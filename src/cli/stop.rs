//! `stop` and `wait`: end running containers, or wait until they end.

use std::process::ExitCode;
use std::time::Duration;

use super::At;
use super::args::containers::{IdsArgs, StopArgs};
use super::connect::with;
use super::containers::each;
use super::failure::Failure;
use super::output::Print;
use crate::engine::{Engine, Kind, Run};
use crate::{ContainerId, Context};

const SIGKILL: u32 = 9;

/// Ends containers by a signal, and by SIGKILL if they do not end in time. A container that has already ended counts as
/// stopped.
pub(super) async fn stop(at: At<'_>, args: &StopArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let stop = async |id: &ContainerId| {
            let container = engine.adopt(&Context::new(), id).await?;
            let code = end(container.run(), args.signal, args.timeout).await?;
            let value = serde_json::json!({ "id": id.as_str(), "stopped": true, "exit_code": code });
            print.result(&value, || id.to_string());
            Ok(())
        };
        Ok(each(&args.ids, print, stop).await)
    })
    .await
}

/// Ends a run, and returns its exit code if it is known.
async fn end(run: &Run, signal: u32, grace: Duration) -> Result<Option<u32>, Failure> {
    let ctx = Context::new();
    // A frozen container receives a signal only after it has thawed. If the thaw fails, the container has ended, or it
    // is killed below.
    if run.exit_now().is_none() {
        drop(run.thaw(&ctx).await);
    }
    for (signal, grace) in [(signal, Some(grace)), (SIGKILL, None)] {
        match run.signal(&ctx, signal).await {
            Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
            _ => {}
        }
        let ended = run.wait_exit();
        let ended = match grace {
            Some(grace) => tokio::time::timeout(grace, ended).await,
            None => Ok(ended.await),
        };
        if let Ok(exit) = ended {
            return Ok(exit.and_then(|exit| exit.code));
        }
    }
    Ok(None)
}

/// Waits for the end of containers, and prints their exit codes.
pub(super) async fn wait(at: At<'_>, args: &IdsArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        Ok(each(&args.ids, print, async |id| wait_for(engine, id, print).await).await)
    })
    .await
}

async fn wait_for(engine: &Engine, id: &ContainerId, print: &Print) -> Result<(), Failure> {
    let container = engine.adopt(&Context::new(), id).await?;
    let exit = container.run().wait_exit().await;
    let Some(code) = exit.and_then(|exit| exit.code) else {
        return Err(Failure::lost(format!(
            "container {id} has ended, and its exit code is lost"
        )));
    };
    print.result(
        &serde_json::json!({ "id": id.as_str(), "exit_code": code }),
        || code.to_string(),
    );
    Ok(())
}
