//! The volumes of this instance, and who uses them.

use std::sync::Arc;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::{Deps, Engine, VolumeUse, find, kept, label, names, volume_use};
use crate::containerd::Record;
use crate::events::{Action, Event, Kind as EventKind};
use crate::teardown::Teardown;
use crate::volume::{self, Held, NewVolume, Volume, VolumeName, VolumeStore};
use crate::{ContainerId, Context};

/// The directory of all volumes, below that of what outlives a reboot.
const DIR: &str = "volumes";
/// The undo step that removes volumes.
pub(super) const STEP: &str = "volumes";

/// A volume, and who uses it.
#[derive(Debug, Clone)]
pub(crate) struct ListedVolume {
    pub(crate) volume: Volume,
    /// The containers that use it, whether or not they run.
    pub(crate) users: Vec<VolumeUser>,
}

/// A container that uses a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeUser {
    pub(crate) id: ContainerId,
    /// Its name, if it has one beside its id.
    pub(crate) name: Option<String>,
}

/// Containers use the volume.
#[derive(Debug, thiserror::Error)]
#[error("it is used by {}; remove them first", shown(users))]
pub(crate) struct VolumeInUse {
    pub(crate) users: Vec<VolumeUser>,
}

fn shown(users: &[VolumeUser]) -> String {
    let names = users
        .iter()
        .map(|user| user.name.as_deref().unwrap_or(user.id.as_str()));
    names.collect::<Vec<_>>().join(", ")
}

/// What a prune has removed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrunedVolumes {
    pub(crate) names: Vec<VolumeName>,
    /// The room that their files took, in bytes.
    pub(crate) freed: u64,
}

/// The volumes of this instance.
pub(super) fn store(deps: &Deps) -> VolumeStore {
    VolumeStore::new(deps.data_dir(DIR))
}

impl Deps {
    /// Records that a volume was made or removed.
    pub(super) fn tell_volume(&self, action: Action, name: &VolumeName) {
        self.record(Event::new(EventKind::Volume, action, name.as_str()));
    }
}

impl Engine {
    /// All volumes, in the order of their names.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn volumes(&self, ctx: &Context) -> Result<Vec<ListedVolume>> {
        let store = store(&self.0);
        let listed = tokio::task::spawn_blocking(move || store.list()).await;
        let listed = listed.map_err(|panic| Error::new(Step::FindVolume, "*", Kind::Internal, panic))?;
        let listed = listed.at(Step::FindVolume, "*")?;
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let uses = uses(&self.0, ctx, Strictness::Lenient).await?;
        let with_users = listed.into_iter().map(|volume| ListedVolume {
            users: users(&uses, &volume.name),
            volume,
        });
        Ok(with_users.collect())
    }

    /// One volume.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none of that name.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn volume(&self, ctx: &Context, name: &VolumeName) -> Result<ListedVolume> {
        let volume = store(&self.0).get(name).at(Step::FindVolume, name.as_str())?;
        let uses = uses(&self.0, ctx, Strictness::Lenient).await?;
        Ok(ListedVolume {
            users: users(&uses, name),
            volume,
        })
    }

    /// The volumes that a container uses.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such container.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn volumes_of(&self, ctx: &Context, id: &ContainerId) -> Result<Vec<VolumeUse>> {
        let record = find::get(&self.0, ctx, id).await?;
        let used = volume_use::of_record(&record);
        used.map_err(|error| Error::new(Step::FindVolume, "*", Kind::Unsupported, error))
    }

    /// Makes a volume. One that is there stays as it is.
    ///
    /// # Errors
    /// Those of the file system.
    ///
    /// # Cancellation
    /// Safe to drop: the volume is made all the same.
    pub(crate) async fn create_volume(
        &self,
        ctx: &Context,
        name: &VolumeName,
        new: NewVolume,
    ) -> Result<Volume> {
        let (deps, ctx, name) = (Arc::clone(&self.0), ctx.clone(), name.clone());
        let create = async move {
            let held = store(&deps)
                .hold(&ctx)
                .await
                .at(Step::MakeVolume, name.as_str())?;
            let of = name.clone();
            let ensured = tokio::task::spawn_blocking(move || held.ensure(&of, &new)).await;
            let ensured = ensured
                .map_err(|panic| Error::new(Step::MakeVolume, name.as_str(), Kind::Internal, panic))?;
            let (volume, is_new) = ensured.at(Step::MakeVolume, name.as_str())?;
            if is_new {
                deps.tell_volume(Action::Create, &name);
            }
            Ok(volume)
        };
        self.0.finished(create).await
    }

    /// Removes a volume with its files.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none of that name; [`Kind::Conflict`] with [`VolumeInUse`] if a container uses it.
    ///
    /// # Cancellation
    /// Safe to drop: the removal goes on.
    pub(crate) async fn remove_volume(&self, ctx: &Context, name: &VolumeName) -> Result<()> {
        let (deps, ctx, name) = (Arc::clone(&self.0), ctx.clone(), name.clone());
        let removal = async move { remove(&deps, &ctx, &name).await };
        self.0.finished(removal).await
    }

    /// Removes the volumes that no container uses, of those that are chosen. One that cannot be removed is logged, and
    /// left.
    ///
    /// # Cancellation
    /// Safe to drop: a removal that has begun goes on.
    pub(crate) async fn prune_volumes(
        &self,
        ctx: &Context,
        is_chosen: impl Fn(&Volume) -> bool,
    ) -> Result<PrunedVolumes> {
        let mut pruned = PrunedVolumes::default();
        for ListedVolume { volume, users } in self.volumes(ctx).await? {
            if !users.is_empty() || !is_chosen(&volume) {
                continue;
            }
            let name = volume.name.clone();
            let size = tokio::task::spawn_blocking(move || volume.size()).await;
            match self.remove_volume(ctx, &name).await {
                Ok(()) => {
                    pruned.names.push(name);
                    pruned.freed = pruned.freed.saturating_add(size.unwrap_or_default());
                }
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "a prune leaves a volume");
                }
            }
        }
        Ok(pruned)
    }

    /// Removes the volumes that nobody has named, of those that a removed container has used, unless others use them. One that
    /// cannot be removed is logged, and left for a prune.
    ///
    /// # Cancellation
    /// Safe to drop: a removal that has begun goes on.
    pub(crate) async fn remove_anonymous_volumes(&self, ctx: &Context, used: &[VolumeUse]) {
        for VolumeUse { name, .. } in used.iter().filter(|used| used.is_anonymous()) {
            match self.remove_volume(ctx, name).await {
                Err(error) if !matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {
                    tracing::warn!(error = %crate::chain(&error), "a volume outlives its container; `fnctr volume prune` removes it");
                }
                _ => {}
            }
        }
    }
}

/// Puts the removal of the volumes that nobody has named on the list of a container that is not kept. First on the list, it is
/// the last step: the record, which states that the container uses them, is gone by then.
pub(super) fn defer_removal(undo: &mut Teardown, deps: &Arc<Deps>, used: &[VolumeUse]) {
    let anonymous = used.iter().filter(|used| used.is_anonymous());
    let names: Vec<_> = anonymous.map(|used| used.name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let deps = Arc::clone(deps);
    undo.defer(STEP, move |ctx| {
        let (deps, names) = (Arc::clone(&deps), names.clone());
        async move {
            for name in &names {
                match remove(&deps, &ctx, name).await {
                    // Another container uses it, or it was never made.
                    Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                    removed => removed?,
                }
            }
            Ok::<_, Error>(())
        }
    });
}

/// The same for a container that is known by its record.
pub(super) fn defer_removal_of(undo: &mut Teardown, deps: &Arc<Deps>, record: &Record) {
    if kept::is_kept(record) || !record.labels.contains_key(label::VOLUMES) {
        return;
    }
    match volume_use::of_record(record) {
        Ok(used) => defer_removal(undo, deps, &used),
        Err(error) => {
            tracing::warn!(id = %record.id, %error, "cannot read which volumes a container uses; `fnctr volume prune` removes them");
        }
    }
}

/// Removes volumes that were made under a right that was never given back: nobody can use them.
pub(super) async fn remove_held(deps: &Deps, held: Held, names: Vec<VolumeName>) {
    let removed = tokio::task::spawn_blocking(move || {
        let removed = names.into_iter().filter_map(|name| {
            let gone = held.remove(&name);
            let gone = gone.inspect_err(|error| {
                tracing::warn!(%name, error = %crate::chain(error), "a failed create leaves a volume; `fnctr volume rm` removes it");
            });
            Some((name, gone.ok()?))
        });
        let removed: Vec<_> = removed.collect();
        drop(held);
        let names = removed.into_iter().map(|(name, gone)| {
            gone.delete();
            name
        });
        names.collect::<Vec<_>>()
    });
    for name in removed.await.unwrap_or_default() {
        deps.tell_volume(Action::Destroy, &name);
    }
}

/// Removes a volume that no container uses.
pub(super) async fn remove(deps: &Deps, ctx: &Context, name: &VolumeName) -> Result<()> {
    let store = store(deps);
    let held = store.hold(ctx).await.at(Step::RemoveVolume, name.as_str())?;
    // Before the records are asked for, which takes longer.
    store.get(name).at(Step::RemoveVolume, name.as_str())?;
    let users = users(&uses(deps, ctx, Strictness::Strict).await?, name);
    if !users.is_empty() {
        let why = VolumeInUse { users };
        return Err(Error::new(Step::RemoveVolume, name.as_str(), Kind::Conflict, why));
    }
    let of = name.clone();
    let removed = tokio::task::spawn_blocking(move || {
        let gone = held.remove(&of)?;
        // Others need not wait for the deletion of many files.
        drop(held);
        gone.delete();
        Ok::<_, volume::Error>(())
    });
    let removed = removed
        .await
        .map_err(|panic| Error::new(Step::RemoveVolume, name.as_str(), Kind::Internal, panic))?;
    removed.at(Step::RemoveVolume, name.as_str())?;
    deps.tell_volume(Action::Destroy, name);
    Ok(())
}

/// A container, and the volumes that it uses.
type Uses = Vec<(VolumeUser, Vec<VolumeUse>)>;

/// What becomes of a record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// It is an error: the container may use any volume.
    Strict,
    /// It is logged, and left out.
    Lenient,
}

/// Which containers use volumes.
async fn uses(deps: &Deps, ctx: &Context, strictness: Strictness) -> Result<Uses> {
    let filter = format!("labels.\"{}\"", label::VOLUMES);
    let records = deps.session.containers().list(ctx, &[filter]).await;
    let records = records.at(Step::FindVolume, "*")?;
    let each = records.iter().filter_map(|record: &Record| {
        let user = VolumeUser {
            id: record.id.clone(),
            name: names::name_of(record).map(str::to_owned),
        };
        match volume_use::of_record(record) {
            Ok(used) => Some(Ok((user, used))),
            Err(error) if strictness == Strictness::Strict => {
                let why = Error::new(Step::FindVolume, &record.id, Kind::Unsupported, error);
                Some(Err(why))
            }
            Err(error) => {
                tracing::warn!(id = %record.id, %error, "cannot read which volumes a container uses");
                None
            }
        }
    });
    each.collect()
}

/// The containers that use a volume.
fn users(uses: &Uses, name: &VolumeName) -> Vec<VolumeUser> {
    let using = uses
        .iter()
        .filter(|(_, used)| used.iter().any(|used| used.name == *name));
    using.map(|(user, _)| user.clone()).collect()
}
