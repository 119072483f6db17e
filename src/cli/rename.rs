//! `rename`: gives a container another name.

use std::process::ExitCode;

use super::Invocation;
use super::args::containers::RenameArgs;
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use crate::Context;

/// Gives a container another name.
pub(super) async fn rename(
    invocation: Invocation<'_>,
    args: &RenameArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let ctx = Context::new();
        let container = engine.adopt(&ctx, &args.container.id(engine).await?).await?;
        container.rename(args.name.clone()).await?;
        let value = serde_json::json!({ "id": container.id().as_str(), "name": args.name.as_str() });
        print.result(&value, || args.name.to_string());
        Ok(ExitCode::SUCCESS)
    })
    .await
}
