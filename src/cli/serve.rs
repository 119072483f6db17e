//! `serve`: looks after all containers until a signal ends it.

use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Invocation;
use super::connect::Connection;
use super::failure::Failure;
use super::output::Print;
use crate::Context;
use crate::engine::{Engine, Server, State};

/// Serves until a signal comes, and leaves all containers as they are.
pub(super) async fn serve(invocation: Invocation<'_>, print: &Print) -> Result<ExitCode, Failure> {
    // Several descriptors for each container that runs; the usual soft limit is for programs that use select(2).
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let connection = Connection::serving(invocation).await?;
    let served = invocation
        .interrupt
        .ctx()
        .run(begin(&connection.engine, invocation, print))
        .await;
    let done = match served {
        Ok(Ok(server)) => {
            invocation.interrupt.ctx().cancelled().await;
            server.close().await;
            Ok(ExitCode::SUCCESS)
        }
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::interrupted()),
    };
    connection.close().await;
    done
}

/// Becomes the server, and reports what there is.
async fn begin(engine: &Engine, invocation: Invocation<'_>, print: &Print) -> Result<Server, Failure> {
    let server = engine.serve(&Context::new()).await?;
    let containers = server.containers();
    let (all, namespace) = (containers.len(), &invocation.global.namespace);
    let run = containers
        .iter()
        .filter(|served| matches!(served.look().state, State::Running | State::Frozen))
        .count();
    let value = serde_json::json!({ "serving": namespace.as_str(), "containers": all, "running": run });
    print.result(&value, || {
        format!("serving containerd namespace {namespace}: {all} containers, of which {run} run")
    });
    Ok(server)
}
