//! The volumes of a container that is being made: they are made if they are missing, mounted, and filled with what the image
//! has at their places.
//!
//! From the first look at a volume until the record states that the container uses it, the right to change volumes is
//! held, so that nobody removes the volume meanwhile. A container without volumes costs nothing here.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use fnctr_oci::Mount;

use super::Deps;
use super::error::{Error, ErrorContext as _, Judged, Kind, Result, Step};
use super::plan::Plan;
use super::volume_use::VolumeUse;
use super::{disk, volumes};
use crate::containerd::Mount as Layer;
use crate::events::Action;
use crate::files::{self, ContainerPath, Layers, Root};
use crate::teardown::Teardown;
use crate::volume::{self, Filling, Held, Volume, VolumeName};
use crate::{ContainerId, Context};

/// Why volumes cannot be filled.
#[derive(Debug, thiserror::Error)]
enum NotFilled {
    #[error(
        "containerd sees other directories than this process does, so the image's files cannot be copied into volume {volume}; \
         run it in containerd's mount namespace, or give the volume the option nocopy"
    )]
    Elsewhere { volume: VolumeName },
    #[error(
        "the snapshotter does not describe the files of the image as one mount, so they cannot be copied into volume {volume}; \
         give it the option nocopy"
    )]
    NoMount { volume: VolumeName },
    #[error("volume {volume} cannot be filled with the image's files")]
    Files {
        volume: VolumeName,
        #[source]
        source: files::Error,
    },
    #[error(transparent)]
    Volume(#[from] volume::Error),
}

impl Judged for NotFilled {
    fn kind(&self) -> Kind {
        match self {
            Self::Elsewhere { .. } | Self::NoMount { .. } => Kind::Unsupported,
            Self::Files { .. } => Kind::Internal,
            Self::Volume(error) => error.kind(),
        }
    }
}

impl Judged for volume::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::Busy => Kind::Busy,
            Self::Interrupted(why) => (*why).into(),
            Self::Unreadable { .. } => Kind::Unsupported,
            Self::Io { .. } => Kind::Internal,
        }
    }
}

/// The volumes of one create.
#[derive(Debug, Default)]
pub(super) struct VolumeMounts {
    /// Until the record is made.
    held: Option<Held>,
    /// Those that were not there before.
    made: Vec<VolumeName>,
    /// Those that get the image's files, if they have none, and where they are mounted.
    filled: Vec<(Volume, PathBuf)>,
}

impl VolumeMounts {
    /// The plan with a mount for each of its volumes. Makes those that are missing. Those that nobody has named go with a
    /// container that is not kept: the step for that is put on the list.
    ///
    /// # Cancellation
    /// Not safe to drop: [`Self::undo`] removes what was made.
    pub(super) async fn add<'p>(
        &mut self,
        deps: &Arc<Deps>,
        ctx: &Context,
        plan: &'p Plan,
        undo: &mut Teardown,
    ) -> Result<Cow<'p, Plan>> {
        if plan.volumes.is_empty() {
            return Ok(Cow::Borrowed(plan));
        }
        look_at_directories(deps, ctx, plan).await?;
        if !plan.is_kept {
            volumes::defer_removal(undo, deps, &plan.volumes);
        }
        let held = volumes::store(deps).hold(ctx).await;
        let held = held.at(Step::Volumes, &plan.id)?;
        let uses = plan.volumes.clone();
        let ensured = tokio::task::spawn_blocking(move || {
            let mut ensured = Vec::new();
            let failed = uses.into_iter().try_for_each(|used| {
                let (volume, is_new) = held.ensure(&used.name, &used.made_with)?;
                if !used.is_filled {
                    Filling::forget(&volume);
                }
                ensured.push((used, volume, is_new));
                Ok::<_, volume::Error>(())
            });
            (held, ensured, failed)
        });
        let (held, ensured, failed) = ensured
            .await
            .map_err(|panic| Error::new(Step::Volumes, &plan.id, Kind::Internal, panic))?;
        self.held = Some(held);
        let mut mounted = plan.clone();
        for (used, volume, is_new) in ensured {
            if is_new {
                self.made.push(used.name.clone());
                deps.tell_volume(Action::Create, &used.name);
            }
            mounted.config.mounts.push(Mount::Bind {
                source: volume.files(),
                destination: used.destination.clone(),
                readonly: used.readonly,
            });
            if used.is_filled {
                self.filled.push((volume, used.destination));
            }
        }
        failed.at(Step::Volumes, &plan.id)?;
        Ok(Cow::Owned(mounted))
    }

    /// Gives the right to change volumes back, as the record states by now who uses them, and copies the image's files into
    /// those that have none. `rootfs` is the writable layer, which nothing has mounted yet.
    ///
    /// # Cancellation
    /// Safe to drop: the copy goes on by itself.
    pub(super) async fn fill(&mut self, deps: &Deps, id: &ContainerId, rootfs: &[Layer]) -> Result<()> {
        self.held = None;
        let filled = std::mem::take(&mut self.filled);
        let Some((first, _)) = filled.first() else {
            return Ok(());
        };
        let volume = first.name.clone();
        let [layer] = rootfs else {
            return Err(NotFilled::NoMount { volume }).at(Step::Volumes, id);
        };
        let upper = disk::Layer::of(rootfs).map(|layer| layer.upper);
        if let (Some(upper), Some(daemon)) = (upper, deps.host.daemon)
            && disk::differs(daemon, &upper)
        {
            return Err(NotFilled::Elsewhere { volume }).at(Step::Volumes, id);
        }
        let layers = Layers {
            kind: layer.kind.clone(),
            source: layer.source.clone(),
            options: layer.options.clone(),
            writes_last: false,
            is_readonly: false,
            mounts: Vec::new(),
            place: PathBuf::from("/sys"),
        };
        let copied = tokio::task::spawn_blocking(move || {
            let each = filled.iter();
            each.map(|(volume, destination)| fill(&layers, volume, destination))
                .collect::<Result<Vec<()>, _>>()
        });
        let copied = copied
            .await
            .map_err(|panic| Error::new(Step::Volumes, id, Kind::Internal, panic))?;
        copied.at(Step::Volumes, id).map(drop)
    }

    /// Removes the volumes that this create has made, and gives the right to change volumes back, if it still has that: nobody
    /// else can use them. Before the container is undone, whose steps need the right, too.
    pub(super) async fn undo_held(mut self, deps: &Deps) -> Self {
        if let Some(held) = self.held.take() {
            volumes::remove_held(deps, held, std::mem::take(&mut self.made)).await;
        }
        self
    }

    /// Removes the volumes that this create has made and that nobody has named. After the container, whose record states that it
    /// uses them.
    pub(super) async fn undo(self, deps: &Deps, ctx: &Context, plan: &Plan) {
        let is_anonymous = |name: &VolumeName| {
            let mut uses = plan.volumes.iter();
            uses.any(|used| used.name == *name && used.is_anonymous())
        };
        for name in self.made.into_iter().filter(is_anonymous) {
            if let Err(error) = volumes::remove(deps, ctx, &name).await
                && !matches!(error.kind(), Kind::Conflict | Kind::NotFound)
            {
                tracing::warn!(error = %crate::chain(&error), "a failed create leaves a volume; `fnctr volume prune` removes it");
            }
        }
    }
}

/// Looks at the directories of the host that the container mounts, before others wait for this create: one on a file server that is
/// away never answers.
async fn look_at_directories(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<()> {
    let store = volumes::store(deps);
    let (uses, mounts) = (plan.volumes.clone(), plan.config.mounts.clone());
    let look = tokio::task::spawn_blocking(move || {
        let device = |used: &VolumeUse| match store.get(&used.name) {
            Ok(volume) => volume.about.made_with.options.device(),
            Err(_) => used.made_with.options.device(),
        };
        let binds = mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { source, .. } => Some(source.clone()),
            Mount::Tmpfs { .. } => None,
        });
        for dir in uses.iter().filter_map(device).chain(binds) {
            // What is wrong with it is told by the checks.
            drop(std::fs::metadata(dir));
        }
    });
    ctx.run(look).await.at(Step::Volumes, &plan.id).map(drop)
}

fn fill(layers: &Layers, volume: &Volume, destination: &std::path::Path) -> Result<(), NotFilled> {
    // The same volume may be mounted twice, or be another container's.
    let Some(filling) = Filling::begin(volume)? else {
        return Ok(());
    };
    let from = ContainerPath::new(&format!("{}/.", destination.display()));
    let copied = || {
        let image = Root::of_layers(layers.clone())?;
        files::copy_tree(&image, &from, &Root::at(&volume.files())?)
    };
    copied().map_err(|source| NotFilled::Files {
        volume: volume.name.clone(),
        source,
    })?;
    Ok(filling.done()?)
}
