//! `POST /containers/{id}/start`.

use std::sync::Arc;

use hyper::StatusCode;

use super::failure;
use super::front::Front;
use super::log_driver::{self, SyslogConfig};
use super::remove;
use crate::Context;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{self, Kind, NoSyslog, NotStarted, Served, StartedBy, State, Step, Streams, Syslog};

/// Starts a container. It comes to its end whether or not the client waits for it.
pub(in crate::docker_api) async fn start(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    if request.has_body() {
        return Err(Refused::bad(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let served = door.container(given)?;
    match served.look().state {
        State::Running => return Ok(Answer::empty(StatusCode::NOT_MODIFIED)),
        State::Frozen => {
            return Err(Refused::conflict(
                "cannot start a paused container, try unpause instead",
            ));
        }
        _ => {}
    }
    let this = Arc::clone(door);
    let started = door.finish(async move { Ok(start_now(&this, &served, StartedBy::User).await) });
    match started.await? {
        Started::Now => Ok(Answer::empty(StatusCode::NO_CONTENT)),
        Started::Already => Ok(Answer::empty(StatusCode::NOT_MODIFIED)),
        Started::Not(refused) => Err(refused),
    }
}

/// How a start has gone.
pub(super) enum Started {
    Now,
    Already,
    Not(Refused),
}

/// Lets the server start containers again, as this front door starts them.
pub(in crate::docker_api) fn start_again(door: &Arc<Door>) {
    let this = Arc::downgrade(door);
    door.server.set_starter(Arc::new(move |served, by| {
        let this = this.clone();
        Box::pin(async move {
            // The server ends.
            let Some(door) = this.upgrade() else { return true };
            match start_now(&door, &served, by).await {
                Started::Now | Started::Already => true,
                Started::Not(refused) => {
                    tracing::warn!(id = %served.id(), error = refused.message, "cannot start a container again");
                    false
                }
            }
        })
    }));
    door.server.begin_restarts();
}

/// Starts a container, and removes it if it fails and is to be removed at its end.
pub(super) async fn start_now(door: &Arc<Door>, served: &Arc<Served>, by: StartedBy) -> Started {
    let front = Front::of(served).unwrap_or_default();
    let log_config = &front.body.host_config.log_config;
    let started = match log_driver::syslog(log_config, served.id().as_str()) {
        Ok(syslog) => start_with(door, served, (&front, by), syslog).await,
        Err(refused) => Err(refused),
    };
    match started {
        Ok(Started::Now) => {
            remove::at_its_end(door, served, &front);
            Started::Now
        }
        Ok(other) => other,
        Err(refused) => {
            if front.is_removed_at_its_end()
                && let Err(error) = door.server.remove_unless_started(served).await
            {
                tracing::warn!(id = %served.id(), error = %crate::chain(&error), "cannot remove a container that was not started");
            }
            Started::Not(refused)
        }
    }
}

async fn start_with(
    door: &Door,
    served: &Arc<Served>,
    (front, by): (&Front, StartedBy),
    syslog: Option<SyslogConfig>,
) -> Result<Started, Refused> {
    let (engine, id) = (door.engine.clone(), served.id().clone());
    let streams = |ctx: Context, streams: Streams| async move {
        let Some(SyslogConfig { endpoint, tag }) = syslog else {
            return Ok(streams);
        };
        let log = Syslog::connect(&ctx, &endpoint, &tag, engine.tracker(), engine.counters()).await;
        // Its words stand on the record, where a wait and an inspection find them.
        let log =
            log.map_err(|error| engine::Error::new(Step::Stdio, id, Kind::Unavailable, NoLog(error)))?;
        Ok(log.attach(streams))
    };
    let started = door
        .server
        .start(&Context::new(), served, front.is_fed(), by, streams)
        .await;
    match started {
        Ok(()) => Ok(Started::Now),
        Err(error) if NotStarted::is_because_it_runs(&error) => Ok(Started::Already),
        Err(error) => Err(refused(&error)),
    }
}

/// The words are those that Fn looks for.
#[derive(Debug, thiserror::Error)]
#[error("failed to initialize logging driver")]
struct NoLog(#[source] NoSyslog);

/// What Docker says of a start that has failed; clients look for some of the words.
fn refused(error: &engine::Error) -> Refused {
    let text = failure::words(&crate::chain(error));
    let of_command = [
        "executable file not found",
        "no such file or directory",
        "permission denied",
    ];
    let is_of_command = of_command.iter().any(|words| text.contains(words));
    let to_create = |text: &str| match text.starts_with("failed to ") {
        true => text.to_owned(),
        false => format!("failed to create task for container: {text}"),
    };
    match (error.step(), error.kind()) {
        (_, Kind::CommandNotFound | Kind::CommandNotExecutable) => Refused::bad(to_create(&text)),
        (Step::Task | Step::Start, Kind::Internal | Kind::Unsupported | Kind::NotFound) if is_of_command => {
            Refused::bad(to_create(&text))
        }
        (Step::Network, _) if text.starts_with("cannot join network") => Refused::conflict(text),
        (Step::Network, _) if text.starts_with("joining network namespace") => Refused::failed(text),
        (Step::Network, Kind::Conflict) => Refused::failed(format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint: port is \
             already allocated: {text}"
        )),
        (Step::Network, _) if text.starts_with("failed to set up") => Refused::missing(text),
        (Step::Network, Kind::NotFound | Kind::Unsupported | Kind::InvalidPlan) => {
            Refused::missing(format!("failed to set up container networking: {text}"))
        }
        (_, Kind::NotFound) => Refused::missing(text),
        (_, Kind::OutOfOrder | Kind::Conflict | Kind::Busy) => Refused::conflict(text),
        _ => Refused::failed(to_create(&text)),
    }
}
