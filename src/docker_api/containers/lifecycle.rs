//! Stop, restart, kill, pause and unpause.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use super::front::Front;
use super::running::{alive, not_running, running, signal};
use super::start::{Started, start_now};
use crate::Context;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{Action, Kind, RestartPolicy, Served, StartedBy, State, Stop, is_stop};

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;
/// How long a container may take to end after its signal.
const GRACE: Duration = Duration::from_secs(10);
/// How long the answer to SIGKILL waits for the container to be dead.
const DEATH: Duration = Duration::from_secs(10);

/// Ends a container.
pub(in crate::docker_api) async fn stop(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let how = how_to_stop(&served, request)?;
    let was_alive = is_alive(&served);
    if !was_alive && !has_policy(&served) {
        return Ok(Answer::empty(StatusCode::NOT_MODIFIED));
    }
    note_stop(&served).await?;
    if !is_alive(&served) {
        // Between two runs, there is no process to end: with the note, it has been stopped.
        return Ok(Answer::empty(match was_alive {
            true => StatusCode::NO_CONTENT,
            false => StatusCode::NOT_MODIFIED,
        }));
    }
    door.finish(async move {
        served
            .container()
            .stop(&Context::new(), how)
            .await
            .map(drop)
            .map_err(Refused::from)
    })
    .await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Ends a container if it runs, and starts it.
pub(in crate::docker_api) async fn restart(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let how = how_to_stop(&served, request)?;
    let this = Arc::clone(door);
    let again = async move {
        this.set_restarting(served.id(), true);
        note_stop(&served).await?;
        let stopped = served.container().stop(&Context::new(), how).await;
        let started = match stopped {
            Ok(_) => start_now(&this, &served, StartedBy::User).await,
            Err(error) => Started::Not(error.into()),
        };
        this.set_restarting(served.id(), false);
        match started {
            Started::Now | Started::Already => Ok(()),
            Started::Not(refused) => Err(refused),
        }
    };
    door.finish(again).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Sends a signal. The answer to SIGKILL comes when the container is dead.
pub(in crate::docker_api) async fn kill(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let name = given.trim_start_matches('/');
    let served = door.container(given).map_err(|mut refused| {
        refused.message = format!("cannot kill container: {name}: {}", refused.message);
        refused
    })?;
    let signal = match request.query.get("signal") {
        None => SIGKILL,
        Some(text) => signal(text).map_err(|mut refused| {
            refused.message = format!("cannot kill container: {name}: {}", refused.message);
            refused
        })?,
    };
    let not_running = || {
        let id = served.id();
        Refused::conflict(format!(
            "cannot kill container: {name}: container {id} is not running"
        ))
    };
    if ends(&served, signal) {
        let was_restarting = served.is_restarting();
        let noted = note_stop(&served).await;
        // A kill does not wait until containerd answers again.
        if signal != SIGKILL {
            noted?;
        }
        if alive(&served).is_none() && was_restarting {
            return Ok(Answer::empty(StatusCode::NO_CONTENT));
        }
    }
    let run = alive(&served).ok_or_else(not_running)?;
    match run.signal(&Context::new(), signal).await {
        Err(error) if error.kind() == Kind::NotFound => return Err(not_running()),
        sent => sent?,
    }
    if signal == SIGKILL {
        // A process that the kernel does not let go is reported by the next look at the container.
        drop(tokio::time::timeout(DEATH, run.wait_exit()).await);
    }
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Freezes a container.
pub(in crate::docker_api) async fn pause(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let run = running(&served)?;
    if served.container().is_frozen() {
        return Err(Refused::conflict(format!(
            "Container {} is already paused",
            served.id()
        )));
    }
    turned(&served, run.freeze(&Context::new()).await)?;
    run.tell(Action::Pause);
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Thaws a container.
pub(in crate::docker_api) async fn unpause(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let run = alive(&served).filter(|_| served.container().is_frozen());
    let run = run.ok_or_else(|| Refused::failed(format!("Container {} is not paused", served.id())))?;
    turned(&served, run.thaw(&Context::new()).await)?;
    run.tell(Action::Unpause);
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

fn turned(served: &Served, turned: Result<(), crate::engine::Error>) -> Result<(), Refused> {
    match turned {
        Err(error) if error.kind() == Kind::NotFound => Err(not_running(served)),
        turned => Ok(turned?),
    }
}

fn is_alive(served: &Served) -> bool {
    alive(served).is_some() || matches!(served.look().state, State::Lost | State::Restarting)
}

/// Whether a signal is one that a user ends a container with: the container's own, if it has one, or one of the usual.
fn ends(served: &Served, sent: u32) -> bool {
    let front = Front::of(served).unwrap_or_default();
    match signal(&front.body.config.stop_signal) {
        Ok(own) => sent == SIGKILL || own == sent,
        Err(_) => is_stop(sent),
    }
}

fn has_policy(served: &Served) -> bool {
    served.plan().is_ok_and(|plan| plan.restart != RestartPolicy::No)
}

/// Notes that a user ends a container that has a restart policy, and gives a restart up that is about to happen.
async fn note_stop(served: &Served) -> Result<(), Refused> {
    if !has_policy(served) {
        return Ok(());
    }
    served.cancel_restart();
    Ok(served.container().note_stop().await?)
}

fn how_to_stop(served: &Served, request: &Request) -> Result<Stop, Refused> {
    let front = Front::of(served).unwrap_or_default();
    let config = &front.body.config;
    let named = request.query.get("signal").unwrap_or(&config.stop_signal);
    let signal = if named.is_empty() { SIGTERM } else { signal(named)? };
    let grace = match request.query.get("t") {
        None => config.stop_timeout,
        Some(text) => Some(
            text.parse::<i64>()
                .map_err(|_| Refused::failed(format!("strconv.Atoi: parsing \"{text}\": invalid syntax")))?,
        ),
    };
    // A negative number waits for ever.
    let grace = match grace {
        None => GRACE,
        Some(seconds) => u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs),
    };
    Ok(Stop { signal, grace })
}
