//! `serve`: looks after all containers until a signal ends it, and serves Docker's API if that is asked for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use serde_json::json;
use tokio::net::UnixListener;

use super::Invocation;
use super::args::serve::ServeArgs;
use super::connect::Connection;
use super::failure::Failure;
use super::output::Print;
use crate::docker_api::{
    Access, DefaultLog, DockerApi, INHERITED, Limits, MetricsPage, SocketError, default_log, inherited,
    listen,
};
use crate::engine::{Engine, Server, State};
use crate::{Context, idle_memory};

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
    let place = DockerPlace::of(args).map_err(refused)?;
    let log = default_log(&args.log_driver, args.log_opt.iter().cloned().collect());
    let log = log.map_err(|why| Failure::usage(format!("--log-driver and --log-opt: {why}")))?;
    let connection = Connection::serving(invocation, |config| {
        config.pre_fork_pool_size = args.network_pool.map_or(0, u64::from);
        // A client of Docker's API expects that no container had its namespace before.
        config.pre_fork_use_once = u64::from(!args.network_pool_reuse);
    });
    let connection = connection.await?;
    let engine = &connection.engine;
    let interrupted = invocation.interrupt.ctx();
    let served = interrupted.run(engine.serve(&Context::new())).await;
    let done = match served {
        Ok(Ok(server)) => {
            let server = Arc::new(server);
            // Now that no other server can have the same socket.
            let opened = Doors::open(args, place).await;
            let done = match opened {
                Ok(doors) => {
                    report(&server, &doors, invocation, args, print);
                    serve_doors(engine, interrupted, doors, log, &server).await;
                    Ok(ExitCode::SUCCESS)
                }
                Err(failure) => Err(failure),
            };
            server.close().await;
            done
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::interrupted()),
    };
    connection.close().await;
    done
}

/// Where Docker's clients come in, as far as that is known before this process is the server.
enum DockerPlace {
    Nowhere,
    /// A socket of systemd's.
    Inherited(UnixListener),
    /// A socket that is made here.
    Path(PathBuf, Access),
}

impl DockerPlace {
    fn of(args: &ServeArgs) -> Result<Self, SocketError> {
        match (&args.docker_socket, &args.docker_group) {
            (None, _) => Ok(Self::Nowhere),
            (Some(path), None) if path.as_os_str() == INHERITED => inherited().map(Self::Inherited),
            (Some(path), Some(_)) if path.as_os_str() == INHERITED => Err(SocketError::NotOurs),
            (Some(path), group) => {
                let access = Access::of_group(group.as_deref())?;
                Ok(Self::Path(path.clone(), access))
            }
        }
    }
}

/// Where clients come in.
struct Doors {
    docker: Option<DockerDoor>,
    metrics: Option<MetricsPage>,
}

struct DockerDoor {
    listener: UnixListener,
    /// The path that is removed at the end; systemd removes its own.
    path: Option<PathBuf>,
}

impl Doors {
    async fn open(args: &ServeArgs, place: DockerPlace) -> Result<Self, Failure> {
        let metrics = match args.metrics_addr {
            None => None,
            Some(at) => Some(MetricsPage::bind(at).await.map_err(|error| {
                Failure::usage(format!("--metrics-addr: cannot listen on {at}: {error}"))
            })?),
        };
        // Last, because it makes a file.
        let docker = match place {
            DockerPlace::Nowhere => None,
            DockerPlace::Inherited(listener) => Some(DockerDoor { listener, path: None }),
            DockerPlace::Path(path, access) => Some(DockerDoor {
                listener: listen(&path, access).map_err(refused)?,
                path: Some(path),
            }),
        };
        Ok(Self { docker, metrics })
    }
}

/// Serves the doors, or just waits, until the signal.
async fn serve_doors(
    engine: &Engine,
    interrupted: &Context,
    doors: Doors,
    log: DefaultLog,
    server: &Arc<Server>,
) {
    let Doors { docker, metrics } = doors;
    let docker = async {
        let Some(DockerDoor { listener, path }) = docker else {
            server.begin_restarts();
            interrupted.cancelled().await;
            return;
        };
        let api = DockerApi::new(engine.clone(), Arc::clone(server), Limits::default(), log);
        let api = match &path {
            Some(path) => api.removing(path),
            None => api,
        };
        api.serve(interrupted, listener, GRACE).await;
    };
    let metrics = async {
        if let Some(page) = metrics {
            page.serve(interrupted, engine).await;
        }
    };
    tell(&[NotifyState::Ready]);
    let stopping = async {
        interrupted.cancelled().await;
        tell(&[NotifyState::Stopping]);
    };
    tokio::join!(docker, metrics, stopping, idle_memory::keep_small(interrupted));
}

/// Tells systemd, if it has started this process and asks to be told (sd_notify(3)).
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "cannot tell systemd");
    }
}

fn refused(error: SocketError) -> Failure {
    Failure::usage(crate::chain(&error))
}

/// Reports what there is, and where clients come in.
fn report(server: &Server, doors: &Doors, invocation: Invocation<'_>, args: &ServeArgs, print: &Print) {
    let containers = server.containers();
    let (all, namespace) = (containers.len(), &invocation.global.namespace);
    let run = containers
        .iter()
        .filter(|served| matches!(served.look().state, State::Running | State::Frozen))
        .count();
    let mut value = json!({ "serving": namespace.as_str(), "containers": all, "running": run });
    if let Some(socket) = &args.docker_socket {
        value["docker_socket"] = json!(socket.display().to_string());
    }
    let metrics = doors.metrics.as_ref().and_then(|page| page.address().ok());
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    if let Some(metrics) = &metrics {
        value["metrics"] = json!(metrics);
    }
    print.result(&value, || {
        let metrics = metrics.map(|at| format!("; metrics at {at}")).unwrap_or_default();
        format!("serving containerd namespace {namespace}: {all} containers, of which {run} run{metrics}")
    });
}
