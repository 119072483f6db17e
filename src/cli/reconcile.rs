//! `reconcile`: removes what nothing needs any more, and reports it.

use std::process::ExitCode;

use super::Invocation;
use super::connect::Connection;
use super::failure::Failure;
use super::output::Print;
use crate::Context;
use crate::engine::Engine;

/// Shows what killed processes have left, and removes it unless this is a dry run.
pub(super) async fn reconcile(
    invocation: Invocation<'_>,
    dry_run: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let connection = Connection::observe(invocation).await?;
    let done = invocation
        .interrupt
        .ctx()
        .run(work(&connection.engine, dry_run, print))
        .await;
    connection.close().await;
    done.unwrap_or_else(|_| Err(Failure::interrupted()))
}

async fn work(engine: &Engine, dry_run: bool, print: &Print) -> Result<ExitCode, Failure> {
    let strays = engine.strays(&Context::new()).await;
    let mut failed = false;
    for found in strays.found {
        let mended = match dry_run {
            true => Ok(()),
            false => engine.mend(&found).await,
        };
        let (object, id, why) = (found.kind.object(), &found.id, found.kind.to_string());
        match mended {
            Ok(()) => {
                let value = serde_json::json!({ "object": object, "id": id, "why": why, "mended": !dry_run });
                print.result(&value, || match dry_run {
                    true => format!("{object} {id} would be {}: {why}", found.kind.outcome()),
                    false => format!("{object} {id} is {}: {why}", found.kind.outcome()),
                });
            }
            Err(error) => {
                failed = true;
                print.failure(&error.into());
            }
        }
    }
    if let Some(error) = strays.failed {
        return Err(error.into());
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
