//! One event, and its line in the log.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use crate::clock;
use serde::{Deserialize, Serialize};

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When, by the host's clock.
    pub(crate) at: SystemTime,
    /// What kind of object it happened to.
    pub(crate) kind: Kind,
    /// What happened.
    pub(crate) action: Action,
    /// The name of the object.
    pub(crate) id: String,
    /// More about it, such as the exit code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, String>,
}

/// The kinds of objects that events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// What can happen. The names are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Made: a container with its layer, a network, or a volume.
    Create,
    /// A container's process was started.
    Start,
    /// A container's memory ran out.
    Oom,
    /// A container's process has ended; `exitCode` is missing if it is lost.
    Die,
    /// A signal was sent to a container: `signal` is its number.
    Kill,
    /// An exec was created: `execID` is its id, and an attribute of the engine has its command.
    #[serde(rename = "exec_create")]
    ExecCreate,
    /// An exec was started, with the same attributes.
    #[serde(rename = "exec_start")]
    ExecStart,
    /// An exec has ended: `execID`, and `exitCode` unless it is lost.
    #[serde(rename = "exec_die")]
    ExecDie,
    /// A container was frozen on request.
    Pause,
    /// A container was thawed on request.
    Unpause,
    /// A container was given another name; `oldName` is the one before.
    Rename,
    /// The limits of a container were changed.
    Update,
    /// A container's health is another one than before; an attribute of the engine has it.
    #[serde(rename = "health_status")]
    HealthStatus,
    /// Files of a container were packed into an archive.
    #[serde(rename = "archive-path")]
    ArchivePath,
    /// An archive was unpacked into a container.
    #[serde(rename = "extract-to-dir")]
    ExtractToDir,
    /// Removed: a container, a network, or a volume.
    Destroy,
    /// An image was pulled.
    Pull,
    /// An image was loaded from an archive.
    Load,
    /// An image was given a name.
    Tag,
    /// A name of an image was removed.
    Untag,
    /// An image was removed with its last name.
    Delete,
}

impl Event {
    /// An event that happens now.
    pub(crate) fn new(kind: Kind, action: Action, id: impl Into<String>) -> Self {
        Self {
            at: clock::now(),
            kind,
            action,
            id: id.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// The same event, with an attribute.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Oom => "oom",
            Self::Die => "die",
            Self::Kill => "kill",
            Self::ExecCreate => "exec_create",
            Self::ExecStart => "exec_start",
            Self::ExecDie => "exec_die",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::HealthStatus => "health_status",
            Self::ArchivePath => "archive-path",
            Self::ExtractToDir => "extract-to-dir",
            Self::Destroy => "destroy",
            Self::Pull => "pull",
            Self::Load => "load",
            Self::Tag => "tag",
            Self::Untag => "untag",
            Self::Delete => "delete",
        })
    }
}
