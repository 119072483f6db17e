//! The volumes of this instance, and who uses them.

use std::sync::Arc;

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::{Deps, Engine, VolumeUse, find, label, names, volume_use};
use crate::containerd::Record;
use crate::events::{Action, Event, Kind as EventKind};
use crate::volume::{NewVolume, Volume, VolumeName, VolumeStore};
use crate::{ContainerId, Context};

/// The directory of all volumes, below that of what outlives a reboot.
const DIR: &str = "volumes";

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
        let uses = uses(&self.0, ctx).await?;
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
        let uses = uses(&self.0, ctx).await?;
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
            let ensured = held.ensure(&name, &new);
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

/// Removes a volume that no container uses.
pub(super) async fn remove(deps: &Deps, ctx: &Context, name: &VolumeName) -> Result<()> {
    let store = store(deps);
    let held = store.hold(ctx).await.at(Step::RemoveVolume, name.as_str())?;
    // Before the records are asked for, which takes longer.
    store.get(name).at(Step::RemoveVolume, name.as_str())?;
    let users = users(&uses(deps, ctx).await?, name);
    if !users.is_empty() {
        let why = VolumeInUse { users };
        return Err(Error::new(Step::RemoveVolume, name.as_str(), Kind::Conflict, why));
    }
    let gone = name.clone();
    let removed = tokio::task::spawn_blocking(move || held.remove(&gone)).await;
    let removed =
        removed.map_err(|panic| Error::new(Step::RemoveVolume, name.as_str(), Kind::Internal, panic))?;
    removed.at(Step::RemoveVolume, name.as_str())?;
    deps.tell_volume(Action::Destroy, name);
    Ok(())
}

/// A container, and the volumes that it uses.
type Uses = Vec<(VolumeUser, Vec<VolumeUse>)>;

/// Which containers use volumes.
async fn uses(deps: &Deps, ctx: &Context) -> Result<Uses> {
    let filter = format!("labels.\"{}\"", label::VOLUMES);
    let records = deps.session.containers().list(ctx, &[filter]).await;
    let records = records.at(Step::FindVolume, "*")?;
    let each = records.iter().map(|record: &Record| {
        let user = VolumeUser {
            id: record.id.clone(),
            name: names::name_of(record).map(str::to_owned),
        };
        // If these cannot be read, the container may use any volume.
        let used = volume_use::of_record(record);
        let used =
            used.map_err(|error| Error::new(Step::FindVolume, &record.id, Kind::Unsupported, error))?;
        Ok((user, used))
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
