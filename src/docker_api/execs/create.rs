//! `POST /containers/{id}/exec`.

use std::sync::Arc;
use std::time::Duration;

use fnctr_oci::ExecConfig;
use hyper::StatusCode;
use serde_json::json;

use crate::Context;
use crate::detach_keys::DetachKeys;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::exec_registry::Asked;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::docker_api::terminal;
use crate::engine::{Kind, Served, State};

/// How long looking at the container may take: its files of users and groups may be on a file server that is away.
const LOOK: Duration = Duration::from_secs(10);

/// Plans an exec, and remembers it until it is started.
pub(in crate::docker_api) async fn create(
    door: &Arc<Door>,
    given: &str,
    request: Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let body = request.json()?;
    let command = body.texts("Cmd")?.unwrap_or_default();
    if command.is_empty() {
        return Err(Refused::bad("No exec command specified"));
    }
    if body.flag("Privileged")? {
        return Err(Refused::bad("fnctr does not serve Privileged of an exec"));
    }
    let tty = body.flag("Tty")?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let user = body.text("User")?;
    let config = ExecConfig {
        command: command.clone(),
        env: body.texts("Env")?.unwrap_or_default(),
        cwd: some(body.text("WorkingDir")?),
        user: some(user.clone()),
        terminal: tty,
        console_size: terminal::console_size(&body)?,
    };
    let detach_keys = body.text("DetachKeys")?;
    if DetachKeys::parse(&detach_keys).is_none() {
        return Err(Refused::failed(format!(
            "Invalid escape keys ({detach_keys}) provided"
        )));
    }
    let asked = Asked {
        command,
        user,
        tty,
        stdin: body.flag("AttachStdin")?,
        stdout: body.flag("AttachStdout")?,
        stderr: body.flag("AttachStderr")?,
        detach_keys,
    };
    let planned = served
        .container()
        .plan_exec(&Context::timeout(LOOK), &config)
        .await;
    let plan = planned.map_err(|error| match error.kind() {
        Kind::OutOfOrder => out_of_order(&served, given),
        _ => unknown_user(&error).unwrap_or_else(|| error.into()),
    })?;
    let id = door
        .execs
        .add(&served, asked, plan.clone(), |served| door.has(served))?;
    served.container().tell_exec_created(&id, &plan);
    Ok(Answer::json(StatusCode::CREATED, &json!({ "Id": id })))
}

/// The refusal of a user whom the container does not have, in Docker's words.
fn unknown_user(error: &(dyn std::error::Error + 'static)) -> Option<Refused> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let user = causes.find_map(|cause| match cause.downcast_ref()? {
        fnctr_oci::Error::UnknownUser { user } | fnctr_oci::Error::NoPasswd { user } => Some(user.clone()),
        _ => None,
    })?;
    Some(Refused::bad(format!(
        "unable to find user {user}: no matching entries in passwd file"
    )))
}

/// Why a container executes nothing, in Docker's words; `given` is how the client calls it.
pub(super) fn out_of_order(served: &Served, given: &str) -> Refused {
    match served.look().state {
        State::Frozen => Refused::conflict(format!(
            "Container {given} is paused, unpause the container before exec"
        )),
        _ => Refused::conflict(format!("container {} is not running", served.id())),
    }
}
