//! The files of a container, for callers that copy from them and to them.
//!
//! Those of a container that runs are seen as its process sees them, with everything that is mounted. Those of one that does
//! not run are its layers and the directories of the host that it mounts. While they are written to, it cannot be
//! started: two mounts of one writable layer would not see each other's changes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use fnctr_oci::Mount;
use tokio::sync::OwnedSemaphorePermit;

use super::archive::{self, ArchiveReader, ArchiveWriter, Pieces};
use super::container::Container;
use super::deps::Deps;
use super::error::{Error, ErrorContext as _, Judged, Kind, Result, Step};
use super::turn::Turn;
use super::{disk, find, kept, record};
use crate::containerd::Record;
use crate::events::{Action, Event, Kind as EventKind};
use crate::files::{self, ContainerPath, FileStat, Layers, MountedFile, Root, Unpacking};
use crate::{ContainerId, Context};

/// How many copies there may be at once: each takes a thread, for as long as its reader or writer likes.
pub(super) const COPIES: usize = 64;

/// What is done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileAccess {
    /// They are read.
    Read,
    /// They are written to.
    Write,
}

/// Why files cannot be reached.
#[derive(Debug, thiserror::Error)]
enum Unreachable {
    #[error("it was removed")]
    Removed,
    #[error("it is being removed")]
    Removing,
    #[error("it has just started or ended; try again")]
    Changed,
    #[error(
        "containerd sees other directories than this process does; run it in containerd's mount namespace"
    )]
    Elsewhere,
    #[error("its snapshotter has no mount for its files")]
    NoMount,
}

impl Judged for files::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::ReadOnly { .. } => Kind::Unsupported,
            Self::Sink(_) | Self::Mount { .. } | Self::Io { .. } => Kind::Internal,
            _ => Kind::InvalidPlan,
        }
    }
}

/// The files of one container. Dropping them gives them back.
#[derive(Debug)]
pub(crate) struct ContainerFiles {
    deps: Arc<Deps>,
    id: ContainerId,
    root: Root,
    /// The user and group of its process.
    user: Option<(u32, u32)>,
    /// Held while they are written to and the container does not run.
    turn: Option<Turn>,
    place: OwnedSemaphorePermit,
}

impl Container {
    /// The container's files. Waits while others copy, and, to write to a container that does not run, until nobody starts
    /// it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if the container was removed; [`Kind::Busy`] if it starts or ends at this moment.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn files(&self, ctx: &Context, access: FileAccess) -> Result<ContainerFiles> {
        let (deps, id) = (self.deps(), self.id());
        let refuse = |kind, why| Error::new(Step::Copy, id, kind, why);
        let place = Arc::clone(&deps.copies).acquire_owned();
        let place = ctx.run(place).await.at(Step::Copy, id)?;
        let place = place.map_err(|error| Error::new(Step::Copy, id, Kind::Internal, error))?;
        let mut turn = None;
        let mut running = self.pid();
        if running.is_none() && access == FileAccess::Write {
            turn = Some(Turn::take(deps, ctx, id).await?);
            running = self.pid();
        }
        let record = find::get(deps, ctx, id).await?;
        if record::attempt_of(&record) != self.attempt() {
            return Err(refuse(Kind::NotFound, Unreachable::Removed));
        }
        if deps.is_being_removed(id, self.attempt()) {
            return Err(refuse(Kind::OutOfOrder, Unreachable::Removing));
        }
        // A run that another process has started.
        if running.is_none() && kept::has_run(&record) {
            match deps.session.tasks().get(ctx, id).await {
                Ok(task) if find::living(&task).is_some() => {
                    return Err(refuse(Kind::Busy, Unreachable::Changed));
                }
                Err(error) if !error.is_not_found() => return Err(error).at(Step::Copy, id),
                Ok(_) | Err(_) => {}
            }
        }
        let root = match running {
            Some(pid) => {
                turn = None;
                blocking(ctx, id, move || Root::of_process(pid)).await?
            }
            None => {
                let layers = self.layers(ctx, &record, access).await?;
                blocking(ctx, id, move || Root::of_layers(layers)).await?
            }
        };
        // The pid may be another process's by now.
        if running != self.pid() {
            return Err(refuse(Kind::Busy, Unreachable::Changed));
        }
        Ok(ContainerFiles {
            deps: Arc::clone(deps),
            id: id.clone(),
            root,
            user: user_of(&record),
            turn,
            place,
        })
    }

    /// The pid of its process, if it has one.
    fn pid(&self) -> Option<u32> {
        let run = self.run().filter(|run| run.exit_now().is_none())?;
        run.pid()
    }

    async fn layers(&self, ctx: &Context, record: &Record, access: FileAccess) -> Result<Layers> {
        let (deps, id) = (self.deps(), self.id());
        let snapshots = deps.session.snapshots(&record.snapshotter);
        let mounts = snapshots.mounts(ctx, &record.snapshot_key).await;
        let mut mounts = mounts.at(Step::Copy, id)?;
        if mounts.is_empty() {
            return Err(Error::new(
                Step::Copy,
                id,
                Kind::Unsupported,
                Unreachable::NoMount,
            ));
        }
        let mount = mounts.swap_remove(0);
        let layer = disk::Layer::of(std::slice::from_ref(&mount));
        let daemon = deps.session.server_pid(ctx).await.at(Step::Copy, id)?;
        if let (Some(layer), Some(daemon)) = (&layer, daemon)
            && disk::differs(daemon, &layer.upper)
        {
            return Err(Error::new(
                Step::Copy,
                id,
                Kind::Unsupported,
                Unreachable::Elsewhere,
            ));
        }
        let config = kept::plan_of(record).map(|plan| plan.config).unwrap_or_default();
        let binds = config.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind {
                source,
                destination,
                readonly,
            } => Some(MountedFile {
                source: source.clone(),
                destination: destination.clone(),
                is_readonly: *readonly,
            }),
            // It is made anew by each start.
            Mount::Tmpfs { .. } => None,
        });
        Ok(Layers {
            kind: mount.kind,
            source: mount.source,
            options: mount.options,
            writes_last: access == FileAccess::Write,
            is_readonly: config.readonly_rootfs,
            mounts: binds.collect(),
            place: PathBuf::from("/sys"),
        })
    }
}

/// The user and group of the container's process.
fn user_of(record: &Record) -> Option<(u32, u32)> {
    let spec: serde_json::Value = serde_json::from_slice(&record.spec).ok()?;
    let id = |name: &str| {
        let id = spec.pointer(&format!("/process/user/{name}"))?.as_u64()?;
        u32::try_from(id).ok()
    };
    Some((id("uid")?, id("gid")?))
}

async fn blocking<T: Send + 'static>(
    ctx: &Context,
    id: &ContainerId,
    work: impl FnOnce() -> Result<T, files::Error> + Send + 'static,
) -> Result<T> {
    let done = ctx.run(tokio::task::spawn_blocking(work)).await;
    let done = done.at(Step::Copy, id)?;
    let done = done.map_err(|panic| Error::new(Step::Copy, id, Kind::Internal, panic))?;
    done.at(Step::Copy, id)
}

impl ContainerFiles {
    /// The user and group of the container's process.
    pub(crate) fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    /// Looks at a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is not there.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stat(self, ctx: &Context, path: ContainerPath) -> Result<FileStat> {
        let id = self.id.clone();
        blocking(ctx, &id, move || {
            let _place = self.place;
            FileStat::of(&self.root, &path)
        })
        .await
    }

    /// Packs a file, or a directory with all that is in it, under the name `named`. Returns what the file is, and the archive as
    /// it is made.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is not there. Later errors are the archive's.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn pack(
        self,
        ctx: &Context,
        path: ContainerPath,
        named: OsString,
    ) -> Result<(FileStat, ArchiveReader)> {
        let id = self.id.clone();
        let event = Event::new(EventKind::Container, Action::ArchivePath, id.as_str());
        let deps = Arc::clone(&self.deps);
        let (sink, archive) = archive::to_reader();
        let packed = blocking(ctx, &id, move || {
            let stat = FileStat::of(&self.root, &path)?;
            Ok((stat, self, path))
        });
        let (stat, this, path) = packed.await?;
        drop(tokio::task::spawn_blocking(move || {
            let _place = this.place;
            let mut sink = sink;
            if let Err(error) = files::pack(&this.root, &path, &named, &mut sink) {
                sink.fail(&error);
            }
        }));
        deps.record(event);
        Ok((stat, archive))
    }

    /// Unpacks an archive into a directory. The archive is what the returned writer is given; the future returns the number
    /// of its entries. If the writer is dropped before it is finished, the archive counts as cut off.
    ///
    /// # Errors
    /// [`Kind::InvalidPlan`] for an archive that cannot be unpacked. What came before the error is unpacked.
    ///
    /// # Cancellation
    /// The future is safe to drop: unpacking goes on, on its own task, with what the writer is given.
    pub(crate) fn unpack(
        self,
        dir: ContainerPath,
        how: Unpacking,
    ) -> (ArchiveWriter, impl Future<Output = Result<u64>>) {
        let (writer, pieces): (ArchiveWriter, Pieces) = archive::from_writer();
        let (deps, id) = (Arc::clone(&self.deps), self.id.clone());
        let event = Event::new(EventKind::Container, Action::ExtractToDir, id.as_str());
        let keep = Arc::clone(&self.deps);
        let unpack = async move {
            let unpacked = tokio::task::spawn_blocking(move || {
                let (_place, _turn) = (self.place, self.turn);
                files::unpack(&self.root, &dir, pieces, how)
            });
            let unpacked = unpacked.await;
            let unpacked = unpacked.map_err(|panic| Error::new(Step::Copy, &id, Kind::Internal, panic))?;
            let count = unpacked.at(Step::Copy, &id)?;
            deps.record(event);
            Ok(count)
        };
        (writer, async move { keep.finished(unpack).await })
    }
}
