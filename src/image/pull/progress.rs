//! The progress of a pull, for display: only the latest state is kept, so a slow watcher costs nothing.

use tokio::sync::watch;

use crate::Digest;

/// The state of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// Its transfer has not started, or another pull fetches it.
    Waiting,
    /// This many of its bytes have been received.
    Downloading(u64),
    /// It is complete, but the layers below it are not unpacked yet.
    Fetched,
    /// It is being unpacked.
    Extracting,
    /// It was fetched and unpacked.
    Done,
    /// It existed before the pull.
    Exists,
}

/// The progress of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerProgress {
    /// The digest of its blob.
    pub(crate) digest: Digest,
    /// The size of its blob in bytes.
    pub(crate) total: u64,
    /// The state of the layer.
    pub(crate) state: LayerState,
}

/// The progress of a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The digest that the name refers to; `None` until the registry has returned it.
    pub(crate) target: Option<Digest>,
    /// The layers, lowest first; empty until they are known.
    pub(crate) layers: Vec<LayerProgress>,
    /// How often the pull was retried.
    pub(crate) retries: u64,
    /// Why the last attempt failed, as one sentence.
    pub(crate) last: Option<String>,
}

/// Publishes the progress of a pull.
#[derive(Debug, Clone)]
pub(super) struct Reporter(watch::Sender<Progress>);

impl Reporter {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    pub(super) fn target(&self, digest: &Digest) {
        self.0
            .send_modify(|progress| progress.target = Some(digest.clone()));
    }

    pub(super) fn layers(&self, layers: Vec<LayerProgress>) {
        self.0.send_modify(|progress| progress.layers = layers);
    }

    /// Records a failure that does not end the pull.
    pub(super) fn failed(&self, why: &(dyn std::error::Error + 'static)) {
        let why = crate::chain(why);
        self.0.send_modify(|progress| progress.last = Some(why));
    }

    /// Why the last attempt failed.
    pub(super) fn last(&self) -> Option<String> {
        self.0.borrow().last.clone()
    }

    pub(super) fn retry(&self) {
        self.0.send_modify(|progress| progress.retries += 1);
    }

    pub(super) fn layer(&self, at: usize, state: LayerState) {
        self.0.send_if_modified(|progress| {
            let Some(layer) = progress.layers.get_mut(at) else {
                return false;
            };
            let changed = layer.state != state;
            layer.state = state;
            changed
        });
    }
}
