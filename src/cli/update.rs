//! `update`: changes the limits of containers.

use std::process::ExitCode;

use super::Invocation;
use super::args::limits::UpdateArgs;
use super::connect::with;
use super::containers::each;
use super::failure::Failure;
use super::output::Print;
use crate::engine::Update;
use crate::{ContainerId, Context};

/// Changes the limits of containers, whether they run or not.
pub(super) async fn update(
    invocation: Invocation<'_>,
    args: &UpdateArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let limits = args.limits();
    if limits.is_empty() && args.restart.is_none() {
        return Err(Failure::usage(
            "update needs a limit to change, such as --memory, --cpus or --pids, or --restart",
        ));
    }
    with(invocation, async |engine| {
        let update = async |id: &ContainerId| {
            let container = engine.adopt(&Context::new(), id).await?;
            let update = Update {
                limits: limits.clone(),
                restart: args.restart,
                front: None,
            };
            container.update(update).await?;
            let value = serde_json::json!({ "id": id.as_str(), "updated": true });
            print.result(&value, || id.to_string());
            Ok(())
        };
        Ok(each(engine, &args.ids, print, update).await)
    })
    .await
}
