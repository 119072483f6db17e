//! `prune`: removes the containers whose `fnctr run` was killed, and nothing else.

use std::process::ExitCode;

use super::Invocation;
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use crate::Context;

/// Removes orphaned containers. A container that cannot be removed is reported, and the others are still removed.
pub(super) async fn prune(invocation: Invocation<'_>, print: &Print) -> Result<ExitCode, Failure> {
    let pruned = with(invocation, async |engine| {
        Ok(engine.prune(&Context::new()).await?)
    })
    .await?;
    let mut code = ExitCode::SUCCESS;
    for (id, removed) in pruned {
        match removed {
            Ok(()) => print.result(&serde_json::json!({ "id": id.as_str(), "removed": true }), || {
                id.to_string()
            }),
            Err(error) => {
                code = ExitCode::FAILURE;
                print.failure(&error.into());
            }
        }
    }
    Ok(code)
}
