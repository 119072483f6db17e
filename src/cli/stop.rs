//! `stop` and `wait`: end running containers, or wait until they end.

use std::process::ExitCode;

use super::Invocation;
use super::args::containers::{StopArgs, WaitArgs, WaitCondition};
use super::connect::with;
use super::containers::each;
use super::failure::Failure;
use super::output::Print;
use crate::engine::{Engine, Stop, Until};
use crate::{ContainerId, Context};

/// Ends containers by a signal, and by SIGKILL if they do not end in time. A container that has already ended counts as
/// stopped.
pub(super) async fn stop(
    invocation: Invocation<'_>,
    args: &StopArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let stop = async |id: &ContainerId| {
            let ctx = Context::new();
            let container = engine.adopt(&ctx, id).await?;
            container.note_stop().await?;
            let code = container.stop(&ctx, stop_request(args)).await?;
            let value = serde_json::json!({ "id": id.as_str(), "stopped": true, "exit_code": code });
            print.result(&value, || id.to_string());
            Ok(())
        };
        Ok(each(engine, &args.ids, print, stop).await)
    })
    .await
}

/// The engine's request for these options.
pub(super) fn stop_request(args: &StopArgs) -> Stop {
    Stop {
        signal: args.signal,
        grace: args.timeout,
    }
}

/// Waits for the end of containers, and prints their exit codes.
pub(super) async fn wait(
    invocation: Invocation<'_>,
    args: &WaitArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let until = match args.condition {
            WaitCondition::NotRunning => Until::NotRunning,
            WaitCondition::NextExit => Until::NextExit,
            WaitCondition::Removed => Until::Removed,
        };
        Ok(each(engine, &args.ids, print, async |id| {
            wait_for(engine, id, until, print).await
        })
        .await)
    })
    .await
}

async fn wait_for(engine: &Engine, id: &ContainerId, until: Until, print: &Print) -> Result<(), Failure> {
    let ctx = Context::new();
    let container = engine.adopt(&ctx, id).await?;
    if until == Until::NotRunning && container.has_never_run() {
        return Err(Failure::usage(format!(
            "container {id} has never run, so it has no end to wait for: `fnctr start {id}` starts it"
        )));
    }
    let Some(code) = container.wait_until(&ctx, until).await? else {
        return Err(Failure::lost(match until {
            Until::NotRunning => format!("container {id} has ended, and its exit code is lost"),
            Until::NextExit => {
                format!("container {id} was removed before it ended again, or its exit code is lost")
            }
            Until::Removed => format!("container {id} was removed, and no exit code of it is known"),
        }));
    };
    print.result(
        &serde_json::json!({ "id": id.as_str(), "exit_code": code }),
        || code.to_string(),
    );
    Ok(())
}
