//! The output of a kept container in files, which are read as long as the container exists.
//!
//! Whichever process carries the streams of a run writes the log: the one that started it, or a server that has taken the
//! streams over. The record states where the files are, so that every process finds them.

use std::path::{Path, PathBuf};

use super::error::{Error, Kind, Result, Step};
use super::log_plan::LogPlan;
use super::plan::Plan;
use super::{Deps, label};
use crate::ContainerId;
use crate::containerd::Record;
use crate::stdio::{LogFiles, Streams};
use crate::teardown::Teardown;

/// The undo step that removes the files.
pub(super) const STEP: &str = "log";
/// The directory of all logs, below that of what outlives a reboot.
const DIR: &str = "logs";

/// Why a container's output is not kept, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLog {
    /// It was made without a log.
    #[error("its output is not kept; make it with the logging driver json-file")]
    None,
    /// The files cannot be used.
    #[error("the log {} cannot be used", path.display())]
    Io {
        /// The current file.
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

/// The plan with a place for its log.
pub(super) fn placed(deps: &Deps, mut plan: Plan) -> Plan {
    if let Some(log) = &mut plan.log {
        log.path = dir(deps)
            .join(plan.id.as_str())
            .join(format!("{}-json.log", plan.id));
    }
    plan
}

/// The directory of the logs of this instance's containers.
pub(super) fn dir(deps: &Deps) -> PathBuf {
    deps.data_dir(DIR)
}

/// The label of a plan's log.
pub(super) fn label(plan: &Plan) -> Option<(String, String)> {
    let path = plan.log.as_ref()?.path.to_str()?;
    Some((label::LOG.to_owned(), path.to_owned()))
}

/// The current file of a container's log, if it has one.
pub(super) fn path_of(record: &Record) -> Option<&Path> {
    record.labels.get(label::LOG).map(Path::new)
}

/// Whether a path has the form of a log's: its directory is removed with everything in it.
fn is_log(path: &Path) -> bool {
    let id = path.parent().and_then(Path::file_name).and_then(|id| id.to_str());
    let file = path.file_name().and_then(|file| file.to_str());
    id.zip(file)
        .is_some_and(|(id, file)| !id.is_empty() && file == format!("{id}-json.log"))
}

/// Puts the removal of a log's files on the list.
pub(super) fn defer_removal(undo: &mut Teardown, path: &Path) {
    let Some(dir) = path.parent().filter(|_| is_log(path)) else {
        return;
    };
    let dir = dir.to_owned();
    undo.defer(STEP, move |_| {
        let dir = dir.clone();
        async move {
            let removed = tokio::task::spawn_blocking(move || remove(&dir)).await;
            removed.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
        }
    });
}

/// Removes a directory with a log; fine if there is none. Where nothing can be removed, it is left as a stray: the container
/// must not stay because of it.
pub(super) fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            tracing::warn!(dir = %dir.display(), %error, "a log is left until the file system can be written to");
            Ok(())
        }
        removed => removed,
    }
}

/// Puts the removal of a plan's log on the list, and makes its first file, so that a log that cannot be written is an error
/// of the create.
pub(super) async fn make(plan: &Plan, undo: &mut Teardown) -> Result<()> {
    let Some(log) = &plan.log else { return Ok(()) };
    defer_removal(undo, &log.path);
    let made = LogFiles::make(&log.path).await;
    made.map_err(|error| failed(Step::Stdio, &plan.id, &log.path, error))
}

/// The streams of a run with the log attached, if this process carries any output of it.
pub(super) fn attach(deps: &Deps, log: Option<&LogPlan>, streams: Streams) -> Streams {
    match log {
        Some(LogPlan { options, path }) if streams.have_output() => {
            let (tracker, metrics) = (&deps.background.tracker, deps.session.metrics());
            deps.logs.attach(path, options, streams, tracker, metrics)
        }
        _ => streams,
    }
}

pub(super) fn failed(step: Step, id: &ContainerId, path: &Path, error: std::io::Error) -> Error {
    let path = path.to_owned();
    Error::new(step, id, Kind::Internal, NoLog::Io { path, error })
}
