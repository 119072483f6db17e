//! What can be wrong with an image or with the file that shall become one. Each sentence names it.

use std::io;
use std::path::PathBuf;

use super::InvalidReference;
use crate::{Interrupted, containerd};

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as image::Error")]
pub(crate) enum Error {
    /// The name is not one.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// containerd could not do its part.
    #[error("image {image} cannot be used")]
    Containerd {
        /// Which image.
        image: String,
        /// What containerd said.
        #[source]
        source: containerd::Error,
    },
    /// The image is for other machines.
    #[error("image {image} has nothing for {wanted}, only for {found}")]
    OtherPlatform {
        /// Which image.
        image: String,
        /// This machine, as in `linux/amd64`.
        wanted: String,
        /// What it has.
        found: String,
    },
    /// Its manifest or configuration makes no sense.
    #[error("image {image} is malformed: {what}")]
    Malformed {
        /// Which image, or the file that it comes from.
        image: String,
        /// What is wrong with it.
        what: String,
    },
    /// A layer unpacks to something else than the image says.
    #[error("image {image} is corrupt: layer {layer} unpacks to {found}, not to {expected}")]
    WrongLayer {
        /// Which image.
        image: String,
        /// The layer's blob.
        layer: String,
        /// The diff id that the configuration lists.
        expected: String,
        /// What came out.
        found: String,
    },
    /// The root file system could not be looked into.
    #[error("cannot look into the root file system of image {image}")]
    Rootfs {
        /// Which image.
        image: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the kernel or the decompressor said.
        #[source]
        source: io::Error,
    },
    /// The caller's context ended the reading of the file.
    #[error("{} was not loaded to its end", path.display())]
    NotLoaded {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Interrupted,
    },
    /// The file is no image archive.
    #[error("{} is not an image archive: {why}", path.display())]
    NotAnArchive {
        /// Which file.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// The archive names something that it does not contain.
    #[error("{} is incomplete: it lacks {entry}", path.display())]
    Incomplete {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        entry: String,
    },
    /// Something in the archive is not what its digest says.
    #[error("{} is corrupt: {entry} is not what its digest says", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// The blob or layer.
        entry: String,
    },
    /// The images in the archive have no names, so nobody could ask for them.
    #[error("{} holds an image without a name; save it by name, not by id", path.display())]
    Unnamed {
        /// Which file.
        path: PathBuf,
    },
}

impl Error {
    pub(super) fn containerd(image: &str) -> impl FnOnce(containerd::Error) -> Self {
        let image = image.to_owned();
        move |source| Self::Containerd { image, source }
    }

    pub(super) fn malformed(image: &str, what: impl Into<String>) -> Self {
        Self::Malformed {
            image: image.to_owned(),
            what: what.into(),
        }
    }

    /// The reason, if the caller's context ended the work.
    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        match self {
            Self::Containerd { source, .. } => source.interrupted(),
            Self::NotLoaded { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// containerd cannot be reached or went away.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Containerd { source, .. } if source.is_unavailable())
    }
}
