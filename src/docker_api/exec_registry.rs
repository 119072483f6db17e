//! The execs of all containers, from their creation until their container is gone, or some time after their end. They are
//! this server's: a later one does not know them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::refused::Refused;
use crate::ContainerId;
use crate::engine::{Exec, ExecPlan, Served};

/// How long an exec is known after it was created, if it has ended.
const KNOWN: Duration = Duration::from_secs(300);
/// How many execs are known at once.
const MOST: usize = 10_000;

/// The execs, by id.
#[derive(Debug, Default)]
pub(super) struct Execs(Mutex<HashMap<String, Arc<Entry>>>);

/// What a client has asked for, as it is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) command: Vec<String>,
    pub(super) user: String,
    pub(super) tty: bool,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// The keys with which a client leaves its terminal; empty for Docker's default.
    pub(super) detach_keys: String,
}

/// An exec.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) served: Arc<Served>,
    pub(super) asked: Asked,
    pub(super) plan: ExecPlan,
    created: Instant,
    state: watch::Sender<State>,
}

/// How far an exec is.
#[derive(Debug, Clone)]
pub(super) enum State {
    Created,
    /// Its start has begun, and may fail.
    Starting,
    /// Its process was started, and may have ended.
    Started(Exec),
    /// Its start has failed; the code is the one that a shell would give.
    Failed(u32),
}

impl State {
    /// Whether its process runs, or is about to.
    pub(super) fn is_running(&self) -> bool {
        match self {
            Self::Created | Self::Failed(_) => false,
            Self::Starting => true,
            Self::Started(exec) => exec.end_now().is_none(),
        }
    }

    /// The exit code, if it has ended with one that is known.
    pub(super) fn code(&self) -> Option<u32> {
        match self {
            Self::Created | Self::Starting => None,
            Self::Started(exec) => exec.end_now()?.code,
            Self::Failed(code) => Some(*code),
        }
    }

    /// The pid of its process; 0 if it has none.
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Started(exec) => exec.pid(),
            _ => 0,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Created | Self::Starting => false,
            Self::Started(exec) => exec.end_now().is_some(),
            Self::Failed(_) => true,
        }
    }
}

impl Entry {
    /// How far it is.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Begins its start, which only one caller may.
    ///
    /// # Errors
    /// Status 409 if it was begun before.
    pub(super) fn begin(&self) -> Result<(), Refused> {
        let is_first = self.state.send_if_modified(|state| {
            let is_first = matches!(state, State::Created);
            if is_first {
                *state = State::Starting;
            }
            is_first
        });
        let how = match self.state().is_running() {
            _ if is_first => return Ok(()),
            true => "is already running",
            false => "has already run",
        };
        Err(Refused::conflict(format!("exec command {} {how}", self.id)))
    }

    /// Notes how its start has gone.
    pub(super) fn set(&self, now: State) {
        self.state.send_replace(now);
    }

    /// Waits until it was started, or its start has failed.
    pub(super) async fn started(&self) -> State {
        let mut state = self.state.subscribe();
        let begun = state.wait_for(|state| !matches!(state, State::Created | State::Starting));
        // The sender is this entry's.
        begun.await.map_or(State::Created, |state| state.clone())
    }
}

impl Execs {
    /// Adds an exec. `exists` says whether a container still does.
    ///
    /// # Errors
    /// Status 503 if there are too many.
    pub(super) fn add(
        &self,
        served: &Arc<Served>,
        asked: Asked,
        plan: ExecPlan,
        exists: impl Fn(&Served) -> bool,
    ) -> Result<String, Refused> {
        let id = ContainerId::random().to_string();
        let entry = Arc::new(Entry {
            id: id.clone(),
            served: Arc::clone(served),
            asked,
            plan,
            created: Instant::now(),
            state: watch::Sender::new(State::Created),
        });
        let mut known = self.known();
        known.retain(|_, entry| {
            exists(&entry.served) && !(entry.created.elapsed() > KNOWN && entry.state().is_over())
        });
        if known.len() >= MOST {
            let why = format!(
                "there are {MOST} execs already; remove containers, or start no more until some have ended"
            );
            return Err(Refused::new(hyper::StatusCode::SERVICE_UNAVAILABLE, why));
        }
        known.insert(id.clone(), entry);
        Ok(id)
    }

    /// The exec of that id. `exists` says whether a container still does.
    ///
    /// # Errors
    /// Status 404 if there is none.
    pub(super) fn get(&self, id: &str, exists: impl Fn(&Served) -> bool) -> Result<Arc<Entry>, Refused> {
        let known = self.known().get(id).cloned();
        let known = known.filter(|entry| exists(&entry.served));
        known.ok_or_else(|| Refused::missing(format!("No such exec instance: {id}")))
    }

    /// The ids of the execs of a container that run.
    pub(super) fn running_in(&self, container: &ContainerId) -> Vec<String> {
        let known = self.known();
        let own = known.values().filter(|entry| entry.served.id() == container);
        let mut running: Vec<_> = own
            .filter(|entry| entry.state().is_running())
            .map(|entry| entry.id.clone())
            .collect();
        running.sort();
        running
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
