//! What can be wrong with an image or with the file that shall become one. Each sentence names it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{InvalidReference, Reference};
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
    #[error("image {image} has no variant for {wanted}, only for {found}")]
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
    #[error("cannot read the root file system of image {image}")]
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
    #[error("loading {} was interrupted", path.display())]
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
    /// The file is compressed in a way that nothing here reads.
    #[error("{} is compressed with {name}, which is not understood", path.display())]
    Packed {
        /// Which file.
        path: PathBuf,
        /// With what.
        name: &'static str,
        /// The command that decompresses a file to its standard output.
        program: &'static str,
    },
    /// Nothing in the archive can be loaded.
    #[error("{} holds no image that can be loaded{}", path.display(), but(passed_over))]
    NoImage {
        /// Which file.
        path: PathBuf,
        /// What it holds instead, and why that cannot be loaded.
        passed_over: Vec<String>,
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
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] super::registry::Error),
    /// A blob is not what its digest says, whoever sends it.
    #[error("image {image} is corrupt: what registry {registry} sends as {blob} is something else")]
    WrongBlob {
        /// Which image.
        image: String,
        /// Who sent it.
        registry: String,
        /// The digest that it should have.
        blob: String,
    },
    /// Another process is fetching a blob, and gets nowhere.
    #[error("image {image} needs {blob}, which another process is fetching without progress")]
    Blocked {
        /// Which image.
        image: String,
        /// What is being fetched.
        blob: String,
    },
    /// The disk is full.
    #[error("image {image} does not fit: the disk that containerd keeps its data on is full")]
    DiskFull {
        /// Which image.
        image: String,
        /// What containerd said.
        #[source]
        source: containerd::Error,
    },
    /// Nobody wants it any more, or the caller did not wait.
    #[error("pulling image {image} from registry {registry} was interrupted{}", last_of(last.as_deref()))]
    NotPulled {
        /// Which image.
        image: String,
        /// From where.
        registry: String,
        /// Why it did not get on before, if it did not.
        last: Option<String>,
        /// Why.
        #[source]
        source: Interrupted,
    },
    /// The work on it ended in a panic, which is a defect of this program.
    #[error("pulling image {image} failed: {why}")]
    Broken {
        /// Which image.
        image: String,
        /// What the panic said.
        why: String,
    },
    /// No image has this name or id.
    #[error("there is no image {image}")]
    NoSuchImage {
        /// The name or the id, as it was given.
        image: String,
    },
    /// Several images have ids that begin so.
    #[error("image id {id} is ambiguous: several ids begin with it")]
    SeveralImages {
        /// What was given.
        id: String,
    },
    /// It has several names, and was not named by one of them.
    #[error("image {image} has several names ({})", names.join(", "))]
    SeveralNames {
        /// The id, as it was given.
        image: String,
        /// All of them.
        names: Vec<String>,
    },
    /// A container uses it.
    #[error("image {image} is used by container {container}")]
    InUse {
        /// The image, as it was given.
        image: String,
        /// One of those that use it.
        container: String,
    },
    /// Not all of it is here, and nobody is known who has the rest.
    #[error(
        "image {image} cannot be saved: its {} not here, and no registry is known that has what is missing: pull the image, and save it then",
        are(parts)
    )]
    NotWhole {
        /// The image, as it was given.
        image: String,
        /// What is missing.
        parts: Vec<String>,
    },
    /// Not all of it is here, and the rest could not be fetched.
    #[error(
        "image {image} cannot be saved: its {} not here, and cannot be fetched",
        are(parts)
    )]
    NotFetched {
        /// The image, as it was given.
        image: String,
        /// What is missing.
        parts: Vec<String>,
        /// Why it cannot be fetched.
        #[source]
        source: Box<Self>,
    },
    /// The caller's context ended while what killed processes have left was being removed.
    #[error("removing the leases of killed processes was interrupted")]
    NotSwept {
        /// Why.
        #[source]
        source: Interrupted,
    },
    /// The archive could not be written.
    #[error("the archive could not be written to its end")]
    NotSaved {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(super) fn containerd(image: &str) -> impl FnOnce(containerd::Error) -> Self {
        let image = image.to_owned();
        move |source| {
            if source.is_disk_full() {
                Self::DiskFull { image, source }
            } else {
                Self::Containerd { image, source }
            }
        }
    }

    pub(super) fn not_pulled(reference: &Reference, last: Option<String>, source: Interrupted) -> Self {
        Self::NotPulled {
            image: reference.to_string(),
            registry: reference.domain().to_owned(),
            last,
            source,
        }
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
            Self::NotLoaded { source, .. } | Self::NotPulled { source, .. } | Self::NotSwept { source } => {
                Some(*source)
            }
            Self::Registry(source) => source.interrupted(),
            Self::NotFetched { source, .. } => source.interrupted(),
            _ => None,
        }
    }

    /// The HTTP status, if a registry gave one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Registry(source) => source.status(),
            Self::NotFetched { source, .. } => source.status(),
            _ => None,
        }
    }

    /// The same pull may succeed later without anybody changing anything.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Registry(source) => source.is_passing() || source.status() == Some(429),
            Self::Blocked { .. } => true,
            Self::NotFetched { source, .. } => source.is_passing(),
            Self::Containerd { source, .. } => {
                source.is_unavailable() || source.is_locked() || source.is_not_found()
            }
            _ => false,
        }
    }

    /// How long to wait before another try is of use, as a registry has said.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry(source) => source.retry_after(),
            _ => None,
        }
    }

    /// The image is not at fault, but what keeps it, or this program, or how registries are described.
    pub(crate) fn is_of_the_host(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Broken { .. } | Self::Containerd { .. } => true,
            Self::Registry(source) => source.is_of_the_host(),
            _ => false,
        }
    }

    /// What a pull has fetched so far is good, and another may go on with it.
    pub(super) fn leaves_good_bytes(&self) -> bool {
        self.is_passing() || self.interrupted().is_some()
    }

    /// containerd cannot be reached or went away.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Containerd { source, .. } if source.is_unavailable())
    }
}

fn last_of(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!(" (the last failure: {why})"))
}

/// `layer sha256:… is`, or `layer sha256:…, layer sha256:… are`.
fn are(parts: &[String]) -> String {
    let verb = if parts.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", parts.join(", "))
}

fn but(passed_over: &[String]) -> String {
    if passed_over.is_empty() {
        return String::new();
    }
    format!(": {}", passed_over.join("; "))
}
