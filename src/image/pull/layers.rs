//! The layers: a few are fetched at a time, and they are unpacked in order, each as soon as it and all layers below it
//! are complete.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::fetch;
use super::progress::{LayerProgress, LayerState, Reporter};
use super::resolve::Resolved;
use super::work::{Work, abandoned};
use crate::Context;
use crate::image::Error;
use crate::image::unpack::{self, chain_ids};

/// How long a layer has the connection for itself before the transfer of the layer above it starts. Unpacking waits for
/// the lowest layer, so on a fast connection layers are fetched one after the other, and on a slow one at the same
/// time.
const HEAD_START: Duration = Duration::from_millis(250);

/// The task that fetches a layer.
type Fetching = JoinHandle<Result<(), Error>>;

/// Makes sure that the snapshot that all layers together make up exists, and that the image keeps it alive. Returns the
/// name of the snapshot.
///
/// # Cancellation
/// Not safe to drop, because the tasks that fetch would outlive the future. To give up, interrupt `ctx`: the tasks are
/// then cancelled and awaited.
pub(super) async fn all(work: &Arc<Work>, ctx: &Context, resolved: &Resolved) -> Result<String, Error> {
    let images = &work.job.shared.images;
    let (name, snapshotter) = (&work.job.name, &images.snapshotter);
    let chain = chain_ids(&resolved.diff_ids);
    let Some(top) = chain.last() else {
        return Err(Error::malformed(name, "it has no layers"));
    };
    let session = work.scratch.leased();
    unpack::keep(&session, ctx, snapshotter, &resolved.config, top)
        .await
        .map_err(Error::containerd(name))?;
    let unpacked = unpacked(work, ctx, &chain).await?;
    work.job.reporter.layers(begin(resolved, unpacked));
    let fetching = Fetches::begin(work, ctx, resolved, unpacked);
    let done = unpack_in_order(work, &fetching, resolved, &chain, unpacked).await;
    fetching.end(done).await.map(|()| top.clone())
}

/// How many layers, counted from the lowest, have a snapshot already. The lease holds these snapshots.
async fn unpacked(work: &Work, ctx: &Context, chain: &[String]) -> Result<usize, Error> {
    // Usually all snapshots exist or none, and the top snapshot depends on all others.
    if let Some(top) = chain.last()
        && held(work, ctx, top).await?
    {
        return Ok(chain.len());
    }
    let mut count = 0;
    for name in chain {
        if !held(work, ctx, name).await? {
            break;
        }
        count += 1;
    }
    Ok(count)
}

async fn held(work: &Work, ctx: &Context, name: &str) -> Result<bool, Error> {
    let snapshotter = &work.job.shared.images.snapshotter;
    unpack::held(&work.scratch, ctx, snapshotter, &work.job.name, name).await
}

fn begin(resolved: &Resolved, unpacked: usize) -> Vec<LayerProgress> {
    let state = |at| {
        if at < unpacked {
            LayerState::Exists
        } else {
            LayerState::Waiting
        }
    };
    resolved
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| LayerProgress {
            digest: layer.digest.clone(),
            total: layer.size,
            state: state(at),
        })
        .collect()
}

/// How many bytes have been received that another pull could reuse.
pub(super) fn fetched(reporter: &Reporter) -> u64 {
    let progress = reporter.watch();
    let progress = progress.borrow();
    // The sizes come from the manifest and may be arbitrarily large, so the sum saturates.
    let bytes = progress.layers.iter().map(|layer| match layer.state {
        LayerState::Waiting | LayerState::Exists => 0,
        LayerState::Downloading(bytes) => bytes,
        LayerState::Fetched | LayerState::Extracting | LayerState::Done => layer.total,
    });
    bytes.fold(0, u64::saturating_add)
}

/// The tasks that fetch layers, lowest layer first.
struct Fetches {
    /// The context of all fetches; cancelling it ends them.
    ctx: Context,
    /// The name of the image, for errors.
    image: String,
    tasks: Vec<(usize, tokio::sync::Mutex<Option<Fetching>>)>,
}

impl Fetches {
    fn begin(work: &Arc<Work>, ctx: &Context, resolved: &Resolved, unpacked: usize) -> Self {
        let ctx = ctx.child();
        let room = Arc::new(Semaphore::new(work.job.shared.settings.layers.max(1)));
        let missing = resolved.layers.iter().enumerate().skip(unpacked);
        // Each task waits until its token is cancelled, which means that it may start. The lowest may start at once.
        let mut may_start = CancellationToken::new();
        may_start.cancel();
        let tasks = missing.map(|(at, layer)| {
            let next_may_start = CancellationToken::new();
            let this_may_start = std::mem::replace(&mut may_start, next_may_start.clone());
            let (work, ctx, room, layer) = (Arc::clone(work), ctx.clone(), Arc::clone(&room), layer.clone());
            let tracker = work.job.shared.tracker.clone();
            let fetching = async move {
                // If the wait is interrupted, the fetch itself returns the error.
                let _ = ctx.run(this_may_start.cancelled()).await;
                let fetching = fetch::layer(&work, &ctx, &room, &layer, at);
                tokio::pin!(fetching);
                let fetched = tokio::select! {
                    biased;
                    fetched = &mut fetching => Some(fetched),
                    () = tokio::time::sleep(HEAD_START) => None,
                };
                next_may_start.cancel();
                let fetched = match fetched {
                    Some(fetched) => fetched,
                    None => tokio::select! {
                        biased;
                        fetched = fetching => fetched,
                        source = abandoned(&ctx) => Err(work.job.not_pulled(source)),
                    },
                };
                if fetched.is_err() {
                    // Without this layer the others are of no use.
                    ctx.cancel();
                }
                fetched
            };
            (
                at,
                tokio::sync::Mutex::new(Some(tracker.spawn(fetching.in_current_span()))),
            )
        });
        Self {
            tasks: tasks.collect(),
            ctx,
            image: work.job.name.clone(),
        }
    }

    /// Waits for the layer with this index.
    async fn wait(&self, at: usize) -> Result<(), Error> {
        let Some((_, task)) = self.tasks.iter().find(|(place, _)| *place == at) else {
            return Ok(());
        };
        match task.lock().await.take() {
            Some(task) => joined(task, &self.image).await,
            None => Ok(()),
        }
    }

    /// Waits for all running tasks; after a failure, they are cancelled. Returns the first error that is not an
    /// interruption, since a failure interrupts the other tasks; else the first interruption.
    async fn end(self, done: Result<(), Error>) -> Result<(), Error> {
        if done.is_err() {
            self.ctx.cancel();
        }
        let mut first = done;
        for (_, task) in self.tasks {
            let Some(task) = task.into_inner() else { continue };
            let ended = joined(task, &self.image).await;
            let is_replaceable = |outcome: &Result<(), Error>| match outcome {
                Ok(()) => true,
                Err(why) => why.interrupted().is_some(),
            };
            if is_replaceable(&first) && ended.is_err() && (first.is_ok() || !is_replaceable(&ended)) {
                first = ended;
            }
        }
        first
    }
}

async fn joined(task: Fetching, image: &str) -> Result<(), Error> {
    task.await.unwrap_or_else(|panic| {
        Err(Error::Broken {
            image: image.to_owned(),
            why: panic.to_string(),
        })
    })
}

async fn unpack_in_order(
    work: &Work,
    fetching: &Fetches,
    resolved: &Resolved,
    chain: &[String],
    unpacked: usize,
) -> Result<(), Error> {
    let snapshotter = &work.job.shared.images.snapshotter;
    let reporter = &work.job.reporter;
    let layers = resolved.layers.iter().zip(&resolved.diff_ids).zip(chain);
    let mut below: Option<&str> = None;
    for (at, ((layer, diff_id), name)) in layers.enumerate() {
        if at >= unpacked {
            fetching.wait(at).await?;
            fetching
                .ctx
                .check()
                .map_err(|source| work.job.not_pulled(source))?;
            // Two images that share a layer unpack it only once.
            let turn = work.job.shared.images.unpacking.take(name);
            let _turn = fetching
                .ctx
                .run(turn)
                .await
                .map_err(|source| work.job.not_pulled(source))?;
            reporter.layer(at, LayerState::Extracting);
            if !held(work, &fetching.ctx, name).await? {
                unpack::one(
                    &work.scratch,
                    &fetching.ctx,
                    snapshotter,
                    &work.job.name,
                    (layer, diff_id),
                    (below, name),
                )
                .await?;
            }
            reporter.layer(at, LayerState::Done);
        }
        below = Some(name);
    }
    Ok(())
}
