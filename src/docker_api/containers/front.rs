//! What this front door keeps of a create on the container's record: the body, and the facts about the image that later
//! answers show, when the image may be gone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Body;
use crate::engine::Served;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::docker_api) struct Front {
    pub(super) body: Body,
    /// The digest of the image's configuration.
    pub(super) image_id: String,
    /// The environment: the body's variables, and those of the image that it does not set.
    pub(super) env: Vec<String>,
    /// The image's command and entrypoint, unless the body replaces them.
    pub(super) cmd: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) user: String,
    pub(super) working_dir: String,
}

impl Front {
    /// What was kept of a container; `None` if it was not made through this API.
    pub(in crate::docker_api) fn of(served: &Served) -> Option<Arc<Self>> {
        served.front()
    }

    pub(super) fn to_value(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }

    /// The image's id.
    pub(in crate::docker_api) fn image_id(&self) -> &str {
        &self.image_id
    }

    /// The image, as the client named it.
    pub(in crate::docker_api) fn image(&self) -> &str {
        &self.body.config.image
    }

    /// Whether its input comes from those who attach.
    pub(super) fn is_fed(&self) -> bool {
        self.body.config.open_stdin
    }

    /// Whether its streams are one terminal.
    pub(super) fn has_terminal(&self) -> bool {
        self.body.config.tty
    }

    /// Whether the container goes when it ends.
    pub(super) fn is_removed_at_its_end(&self) -> bool {
        self.body.host_config.auto_remove
    }
}
