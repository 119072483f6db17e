//! How far a pull is, for a person to watch: the latest state only, so a slow watcher costs nothing.

use tokio::sync::watch;

use crate::Digest;

/// How far one layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// It is not its turn yet, or somebody else fetches it.
    Waiting,
    /// So many of its bytes are here.
    Downloading(u64),
    /// All of it is here, and the layers below it are not unpacked yet.
    Fetched,
    /// It is being unpacked.
    Extracting,
    /// It was fetched and unpacked.
    Done,
    /// It was here before.
    Exists,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerProgress {
    /// Its blob.
    pub(crate) digest: Digest,
    /// How many bytes its blob has.
    pub(crate) total: u64,
    /// How far it is.
    pub(crate) state: LayerState,
}

/// All of a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What the name stands for; `None` until the registry has said so.
    pub(crate) target: Option<Digest>,
    /// The layers, lowest first; empty until they are known.
    pub(crate) layers: Vec<LayerProgress>,
    /// How often the pull was begun again.
    pub(crate) retries: u64,
    /// Why it last did not get on, as one sentence.
    pub(crate) last: Option<String>,
}

/// Whom a pull tells how far it is.
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

    /// It did not get on, and does not end because of that.
    pub(super) fn failed(&self, why: &(dyn std::error::Error + 'static)) {
        let why = crate::chain(why);
        self.0.send_modify(|progress| progress.last = Some(why));
    }

    /// Why it last did not get on.
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
