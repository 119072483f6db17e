//! Containers that exist already: found by their records, and adopted by a later process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::config::Role;
use super::custody::owner_is_gone;
use super::deps::{Deps, Engine};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::facts::Facts;
use super::first_records::FirstRecords;
use super::kept::{self, LastRun, RunEnd};
use super::label;
use super::remains::Remains;
use super::restart::Restarts;
use super::{names, placement, record};
use crate::cgroup::{self, Freezer};
use crate::containerd::{Record, TaskInfo, TaskStatus};
use crate::{ContainerId, Context, clock};

/// How long the creation of a task may take. Processes without a task count as lost after this time.
const CREATING: Duration = Duration::from_secs(5);

/// A container as a list shows it.
#[derive(Debug, Clone)]
pub(crate) struct ListedContainer {
    /// The container's id.
    pub(crate) id: ContainerId,
    /// Its name, if it has one beside its id.
    pub(crate) name: Option<String>,
    /// The image that it was made from.
    pub(crate) image: String,
    /// The command as a person would type it, without the init.
    pub(crate) command: String,
    /// Its state.
    pub(crate) state: State,
    /// The pid of its first process, while there is one.
    pub(crate) pid: Option<u32>,
    /// When its record was made.
    pub(crate) created_at: Option<SystemTime>,
    /// All labels of the record.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its cgroups, if they were found.
    pub(crate) paths: Option<cgroup::Paths>,
    /// How its last run went, if it is kept after its end.
    pub(crate) last_run: Option<LastRun>,
    /// Why its last start failed, if it did.
    pub(crate) start_error: Option<String>,
    /// What is known of its restarts.
    pub(crate) restarts: Restarts,
    /// The end of its cgroup's path, which is unique to this container.
    pub(super) cgroup_name: Option<PathBuf>,
}

impl ListedContainer {
    /// The name of its own sandbox, if it has one.
    pub(crate) fn sandbox(&self) -> Option<&str> {
        self.labels.get(label::SANDBOX).map(String::as_str)
    }

    /// Whether its owner has ended and has not left it running on purpose: the owner was killed while it waited for the
    /// container's end, or before the container was started. A container that is kept after its end is an orphan only
    /// while it runs.
    pub(crate) fn is_orphaned(&self) -> bool {
        if self.last_run.is_some() && !self.has_process() {
            return false;
        }
        let left = self.labels.contains_key(label::DETACHED) && self.state != State::Created;
        !left && owner_is_gone(&self.labels)
    }

    /// Whether the process that made it runs, or may run, and waits for its end to remove it. A platform's containers
    /// name no owner and count as looked after.
    pub(crate) fn is_looked_after(&self) -> bool {
        !self.labels.contains_key(label::DETACHED) && !owner_is_gone(&self.labels)
    }

    /// Whether it is kept and has never run.
    pub(crate) fn waits_for_a_start(&self) -> bool {
        self.last_run == Some(LastRun::Never) && self.pid.is_none()
    }

    fn has_process(&self) -> bool {
        matches!(self.state, State::Running | State::Frozen | State::Lost) || self.pid.is_some()
    }

    /// The directories of its cgroups.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let dirs = self.paths.iter().flat_map(cgroup::Paths::dirs);
        dirs.map(Into::into).collect()
    }
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// A record without a process. The end of a kept container that is dead is not known.
    Dead,
    /// Processes for which containerd has no task, because its state was removed: they can be killed and removed.
    Lost,
    /// The process waits behind its start gate, or the container is kept and has never run.
    Created,
    /// Running.
    Running,
    /// Frozen, as the kernel or containerd reports.
    Frozen,
    /// Ended, and about to be started again; as its server knows.
    Restarting,
    /// Ended with this code.
    Exited(u32),
    /// Its removal was begun, and not finished.
    Removing,
}

impl Engine {
    /// Every container of the engine.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context) -> Result<Vec<ListedContainer>> {
        list(&self.0, ctx).await
    }

    /// One container, even if another program made it, and its OCI spec as JSON.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn inspect(
        &self,
        ctx: &Context,
        id: &ContainerId,
    ) -> Result<(ListedContainer, Vec<u8>)> {
        inspect(&self.0, ctx, id).await
    }
}

/// Every container of the engine in this containerd namespace.
pub(super) async fn list(deps: &Deps, ctx: &Context) -> Result<Vec<ListedContainer>> {
    let tasks = deps.session.tasks();
    // At the same time, because containerd asks every shim for the tasks. A task that is made between the two answers
    // belongs to a young run.
    let (records, tasks) = tokio::join!(records(deps, ctx), tasks.list(ctx));
    let (records, tasks) = (records?, tasks.at(Step::Find, "the list of containers")?);
    let mut tasks: BTreeMap<String, TaskInfo> = tasks.into_iter().collect();
    let mut listed = Vec::with_capacity(records.len());
    for record in records {
        let task = tasks.remove(record.id.as_str());
        if let Some(record) = reread(deps, ctx, record, task.as_ref()).await? {
            listed.push(listed_container(deps, task, &record));
        }
    }
    Ok(listed)
}

/// Every record of the engine.
async fn records(deps: &Deps, ctx: &Context) -> Result<Vec<Record>> {
    // A command that lists them has just begun, and its start needs them too.
    if deps.config.role == Role::List {
        let shared = FirstRecords::shared(deps);
        return Ok(shared.all(deps).await?.to_vec());
    }
    let filters = [format!("labels.\"{}\"", label::ENGINE)];
    let listed = deps.session.containers().list(ctx, &filters).await;
    listed.at(Step::Find, "the list of containers")
}

/// Reads the record again if its task was not found: the end of a run is written before its task is deleted, and may
/// have been written in between. `None` if the container was removed meanwhile.
async fn reread(
    deps: &Deps,
    ctx: &Context,
    record: Record,
    task: Option<&TaskInfo>,
) -> Result<Option<Record>> {
    if task.is_some() || !matches!(kept::last_run(&record), Some(LastRun::Started { .. })) {
        return Ok(Some(record));
    }
    match get(deps, ctx, &record.id).await {
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// One container, and its spec.
pub(super) async fn inspect(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
) -> Result<(ListedContainer, Vec<u8>)> {
    let record = get(deps, ctx, id).await?;
    let task = match deps.session.tasks().get(ctx, id).await {
        Ok(task) => Some(task),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error).at(Step::Find, id),
    };
    match reread(deps, ctx, record, task.as_ref()).await? {
        Some(record) => Ok((listed_container(deps, task, &record), record.spec)),
        None => Err(Error::new(Step::Find, id, Kind::NotFound, "no such container")),
    }
}

pub(super) async fn get(deps: &Deps, ctx: &Context, id: &ContainerId) -> Result<Record> {
    match deps.session.containers().get(ctx, id).await {
        Err(error) if error.is_not_found() => {
            Err(Error::new(Step::Find, id, Kind::NotFound, "no such container"))
        }
        other => other.at(Step::Find, id),
    }
}

fn listed_container(deps: &Deps, task: Option<TaskInfo>, record: &Record) -> ListedContainer {
    let pid = task.as_ref().and_then(living);
    let last_run = kept::last_run(record);
    let Facts {
        command, placement, ..
    } = Facts::of(record);
    let paths = placement::cgroups_of(deps, &record.id, pid, placement.as_ref());
    let frozen = || Freezer::of(paths.as_ref()?).ok()?.state().ok();
    let state = match task.map(|task| (task.status, task.exit.code)) {
        _ if deps.is_being_removed(&record.id, record::attempt_of(record)) => State::Removing,
        None => state_without_task(deps, record, last_run.as_ref()),
        Some((TaskStatus::Created, _)) => State::Created,
        Some((TaskStatus::Stopped, code)) => State::Exited(code),
        Some((TaskStatus::Paused, _)) => State::Frozen,
        Some(_) if frozen() == Some(cgroup::State::Frozen) => State::Frozen,
        Some(_) => State::Running,
    };
    ListedContainer {
        id: record.id.clone(),
        name: names::name_of(record).map(str::to_owned),
        command,
        image: record.image.clone(),
        state,
        pid,
        created_at: record.created_at,
        labels: record.labels.clone(),
        paths,
        cgroup_name: placement.map(|placement| placement.name),
        last_run,
        start_error: kept::start_error(record),
        restarts: kept::restarts(record),
    }
}

/// The state of a container for which containerd has no task.
pub(super) fn state_without_task(deps: &Deps, record: &Record, last: Option<&LastRun>) -> State {
    let placement = Facts::of(record).placement;
    match Remains::of_record(deps, record, placement).live(deps) {
        false => state_without_process(record, last),
        // The task is about to be made.
        true if is_young(record) => State::Created,
        true => State::Lost,
    }
}

/// The state of a container that has no process.
pub(super) fn state_without_process(record: &Record, last: Option<&LastRun>) -> State {
    match last {
        Some(LastRun::Never) => State::Created,
        // Its task is about to be made.
        Some(LastRun::Started { .. }) if is_young(record) => State::Created,
        Some(LastRun::Ended(RunEnd { code: Some(code), .. })) => State::Exited(*code),
        _ => State::Dead,
    }
}

/// Whether a run is so new that its task may not have been made yet.
pub(super) fn is_young(record: &Record) -> bool {
    let last = kept::last_run(record);
    let began = last.map_or(record.created_at, |last| last.started_at());
    let age = began.and_then(clock::age);
    age.is_some_and(|age| age < CREATING)
}

/// The pid of a task; `None` if its process has ended. containerd keeps the pid of an ended process, which may belong
/// to another process by now.
pub(super) fn living(task: &TaskInfo) -> Option<u32> {
    (task.pid != 0 && task.status != TaskStatus::Stopped).then_some(task.pid)
}

/// Whether processes of a container run that containerd has no task for. While a task is being made, it does not count
/// as lost.
pub(super) fn is_lost(deps: &Deps, record: &Record) -> bool {
    let placement = Facts::of(record).placement;
    !is_young(record) && Remains::of_record(deps, record, placement).live(deps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Custody;
    use crate::process_identity::ProcessIdentity;

    fn labels(detached: bool) -> BTreeMap<String, String> {
        Custody {
            detached,
            limit: None,
        }
        .labels()
        .into_iter()
        .collect()
    }

    fn listed(labels: BTreeMap<String, String>, state: State) -> ListedContainer {
        ListedContainer {
            id: crate::ContainerId::new("c1").unwrap(),
            image: String::new(),
            command: String::new(),
            state,
            pid: None,
            created_at: None,
            labels,
            name: None,
            paths: None,
            cgroup_name: None,
            last_run: None,
            start_error: None,
            restarts: Restarts::default(),
        }
    }

    /// The labels of a container whose owner has ended.
    fn ownerless(detached: bool) -> BTreeMap<String, String> {
        let mut labels = labels(detached);
        let mut ended = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = ProcessIdentity::of_pid(ended.id()).unwrap();
        ended.kill().unwrap();
        ended.wait().unwrap();
        labels.insert(label::OWNER.to_owned(), owner.to_string());
        labels
    }

    #[test]
    fn a_container_whose_owner_lives_or_is_unknown_is_no_orphan() {
        assert!(!listed(labels(false), State::Running).is_orphaned());
        assert!(!listed(BTreeMap::new(), State::Running).is_orphaned());
        let mut nonsense = labels(false);
        nonsense.insert(label::OWNER.to_owned(), "nobody".to_owned());
        assert!(!listed(nonsense, State::Running).is_orphaned());
    }

    #[test]
    fn a_container_whose_owner_has_ended_is_an_orphan_unless_it_was_left_running() {
        assert!(listed(ownerless(false), State::Running).is_orphaned());
        assert!(listed(ownerless(false), State::Exited(0)).is_orphaned());
        assert!(!listed(ownerless(true), State::Running).is_orphaned());
        assert!(!listed(ownerless(true), State::Exited(0)).is_orphaned());
        // No process will start it any more.
        assert!(listed(ownerless(true), State::Created).is_orphaned());
    }

    #[test]
    fn a_detached_container_is_not_looked_after_and_one_without_an_owner_is() {
        let ended = |labels| listed(labels, State::Exited(0));
        assert!(ended(labels(false)).is_looked_after());
        assert!(ended(BTreeMap::new()).is_looked_after());
        assert!(!ended(labels(true)).is_looked_after());
        assert!(!ended(ownerless(false)).is_looked_after());
    }
}
