//! How a command line refers to a container.

use std::fmt;
use std::str::FromStr;

use super::failure::Failure;
use crate::engine::{Engine, Kind};
use crate::{ContainerId, ContainerName, Context, InvalidName};

/// A container's id, the beginning of its id, or its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerRef(String);

impl ContainerRef {
    /// The same as an id, if it can be one.
    pub(super) fn as_id(&self) -> Option<ContainerId> {
        ContainerId::new(&self.0).ok()
    }

    /// The id of the container. A text that refers to none is returned if it can be an id, so that the command fails in
    /// its own words.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn id(&self, engine: &Engine) -> Result<ContainerId, Failure> {
        match engine.id_of(&Context::new(), &self.0).await {
            Err(error) if error.kind() == Kind::NotFound => self.as_id().ok_or_else(|| Failure::from(error)),
            found => Ok(found?),
        }
    }
}

impl From<ContainerId> for ContainerRef {
    fn from(id: ContainerId) -> Self {
        Self(id.into())
    }
}

impl FromStr for ContainerRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // The sentence of an id is also that of a name, which may only have more separators in a row.
        match ContainerName::new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => ContainerId::new(text).map(Into::into),
        }
    }
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
