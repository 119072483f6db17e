//! Attaches to a container that a server looks after, whether it runs or not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::served::Served;
use super::streams;
use crate::Context;
use crate::engine::attach::Attachment;
use crate::engine::container::Current;
use crate::engine::error::Result;
use crate::stdio::{Chunk, Listener, Over, Wants};

/// How long streams that their holder has given up may take to find another one, once the container has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// An attachment to a container of a server. Dropping it leaves the container as it is.
#[derive(Debug)]
pub(crate) struct ServedAttachment {
    served: Arc<Served>,
    output: Output,
}

#[derive(Debug)]
enum Output {
    /// Of the streams that this process holds, now or during the next run.
    Own {
        listener: Listener,
        is_left: bool,
        /// When the last run was started, if it was over before.
        over: Option<SystemTime>,
        changes: watch::Receiver<Current>,
    },
    /// Of a process that has started the container and waits for its end.
    Another(Attachment),
}

impl Served {
    /// Attaches: the reader gets the output of the current run from now on, or that of the next run. The container waits
    /// for a reader that takes nothing, unless another process holds the streams.
    ///
    /// # Errors
    /// Those of [`Container::attach`](crate::engine::Container::attach), if another process holds the streams.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn attach(self: &Arc<Self>, ctx: &Context, wants: Wants) -> Result<ServedAttachment> {
        // Before the container is looked at, so that nothing is missed if it is started now.
        let listener = self.streams().listen_patiently(wants);
        let changes = self.container().changes();
        let over = changes.borrow().over();
        if self.gone().check().is_err() {
            self.streams().end();
        }
        streams::hold(self);
        let alive = self.container().run().filter(|run| run.exit_now().is_none());
        let is_own = alive.is_none_or(|run| run.is_ready() || self.holds(&run));
        let output = match is_own || !self.container().is_kept() {
            true => Output::Own {
                listener,
                is_left: false,
                over,
                changes,
            },
            false => Output::Another(self.container().attach(ctx, wants).await?),
        };
        let served = Arc::clone(self);
        Ok(ServedAttachment { served, output })
    }
}

impl ServedAttachment {
    /// A writer of the input of the current run, or of the next one; what is written before a run is kept for it. If
    /// it `ends` the input, the container reads the end of file once the writer is shut down. `None` if there is no
    /// input, or if another process has it and this attachment's writer was taken before.
    pub(crate) fn take_input(&mut self, ends: bool) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
        match &mut self.output {
            Output::Own { .. } => {
                let writer = self.served.streams().writer(ends);
                writer.map(|writer| Box::new(writer) as _)
            }
            Output::Another(attachment) => attachment.take_input(),
        }
    }

    /// The next part of the output.
    ///
    /// # Errors
    /// [`Over`] is the reason why there is none.
    ///
    /// # Cancellation
    /// Safe to drop, and not to call again if another process holds the streams.
    pub(crate) async fn next(&mut self) -> Result<Chunk, Over> {
        let (listener, is_left, over, changes) = match &mut self.output {
            Output::Own {
                listener,
                is_left,
                over,
                changes,
            } => (listener, is_left, *over, changes),
            Output::Another(attachment) => return attachment.next().await,
        };
        loop {
            let next = tokio::select! {
                biased;
                next = listener.next() => next,
                () = ended(&self.served), if *is_left => Err(Over::Ended),
                () = passed(changes, over), if !listener.has_begun() => match listener.has_begun() {
                    true => continue,
                    false => Err(Over::Ended),
                },
            };
            match next {
                // Such as when the run was adopted before its start was complete: it is adopted again, and the streams
                // with it.
                Err(Over::HolderGone) if self.served.container().is_running() => {
                    listener.rejoin();
                    *is_left = true;
                }
                next => return next,
            }
        }
    }
}

/// Waits until a later run than the one that was `over` has ended. If none of its output came this way, another process
/// had its streams.
async fn passed(changes: &mut watch::Receiver<Current>, over: Option<SystemTime>) {
    // The sender lives as long as the container.
    drop(
        changes
            .wait_for(|current| current.end_since(over).is_some())
            .await,
    );
}

/// Waits until the container has ended, and a while for the rest of its output.
async fn ended(served: &Served) {
    if let Some(run) = served.container().run() {
        drop(run.wait_exit().await);
    }
    tokio::time::sleep(PATIENCE).await;
}
