//! `start` and `restart`: run containers that are kept.

use std::process::ExitCode;

use super::At;
use super::args::containers::{IdsArgs, StopArgs};
use super::connect::with;
use super::containers::each;
use super::failure::Failure;
use super::output::Print;
use super::stop::how;
use crate::driver::{Error, ErrorKind};
use crate::engine::{Container, Custody, Engine, Kind};
use crate::{ContainerId, Context};

/// Starts containers. One that runs already stays as it is.
pub(super) async fn start(at: At<'_>, args: &IdsArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let start = async |id: &ContainerId| {
            let container = engine.adopt(&Context::new(), id).await?;
            if container.is_frozen() {
                let text = format!("container {id} is frozen: `fnctr thaw {id}` lets it go on");
                return Err(Error::new(ErrorKind::Conflict, text).into());
            }
            if !container.is_running() {
                begin(engine, &container).await?;
            }
            said(id, print);
            Ok(())
        };
        Ok(each(&args.ids, print, start).await)
    })
    .await
}

/// Stops containers and starts them again. One that does not run is started.
pub(super) async fn restart(at: At<'_>, args: &StopArgs, print: &Print) -> Result<ExitCode, Failure> {
    with(at, async |engine| {
        let restart = async |id: &ContainerId| {
            let ctx = Context::new();
            let container = engine.adopt(&ctx, id).await?;
            container.can_start(&ctx).await?;
            if container.is_running() {
                container.stop(&ctx, how(args)).await?;
            }
            begin(engine, &container).await?;
            said(id, print);
            Ok(())
        };
        Ok(each(&args.ids, print, restart).await)
    })
    .await
}

/// Starts a container and leaves it running when this process ends. If another process starts it at the same time, that
/// counts too.
async fn begin(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let custody = Custody {
        detached: true,
        limit: None,
    };
    let (ctx, id) = (Context::new(), container.id());
    match container.start_without_streams(&ctx, custody).await {
        Ok(_) => {
            container.leave().await;
            Ok(())
        }
        Err(error) if error.kind() == Kind::OutOfOrder => match engine.adopt(&ctx, id).await?.is_running() {
            true => Ok(()),
            false => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn said(id: &ContainerId, print: &Print) {
    let value = serde_json::json!({ "id": id.as_str(), "started": true });
    print.result(&value, || id.to_string());
}
