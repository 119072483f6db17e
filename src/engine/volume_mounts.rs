//! The volumes of a container that is being made: they are made if they are missing, mounted, and filled with what the image
//! has at their places.
//!
//! From the first look at a volume until the record states that the container uses it, the right to change volumes is
//! held, so that nobody removes the volume meanwhile. A container without volumes costs nothing here.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use fnctr_oci::Mount;

use super::Deps;
use super::error::{Error, ErrorContext as _, Judged, Kind, Result, Step};
use super::plan::Plan;
use super::{disk, volumes};
use crate::containerd::Mount as Layer;
use crate::files::{self, ContainerPath, Layers, Root};
use crate::volume::{self, Held, VolumeName};
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
    held: Option<Held>,
    /// Those that were not there before.
    made: Vec<VolumeName>,
    /// Those without files, which may get the image's.
    empty: Vec<Empty>,
}

/// A volume without files.
#[derive(Debug, Clone)]
struct Empty {
    name: VolumeName,
    destination: PathBuf,
    files: PathBuf,
}

impl VolumeMounts {
    /// The plan with a mount for each of its volumes. Makes those that are missing.
    ///
    /// # Cancellation
    /// Not safe to drop: [`Self::undo`] removes what was made.
    pub(super) async fn add<'p>(
        &mut self,
        deps: &Deps,
        ctx: &Context,
        plan: &'p Plan,
    ) -> Result<Cow<'p, Plan>> {
        if plan.volumes.is_empty() {
            return Ok(Cow::Borrowed(plan));
        }
        let held = volumes::store(deps).hold(ctx).await;
        let held = self.held.insert(held.at(Step::Volumes, &plan.id)?);
        let mut mounted = plan.clone();
        for used in &plan.volumes {
            let ensured = held.ensure(&used.name, &used.made_with);
            let (volume, is_new) = ensured.at(Step::Volumes, &plan.id)?;
            if is_new {
                self.made.push(used.name.clone());
                deps.tell_volume(crate::events::Action::Create, &used.name);
            }
            let files = volume.files();
            if used.is_filled && is_empty(&files) {
                self.empty.push(Empty {
                    name: used.name.clone(),
                    destination: used.destination.clone(),
                    files: files.clone(),
                });
            }
            mounted.config.mounts.push(Mount::Bind {
                source: files,
                destination: used.destination.clone(),
                readonly: used.readonly,
            });
        }
        Ok(Cow::Owned(mounted))
    }

    /// Copies the image's files into the volumes that have none, and gives the right to change volumes back: the record states
    /// by now who uses them. `rootfs` is the writable layer, which nothing has mounted yet.
    ///
    /// # Cancellation
    /// Safe to drop: the copy goes on by itself.
    pub(super) async fn fill(&mut self, deps: &Deps, id: &ContainerId, rootfs: &[Layer]) -> Result<()> {
        let (held, empty) = (self.held.take(), std::mem::take(&mut self.empty));
        let Some(first) = empty.first() else {
            return Ok(());
        };
        let refuse = |why| Error::new(Step::Volumes, id, Kind::Unsupported, why);
        let volume = first.name.clone();
        let [layer] = rootfs else {
            return Err(refuse(NotFilled::NoMount { volume }));
        };
        let upper = disk::Layer::of(rootfs).map(|layer| layer.upper);
        if let (Some(upper), Some(daemon)) = (upper, deps.host.daemon)
            && disk::differs(daemon, &upper)
        {
            return Err(refuse(NotFilled::Elsewhere { volume }));
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
            // Given back by this thread, even if the caller has gone away.
            let _held = held;
            let image = Root::of_layers(layers)?;
            empty.iter().try_for_each(|empty| fill(&image, empty))
        });
        let copied = copied
            .await
            .map_err(|panic| Error::new(Step::Volumes, id, Kind::Internal, panic))?;
        copied.at(Step::Volumes, id)
    }

    /// Removes the volumes that this create has made, unless another container uses them by now.
    pub(super) async fn undo(self, deps: &Deps, ctx: &Context) {
        drop(self.held);
        for name in self.made {
            if let Err(error) = volumes::remove(deps, ctx, &name).await
                && error.kind() != Kind::Conflict
            {
                tracing::warn!(error = %crate::chain(&error), "a failed create leaves a volume; `fnctr volume rm` removes it");
            }
        }
    }
}

/// Whether a directory has no files. One that cannot be read is left alone.
fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn fill(image: &Root, empty: &Empty) -> Result<(), files::Error> {
    // The same volume may be mounted twice.
    if !is_empty(&empty.files) {
        return Ok(());
    }
    let from = format!("{}/.", empty.destination.display());
    match files::copy_tree(image, &ContainerPath::new(&from), &Root::at(&empty.files)?) {
        // The image has nothing there, or a file, which the mount cannot cover and the runtime reports.
        Err(files::Error::Missing { .. } | files::Error::NotDirectory { .. }) => Ok(()),
        copied => copied,
    }
}
