//! The files of a container, for callers that copy from them and to them.
//!
//! Those of a container that runs are seen as its process sees them, with everything that is mounted. Those of one that does
//! not run are its layers and the directories of the host that it mounts. While they are written to, it cannot be
//! started: two mounts of one writable layer would not see each other's changes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fnctr_oci::{ContainerConfig, Mount};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::archive::{self, ArchiveReader, ArchiveWriter, Pieces};
use super::container::Container;
use super::deps::Deps;
use super::error::{Error, ErrorContext as _, Judged, Kind, Result, Step};
use super::run::Run;
use super::turn::Turn;
use super::{disk, find, kept, record};
use crate::containerd::Record;
use crate::events::{Action, Event, Kind as EventKind};
use crate::files::{self, ContainerPath, FileStat, Layers, MountedFile, Root, Unpacking};
use crate::pauses::Pauses;
use crate::{ContainerId, Context};

/// How many copies there may be at once: each takes a thread.
pub(super) const COPIES: usize = 64;

/// How long the end of a run may take to be written down, before files are written to.
const SETTLING: Duration = Duration::from_secs(5);
/// The first and the longest pause between two looks at whether it is.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// What is done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileAccess {
    /// They are read.
    Read,
    /// They are written to.
    Write,
    /// The root file system alone is read, without what is mounted into it.
    Export,
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
    #[error("its snapshotter does not describe its files as one mount")]
    NoMount,
}

impl Judged for files::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::Ended => Kind::Busy,
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
    attempt: String,
    /// The user and group of its process.
    user: Option<(u32, u32)>,
    held: Held,
}

/// What a copy holds. The root goes before the turn: whoever has the turn next may mount the layer.
#[derive(Debug)]
struct Held {
    root: Root,
    /// Held while they are written to and the container does not run.
    _turn: Option<Turn>,
    _place: OwnedSemaphorePermit,
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
        let (until, mut pauses) = (Instant::now() + SETTLING, Pauses::new(AGAIN.0, AGAIN.1));
        let (turn, running, record) = loop {
            let mut turn = None;
            let mut running = self.living();
            if running.is_none() && access == FileAccess::Write {
                turn = Some(Turn::take(deps, ctx, id).await?);
                running = self.living();
            }
            let record = find::get(deps, ctx, id).await?;
            if record::attempt_of(&record) != self.attempt() {
                return Err(refuse(Kind::NotFound, Unreachable::Removed));
            }
            if deps.is_being_removed(id, self.attempt()) {
                return Err(refuse(Kind::OutOfOrder, Unreachable::Removing));
            }
            if running.is_some() || !self.is_in_between(ctx, &record, access).await? {
                break (turn, running, record);
            }
            // Whoever writes the end of the run down needs the turn.
            drop(turn);
            if Instant::now() >= until {
                return Err(refuse(Kind::Busy, Unreachable::Changed));
            }
            ctx.run(pauses.wait()).await.at(Step::Copy, id)?;
        };
        let layers = match (&running, access) {
            (Some(_), FileAccess::Read | FileAccess::Write) => None,
            (_, access) => Some(self.layers(ctx, &record, access).await?),
        };
        if running.is_some() && !deps.host.shares_pids {
            return Err(refuse(Kind::Unsupported, Unreachable::Elsewhere));
        }
        // Last, so that nobody who only waits has one.
        let place = Arc::clone(&deps.copies).acquire_owned();
        let place = ctx.run(place).await.at(Step::Copy, id)?;
        let place = place.map_err(|error| Error::new(Step::Copy, id, Kind::Internal, error))?;
        let pid = running.as_ref().and_then(Run::pid).filter(|_| layers.is_none());
        // A caller that goes away leaves the thread alone with what it needs.
        let held = blocking(ctx, id, move || {
            let root = match (layers, pid) {
                (Some(layers), _) => Root::of_layers(layers)?,
                (None, Some(pid)) => Root::of_process(pid)?,
                (None, None) => return Err(files::Error::Ended),
            };
            let turn = turn.filter(|_| pid.is_none());
            Ok(Held {
                root,
                _turn: turn,
                _place: place,
            })
        });
        let held = held.await?;
        // The pid may be another process's by now.
        if let (Some(run), Some(_)) = (&running, pid)
            && run.alive().now() != Some(true)
        {
            return Err(refuse(Kind::Busy, Unreachable::Changed));
        }
        Ok(ContainerFiles {
            deps: Arc::clone(deps),
            id: id.clone(),
            attempt: self.attempt().to_owned(),
            user: user_of(&record),
            held,
        })
    }

    /// Its run, if its process lives.
    fn living(&self) -> Option<Run> {
        let run = self.run().filter(|run| run.exit_now().is_none())?;
        run.pid().map(|_| run)
    }

    /// Whether the record has a run that this process does not know to live: it lives, or its end is about to be written down,
    /// which does not matter to a reader.
    async fn is_in_between(&self, ctx: &Context, record: &Record, access: FileAccess) -> Result<bool> {
        if !kept::has_run(record) {
            return Ok(false);
        }
        match self.deps().session.tasks().get(ctx, self.id()).await {
            Ok(task) => Ok(access == FileAccess::Write || find::living(&task).is_some()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error).at(Step::Copy, self.id()),
        }
    }

    async fn layers(&self, ctx: &Context, record: &Record, access: FileAccess) -> Result<Layers> {
        let (deps, id) = (self.deps(), self.id());
        let snapshots = deps.session.snapshots(&record.snapshotter);
        let mounts = snapshots.mounts(ctx, &record.snapshot_key).await;
        let mut mounts = mounts.at(Step::Copy, id)?;
        if mounts.len() != 1 {
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
        let config = match kept::is_kept(record) {
            true => kept::plan_of(record)?.config,
            false => ContainerConfig::default(),
        };
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
            is_readonly: config.readonly_rootfs && access == FileAccess::Write,
            mounts: match access {
                FileAccess::Export => Vec::new(),
                FileAccess::Read | FileAccess::Write => binds.collect(),
            },
            place: PathBuf::from("/sys"),
        })
    }
}

/// Whether the container that this attempt made is still there, and nobody removes it.
async fn is_there(deps: &Deps, id: &ContainerId, attempt: &str) -> bool {
    let ctx = Context::timeout(deps.config.close_grace);
    let found = find::get(deps, &ctx, id).await;
    // If containerd does not answer, nobody can have removed it.
    found.map_or_else(
        |error| error.kind() != Kind::NotFound,
        |record| record::attempt_of(&record) == attempt,
    ) && !deps.is_being_removed(id, attempt)
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
        let (id, held) = (self.id, self.held);
        blocking(ctx, &id, move || {
            // All of it: a closure takes the root alone otherwise, and the rest would be given back before.
            let held = held;
            FileStat::of(&held.root, &path)
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
        let Self {
            deps,
            id,
            attempt,
            held,
            ..
        } = self;
        let event = Event::new(EventKind::Container, Action::ArchivePath, id.as_str());
        let (mut sink, archive) = archive::to_reader();
        let looked = blocking(ctx, &id, move || {
            let stat = FileStat::of(&held.root, &path)?;
            Ok((stat, held, path))
        });
        let (stat, held, path) = looked.await?;
        deps.record(event);
        let keep = Arc::clone(&deps);
        let pack = async move {
            let packed = tokio::task::spawn_blocking(move || {
                let held = held;
                let packed = files::pack(&held.root, &path, &named, &mut sink);
                (packed, sink)
            });
            let Ok((packed, sink)) = packed.await else {
                return;
            };
            match packed {
                Err(error) => sink.fail(&crate::chain(&error)).await,
                // What vanishes is left out, and with a removal everything does.
                Ok(()) if !is_there(&deps, &id, &attempt).await => {
                    sink.fail("the container was removed while its files were packed")
                        .await;
                }
                Ok(()) => sink.finish().await,
            }
        };
        keep.background.tracker.spawn(pack);
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
        let Self { deps, id, held, .. } = self;
        let event = Event::new(EventKind::Container, Action::ExtractToDir, id.as_str());
        let keep = Arc::clone(&deps);
        let unpack = async move {
            let unpacked = tokio::task::spawn_blocking(move || {
                let held = held;
                files::unpack(&held.root, &dir, pieces, how)
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
