//! `GET /exec/{id}/json`.

use std::sync::Arc;

use serde_json::json;

use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;

/// Everything about an exec. Its exit code is known before a client sees the end of its output.
pub(in crate::docker_api) fn inspect(door: &Arc<Door>, id: &str) -> Result<Answer, Refused> {
    let entry = door.exec(id)?;
    let (asked, state) = (&entry.asked, entry.state());
    let (program, arguments) = asked.command.split_first().unzip();
    let mut process = json!({
        "tty": asked.tty,
        "entrypoint": program,
        "arguments": arguments,
        "privileged": false,
    });
    if !asked.user.is_empty()
        && let Some(process) = process.as_object_mut()
    {
        process.insert("user".to_owned(), json!(asked.user));
    }
    Ok(Answer::ok(&json!({
        "ID": entry.id,
        "Running": state.is_running(),
        "ExitCode": state.code(),
        "ProcessConfig": process,
        "OpenStdin": asked.stdin,
        "OpenStderr": asked.stderr,
        "OpenStdout": asked.stdout,
        "CanRemove": false,
        "ContainerID": entry.served.id().as_str(),
        "DetachKeys": "",
        "Pid": state.pid(),
    })))
}
