//! `serve`: looks after all containers until a signal ends it.

use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Invocation;
use super::connect::Connection;
use super::failure::Failure;
use super::output::Print;
use super::ps::state_of;
use crate::Context;
use crate::engine::{Engine, Server};

/// Serves until a signal comes, and leaves all containers as they are.
pub(super) async fn serve(at: Invocation<'_>, print: &Print) -> Result<ExitCode, Failure> {
    // Several descriptors for each container that runs; the usual soft limit is for programs that use select(2).
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let connection = Connection::serving(at).await?;
    let served = at.interrupt.ctx().run(begin(&connection.engine, at, print)).await;
    let done = match served {
        Ok(Ok(server)) => {
            at.interrupt.ctx().cancelled().await;
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
async fn begin(engine: &Engine, at: Invocation<'_>, print: &Print) -> Result<Server, Failure> {
    let server = engine.serve(&Context::new()).await?;
    let containers = server.containers();
    let (all, namespace) = (containers.len(), &at.global.namespace);
    let run = containers
        .iter()
        .filter(|served| matches!(state_of(&served.look()), "running" | "frozen"))
        .count();
    let value = serde_json::json!({ "serving": namespace.as_str(), "containers": all, "running": run });
    print.result(&value, || {
        format!("serving containerd namespace {namespace}: {all} containers, of which {run} run")
    });
    Ok(server)
}
