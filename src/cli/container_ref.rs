//! How a command line refers to a container.

use std::fmt;
use std::str::FromStr;

use super::failure::Failure;
use crate::engine::{Engine, Kind};
use crate::{ContainerId, ContainerName, Context, InvalidName};

/// A container's id, the beginning of a made-up id, or its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerRef {
    text: String,
    /// Whether it is an id that this command has read from a record, and nothing else.
    is_id: bool,
}

impl ContainerRef {
    /// The same as an id, if it can be one.
    pub(super) fn as_id(&self) -> Option<ContainerId> {
        ContainerId::new(&self.text).ok()
    }

    /// The id of the container. If there is no such container, returns the text itself if it can be an id, and the
    /// command reports its own error.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn id(&self, engine: &Engine) -> Result<ContainerId, Failure> {
        if let Some(id) = self.as_id().filter(|_| self.is_id) {
            return Ok(id);
        }
        match engine.id_of(&Context::new(), &self.text).await {
            Err(error) if error.kind() == Kind::NotFound => self.as_id().ok_or_else(|| Failure::from(error)),
            found => Ok(found?),
        }
    }
}

impl From<ContainerId> for ContainerRef {
    fn from(id: ContainerId) -> Self {
        Self {
            text: id.into(),
            is_id: true,
        }
    }
}

impl FromStr for ContainerRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // What can be neither is refused as an id, which is what most people mean.
        if ContainerName::new(text).is_err() {
            ContainerId::new(text)?;
        }
        Ok(Self {
            text: text.to_owned(),
            is_id: false,
        })
    }
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
