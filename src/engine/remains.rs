//! What is left of a container if its runtime is killed half-way, or if containerd loses its task: its cgroup in every
//! hierarchy with the processes in it, and the runtime's own record of it.
//!
//! Only objects with the container's own name are removed, and only while its containerd record reserves the name, so
//! that no later container of that name can exist. Another containerd may have a container of the same namespace and
//! name, and then the same cgroup; that container has a shim, and is left alone.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Deps;
use super::placement::Placement;
use super::runtime;
use crate::cgroup::CgroupDirs;
use crate::containerd::Record;
use crate::teardown::{StepError, Teardown};
use crate::{ContainerId, Context};

/// The undo step that removes the remains, after the task has ended.
pub(super) const STEP: &str = "cgroup";

/// Where a container's remains would be.
#[derive(Debug, Clone)]
pub(super) struct Remains {
    id: ContainerId,
    /// `None` if its record does not determine it.
    placement: Option<Placement>,
    /// The directory of the runtime's own record.
    state: PathBuf,
}

impl Remains {
    /// The remains of a container that is made here.
    pub(super) fn of_plan(deps: &Deps, id: &ContainerId) -> Self {
        let root = deps.config.runtime.root.as_deref();
        Self::at(deps, id, deps.placement(id), root)
    }

    /// The remains of a container by its record.
    pub(super) fn of_record(deps: &Deps, record: &Record, placement: Option<Placement>) -> Self {
        let options = record.runtime_options.as_ref();
        let root = options.and_then(|options| options.root.as_deref()).map(Path::new);
        Self::at(deps, &record.id, placement, root)
    }

    /// Removes the runtime's own record of the container.
    pub(super) fn remove_runtime_record(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.state) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn at(deps: &Deps, id: &ContainerId, placement: Option<Placement>, root: Option<&Path>) -> Self {
        let root = root.unwrap_or_else(|| Path::new(runtime::DEFAULT_ROOT));
        Self {
            id: id.clone(),
            placement,
            state: root.join(deps.config.namespace.as_str()).join(id.as_str()),
        }
    }

    /// The container's name.
    pub(super) fn id(&self) -> &ContainerId {
        &self.id
    }

    fn places(&self, deps: &Deps) -> Option<CgroupDirs> {
        deps.host.cgroups.places(&self.placement.as_ref()?.path).ok()
    }

    /// Whether there is a cgroup, and it is not another containerd's.
    pub(super) fn exist(&self, deps: &Deps) -> bool {
        let there = self.places(deps).is_some_and(|places| places.exist());
        there && !self.are_anothers(deps)
    }

    /// Whether processes run in a cgroup of the container's name, whichever containerd's they are.
    pub(super) fn have_processes(&self, deps: &Deps) -> bool {
        self.places(deps).is_some_and(|places| places.is_populated())
    }

    /// Whether processes of the container run, and are not another containerd's.
    pub(super) fn live(&self, deps: &Deps) -> bool {
        self.have_processes(deps) && !self.are_anothers(deps)
    }

    /// Removes the cgroups' directories that have no process. Returns whether no directory is left.
    pub(super) fn remove_empty(&self, deps: &Deps) -> bool {
        self.places(deps).is_none_or(|places| places.remove_empty())
    }

    fn are_anothers(&self, deps: &Deps) -> bool {
        deps.shims_of(&self.id)
            .iter()
            .any(|shim| !deps.is_ours(&shim.args))
    }

    async fn remove(&self, deps: &Deps, ctx: &Context) -> Result<(), StepError> {
        let places = self.places(deps);
        // Almost always the case; the rest reads every process of the host.
        if !places.as_ref().is_some_and(CgroupDirs::exist) && !self.state.exists() {
            return Ok(());
        }
        let shims = deps.shims_of(&self.id);
        if shims.iter().any(|shim| !deps.is_ours(&shim.args)) {
            tracing::debug!(id = %self.id, "another containerd has a container of this name; its cgroup is left alone");
            return Ok(());
        }
        if let Some(places) = places {
            places.remove(ctx).await?;
        }
        // A shim that is left needs the runtime's record to end its container.
        if !shims.is_empty() {
            return Ok(());
        }
        Ok(self.remove_runtime_record()?)
    }
}

/// The directory of the runtime's own records of this engine's containers, one for each container.
pub(super) fn runtime_records(deps: &Deps) -> PathBuf {
    let root = deps.config.runtime.root.as_deref();
    let root = root.unwrap_or_else(|| Path::new(runtime::DEFAULT_ROOT));
    root.join(deps.config.namespace.as_str())
}

/// Puts the removal of the remains on the list.
pub(super) fn defer_removal(undo: &mut Teardown, deps: &Arc<Deps>, remains: Remains) {
    let deps = Arc::clone(deps);
    undo.defer(STEP, move |ctx| {
        let (deps, remains) = (Arc::clone(&deps), remains.clone());
        async move { remains.remove(&deps, &ctx).await }
    });
}
