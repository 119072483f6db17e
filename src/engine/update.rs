//! Changes the limits of a container, whether it runs or not.

use std::sync::Arc;

use fnctr_oci::{LinuxResources, ResourcesUpdate};
use serde_json::Value;

use super::container::Container;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::restart::RestartPolicy;
use super::turn::Turn;
use super::{Deps, find, kept, label, limits, record};
use crate::containerd::{Field, Record};
use crate::events::{Action, Event, Kind as EventKind};
use crate::{Context, failpoint};

/// Where the limits are in a spec.
const RESOURCES: &str = "/linux/resources";

/// What changes of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Update {
    /// Its limits.
    pub(crate) limits: ResourcesUpdate,
    /// When it is started again; `None` leaves that as it is.
    pub(crate) restart: Option<RestartPolicy>,
    /// What the front door that made it keeps on its record from now on.
    pub(crate) front: Option<Value>,
}

/// Why limits cannot be changed.
#[derive(Debug, thiserror::Error)]
enum NotUpdated {
    #[error("it was removed")]
    Removed,
    #[error("it is being removed")]
    Removing,
    #[error("it was not made to be kept, and a restart policy is for those alone that are")]
    NotKept,
    #[error("its spec has no limits, so fnctr did not make it")]
    NoLimits,
}

impl Container {
    /// Changes limits: of the processes if it runs, and on the record for its later runs.
    ///
    /// The record changes first. If the runtime then refuses, as the kernel does for less memory than the container holds
    /// on cgroup v1, the record gets the old limits back.
    ///
    /// # Errors
    /// [`Kind::InvalidPlan`] for limits that no host enforces; [`Kind::Unsupported`] for those that this one does not;
    /// [`Kind::NotFound`] if the container was removed; the runtime's own message.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn update(&self, update: Update) -> Result<()> {
        let this = self.clone();
        let work = async move {
            let ctx = Context::timeout(this.deps().config.close_grace);
            this.update_here(&ctx, &update).await
        };
        self.deps().finished(work).await
    }

    async fn update_here(&self, ctx: &Context, update: &Update) -> Result<()> {
        let (deps, id) = (Arc::clone(self.deps()), self.id());
        let refuse = |kind, why| Err(Error::new(Step::Update, id, kind, why));
        let _turn = Turn::take(&deps, ctx, id).await?;
        let before = find::get(&deps, ctx, id).await?;
        if record::attempt_of(&before) != self.attempt() {
            return refuse(Kind::NotFound, NotUpdated::Removed);
        }
        if deps.is_being_removed(id, self.attempt()) {
            return refuse(Kind::OutOfOrder, NotUpdated::Removing);
        }
        if update.restart.is_some() && !kept::is_kept(&before) {
            return refuse(Kind::OutOfOrder, NotUpdated::NotKept);
        }
        // It may have been started, or have ended, since this process last looked.
        if let Some(last) = kept::last_run(&before) {
            let _own = self.undo().lock().await;
            self.catch_up(ctx, &before, &last).await?;
        }
        let mut after = before.clone();
        let (changes, memory) = write(&deps, &mut after, update)?;
        let extensions = [kept::PLAN, kept::FRONT]
            .into_iter()
            .filter(|name| before.extensions.contains_key(*name));
        let extensions = extensions.map(Field::Extension);
        let fields: Vec<_> = [Field::Labels, Field::Spec]
            .into_iter()
            .chain(extensions)
            .collect();
        let containers = deps.session.containers();
        let written = containers.update(ctx, &after, &fields).await;
        written.at(Step::Update, id)?;
        failpoint::reach("after", "update on record");
        let run = self.run().filter(|run| run.exit_now().is_none());
        if let Some(run) = run.filter(|_| !update.limits.is_empty()) {
            let json = serde_json::to_vec(&changes);
            let json = json.map_err(|error| Error::new(Step::Update, id, Kind::Internal, error))?;
            let applied = deps.session.tasks().update(ctx, id, json).await;
            // One that has ended meanwhile gets them when it is started again.
            if let Err(error) = applied.at(Step::Update, id)
                && run.exit_now().is_none()
            {
                let clean_up = ctx.detached(deps.config.close_grace);
                if let Err(error) = containers.update(&clean_up, &before, &fields).await {
                    tracing::warn!(%id, error = %crate::chain(&error), "cannot restore the limits on the record of a container; it keeps them until it is started again");
                }
                return Err(error);
            }
            run.set_memory_limit(memory);
        }
        deps.record(Event::new(EventKind::Container, Action::Update, id.as_str()));
        Ok(())
    }
}

/// Writes the change to a record. Returns what the runtime is to change, and the new memory limit.
fn write(deps: &Deps, record: &mut Record, update: &Update) -> Result<(LinuxResources, Option<u64>)> {
    let id = record.id.clone();
    let fail =
        |kind, error: Box<dyn std::error::Error + Send + Sync>| Error::new(Step::Update, &id, kind, error);
    let internal = |error: serde_json::Error| fail(Kind::Internal, error.into());
    let mut spec: Value = serde_json::from_slice(&record.spec).map_err(internal)?;
    let has_init = has_init(&spec);
    let Some(place) = spec.pointer_mut(RESOURCES) else {
        return Err(fail(Kind::Unsupported, NotUpdated::NoLimits.into()));
    };
    let mut resources: LinuxResources = serde_json::from_value(place.take()).map_err(internal)?;
    let changes = fnctr_oci::update(&mut resources, &update.limits, has_init, deps.host.oci.cgroup)
        .map_err(|error| fail(Kind::InvalidPlan, error.into()))?;
    let after = fnctr_oci::Resources::of_spec(&resources);
    limits::check(deps, &after).map_err(|error| fail(Kind::Unsupported, error.into()))?;
    *place = serde_json::to_value(&resources).map_err(internal)?;
    record.spec = serde_json::to_vec(&spec).map_err(internal)?;
    match after.memory {
        Some(bytes) => drop(record.labels.insert(label::MEMORY.to_owned(), bytes.to_string())),
        None => drop(record.labels.remove(label::MEMORY)),
    }
    let memory = after.memory;
    kept::set_plan(record, after, update.restart)?;
    if let Some(front) = &update.front
        && record.extensions.contains_key(kept::FRONT)
    {
        let front = serde_json::to_vec(front).map_err(internal)?;
        record.extensions.insert(kept::FRONT.to_owned(), front);
    }
    Ok((changes, memory))
}

/// Whether an init is PID 1.
fn has_init(spec: &Value) -> bool {
    spec.pointer("/process/args/0")
        .is_some_and(|program| program == fnctr_oci::INIT_PATH)
}
