//! The state of a container in Docker's words.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{failure, health};
use crate::docker_api::time::{ago, stamp};
use crate::engine::{Health, LastRun, ListedContainer, RunEnd, State};

/// The exit code of a run whose end was not seen, such as before a power cut.
pub(super) const LOST: u32 = 255;

/// What is shown of a container's last run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown {
    pub(super) status: &'static str,
    pub(super) code: u32,
    pub(super) oom: bool,
    pub(super) error: String,
    pub(super) started_at: Option<SystemTime>,
    pub(super) finished_at: Option<SystemTime>,
}

impl Shown {
    pub(super) fn of(container: &ListedContainer) -> Self {
        let end = match &container.last_run {
            Some(LastRun::Ended(end)) => end.clone(),
            last => RunEnd {
                started_at: last.as_ref().and_then(LastRun::started_at),
                ..RunEnd::default()
            },
        };
        let is_alive = matches!(container.state, State::Running | State::Frozen | State::Lost);
        let error = container.start_error.clone().unwrap_or_default();
        let code = match container.state {
            State::Exited(code) => code,
            _ if is_alive => 0,
            State::Created => failure::code(&error).unwrap_or_default(),
            _ => end.code.or_else(|| failure::code(&error)).unwrap_or(LOST),
        };
        Self {
            status: word(container.state),
            code,
            oom: end.oom.unwrap_or_default(),
            error: failure::words(&error),
            started_at: end.started_at,
            finished_at: if is_alive { None } else { end.ended_at },
        }
    }

    /// The field `State` of an inspection.
    pub(super) fn inspection(&self, pid: Option<u32>, health: Option<&Health>) -> Value {
        let mut shown = json!({
            "Status": self.status,
            "Running": matches!(self.status, "running" | "paused" | "restarting"),
            "Paused": self.status == "paused",
            "Restarting": self.status == "restarting",
            "OOMKilled": self.oom,
            "Dead": false,
            "Pid": pid.unwrap_or_default(),
            "ExitCode": self.code,
            "Error": self.error,
            "StartedAt": stamp(self.started_at),
            "FinishedAt": stamp(self.finished_at),
        });
        if let (Some(health), Some(shown)) = (health, shown.as_object_mut()) {
            shown.insert("Health".to_owned(), health::shown(health));
        }
        shown
    }

    /// The field `Status` of a list, for people.
    pub(super) fn sentence(&self, health: Option<&Health>) -> String {
        match self.status {
            "created" => "Created".to_owned(),
            "running" => match health {
                Some(health) => format!("Up {} ({})", ago(self.started_at), health::sentence(health)),
                None => format!("Up {}", ago(self.started_at)),
            },
            "paused" => format!("Up {} (Paused)", ago(self.started_at)),
            "restarting" => format!("Restarting ({}) {} ago", self.code, ago(self.finished_at)),
            "removing" => "Removal In Progress".to_owned(),
            _ => format!("Exited ({}) {} ago", self.code, ago(self.finished_at)),
        }
    }
}

/// Docker's word for a state.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running | State::Lost => "running",
        State::Frozen => "paused",
        State::Restarting => "restarting",
        State::Exited(_) | State::Dead => "exited",
        State::Removing => "removing",
    }
}
