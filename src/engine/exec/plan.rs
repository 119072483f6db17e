//! Plans an exec: what can be checked is checked before anything is made.

use fnctr_oci::{ExecConfig, Process, Spec};
use tokio::sync::Semaphore;

use super::user_files;
use crate::Context;
use crate::engine::container::Container;
use crate::engine::error::{Error, ErrorContext as _, Kind, Result, Step};
use crate::engine::run::Run;
use crate::engine::{find, record};

/// How many files of containers are read at the same time: each reading may block a thread for ever.
static READERS: Semaphore = Semaphore::const_new(16);

/// Why a container executes nothing.
#[derive(Debug, thiserror::Error)]
enum NotExecuted {
    #[error("it is not running")]
    NotRunning,
    #[error("it is frozen; thaw it first")]
    Frozen,
    #[error("its record has no process")]
    NoProcess,
    #[error("its files of users and groups cannot be read")]
    UserFiles(#[source] std::io::Error),
    #[error("reading its files of users and groups has failed")]
    Reading,
}

/// An exec that is planned: everything that can be checked is checked.
#[derive(Debug, Clone)]
pub(crate) struct ExecPlan(pub(super) Process);

impl ExecPlan {
    /// The same with a terminal of this height and width, if it has a terminal.
    pub(crate) fn with_size(mut self, size: (u16, u16)) -> Self {
        if self.has_terminal() {
            self.0.set_console_size(Some(fnctr_oci::console_size(size)));
        }
        self
    }

    /// What it runs, its words divided by spaces.
    pub(super) fn command(&self) -> String {
        self.0.args().as_deref().unwrap_or_default().join(" ")
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.0.terminal() == Some(true)
    }
}

impl Container {
    /// Plans an exec.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] if the container does not run, or is frozen; [`Kind::InvalidPlan`] if the container cannot
    /// have such a process.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn plan_exec(&self, ctx: &Context, config: &ExecConfig) -> Result<ExecPlan> {
        let refuse = |kind, why| Error::new(Step::Exec, self.id(), kind, why);
        let run = self.run_for_exec()?;
        let record = find::get(self.deps(), ctx, self.id()).await?;
        if record::attempt_of(&record) != self.attempt() {
            return Err(refuse(Kind::OutOfOrder, NotExecuted::NotRunning));
        }
        let spec = serde_json::from_slice::<Spec>(&record.spec);
        let spec = spec.map_err(|error| Error::new(Step::Exec, self.id(), Kind::Internal, error))?;
        let first = spec.process().as_ref();
        let first = first.ok_or_else(|| refuse(Kind::Internal, NotExecuted::NoProcess))?;
        let user = config
            .user
            .as_deref()
            .filter(|user| fnctr_oci::needs_user_files(user));
        let files = match (user, run.pid()) {
            (None, _) => fnctr_oci::UserFiles::default(),
            (Some(_), None) => return Err(refuse(Kind::OutOfOrder, NotExecuted::NotRunning)),
            (Some(_), Some(pid)) => {
                // A file system of the container's may block whoever reads it.
                let read = async {
                    let place = READERS.acquire().await.ok()?;
                    let read = tokio::task::spawn_blocking(move || {
                        let _place = place;
                        user_files::of(pid)
                    });
                    read.await.ok()
                };
                let read = ctx.run(read).await.at(Step::Exec, self.id())?;
                let read = read.ok_or_else(|| refuse(Kind::Internal, NotExecuted::Reading))?;
                // The pid may be another process's by now.
                self.run_for_exec()?;
                read.map_err(|error| refuse(Kind::InvalidPlan, NotExecuted::UserFiles(error)))?
            }
        };
        let process = fnctr_oci::exec(first, config, &files);
        let process = process.map_err(|error| Error::new(Step::Exec, self.id(), Kind::InvalidPlan, error))?;
        Ok(ExecPlan(process))
    }

    /// The container's run, if it can execute something now.
    pub(super) fn run_for_exec(&self) -> Result<Run> {
        let refuse = |why| Err(Error::new(Step::Exec, self.id(), Kind::OutOfOrder, why));
        if !self.is_running() {
            return refuse(NotExecuted::NotRunning);
        }
        // Its process would be frozen half-way.
        if self.is_frozen() {
            return refuse(NotExecuted::Frozen);
        }
        self.run_for(Step::Exec)
    }
}
