//! `serve`: looks after all containers until a signal ends it, and serves Docker's API if that is asked for.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Invocation;
use super::args::serve::ServeArgs;
use super::connect::Connection;
use super::failure::Failure;
use super::output::Print;
use crate::Context;
use crate::docker_api::{Access, DockerApi, Limits, SocketError, listen};
use crate::engine::{Engine, Server, State};

/// How long requests may take to come to their end after the signal.
const GRACE: Duration = Duration::from_secs(20);

/// Serves until a signal comes, and leaves all containers as they are.
pub(super) async fn serve(
    invocation: Invocation<'_>,
    args: &ServeArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    // Several descriptors for each container that runs; the usual soft limit is for programs that use select(2).
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let access = Access::of_group(args.docker_group.as_deref()).map_err(refused)?;
    let connection = Connection::serving(invocation).await?;
    let served = invocation
        .interrupt
        .ctx()
        .run(begin(&connection.engine, invocation, args, print))
        .await;
    let done = match served {
        Ok(Ok(server)) => until_signal(&connection.engine, invocation, args, access, server).await,
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::interrupted()),
    };
    connection.close().await;
    done
}

/// Serves Docker's API, or just waits, until the signal.
async fn until_signal(
    engine: &Engine,
    invocation: Invocation<'_>,
    args: &ServeArgs,
    access: Access,
    server: Server,
) -> Result<ExitCode, Failure> {
    let interrupted = invocation.interrupt.ctx();
    let server = Arc::new(server);
    let done = match &args.docker_socket {
        None => {
            interrupted.cancelled().await;
            Ok(ExitCode::SUCCESS)
        }
        Some(socket) => match listen(socket, access) {
            Err(error) => Err(refused(error)),
            Ok(listener) => {
                let api = DockerApi::new(engine.clone(), Arc::clone(&server), Limits::default());
                api.removing(socket).serve(interrupted, listener, GRACE).await;
                Ok(ExitCode::SUCCESS)
            }
        },
    };
    server.close().await;
    done
}

fn refused(error: SocketError) -> Failure {
    Failure::usage(crate::chain(&error))
}

/// Becomes the server, and reports what there is.
async fn begin(
    engine: &Engine,
    invocation: Invocation<'_>,
    args: &ServeArgs,
    print: &Print,
) -> Result<Server, Failure> {
    let server = engine.serve(&Context::new()).await?;
    let containers = server.containers();
    let (all, namespace) = (containers.len(), &invocation.global.namespace);
    let run = containers
        .iter()
        .filter(|served| matches!(served.look().state, State::Running | State::Frozen))
        .count();
    let mut value = serde_json::json!({ "serving": namespace.as_str(), "containers": all, "running": run });
    if let (Some(socket), Some(value)) = (&args.docker_socket, value.as_object_mut()) {
        value.insert("docker_socket".to_owned(), socket.display().to_string().into());
    }
    print.result(&value, || {
        format!("serving containerd namespace {namespace}: {all} containers, of which {run} run")
    });
    Ok(server)
}
