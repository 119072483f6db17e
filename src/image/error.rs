//! The errors of an image, or of a file from which an image is loaded. Each message names the image or the file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{InvalidReference, Reference};
use crate::{Interrupted, containerd};

/// Why an image is not available.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is read as image::Error")]
pub(crate) enum Error {
    /// The name is not a valid reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A call to containerd failed.
    #[error("{subject} cannot be used")]
    Containerd {
        /// The image, or another object of containerd, such as a list.
        subject: String,
        /// The error that containerd returned.
        #[source]
        source: containerd::Error,
    },
    /// The image is for other platforms.
    #[error("image {image} has no variant for {wanted}, only for {found}")]
    OtherPlatform {
        /// The image.
        image: String,
        /// The platform of this machine, as in `linux/amd64`.
        wanted: String,
        /// The platforms that it has.
        found: String,
    },
    /// The manifest or configuration cannot be parsed or is inconsistent.
    #[error("image {image} is malformed: {what}")]
    Malformed {
        /// The image, or the file that it comes from.
        image: String,
        /// What is wrong with it.
        what: String,
    },
    /// A layer does not unpack to the digest in the image's configuration.
    #[error("image {image} is corrupt: layer {layer} unpacks to {found}, not to {expected}")]
    WrongLayer {
        /// The image.
        image: String,
        /// The digest of the layer's blob.
        layer: String,
        /// The diff id that the configuration lists.
        expected: String,
        /// The digest of the unpacked layer.
        found: String,
    },
    /// The root file system could not be read.
    #[error("cannot read the root file system of image {image}")]
    Rootfs {
        /// The image.
        image: String,
        /// The error that the kernel returned.
        #[source]
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error from the kernel or the decompressor.
        #[source]
        source: io::Error,
    },
    /// The caller's context ended the reading of the file.
    #[error("loading {} was interrupted", path.display())]
    NotLoaded {
        /// The file.
        path: PathBuf,
        /// Why the context ended.
        #[source]
        source: Interrupted,
    },
    /// The file is not an image archive.
    #[error("{} is not an image archive: {why}", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// The file is compressed in a way that this program cannot read.
    #[error("{} is compressed with {name}, which is not understood", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// The name of the compression.
        name: &'static str,
        /// The command that decompresses a file to its standard output.
        program: &'static str,
    },
    /// The archive contains no image that can be loaded.
    #[error("{} holds no image that can be loaded{}", path.display(), but(passed_over))]
    NoImage {
        /// The file.
        path: PathBuf,
        /// What it contains instead, and why that cannot be loaded.
        passed_over: Vec<String>,
    },
    /// The archive refers to something that it does not contain.
    #[error("{} is incomplete: it lacks {entry}", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing.
        entry: String,
    },
    /// A part of the archive does not match its digest.
    #[error("{} is corrupt: {entry} does not match its digest", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The blob or layer.
        entry: String,
    },
    /// An error of the registry or of the connection to it.
    #[error(transparent)]
    Registry(#[from] super::registry::Error),
    /// A blob does not match its digest, whichever host sends it.
    #[error("image {image} is corrupt: what registry {registry} sends as {blob} does not match that digest")]
    WrongBlob {
        /// The image.
        image: String,
        /// The registry that sent it.
        registry: String,
        /// The digest that it should have.
        blob: String,
    },
    /// Another process is fetching a blob, but makes no progress.
    #[error("image {image} needs {blob}, which another process is fetching without progress")]
    Blocked {
        /// The image.
        image: String,
        /// The digest of the blob.
        blob: String,
    },
    /// The disk is full.
    #[error("{what}: the disk that containerd keeps its data on is full")]
    DiskFull {
        /// What is wrong with which object, such as an image that does not fit.
        what: String,
        /// The error that containerd returned.
        #[source]
        source: containerd::Error,
    },
    /// The pull was cancelled, or the caller's context ended.
    #[error("pulling image {image} from registry {registry} was interrupted{}", last_of(last.as_deref()))]
    NotPulled {
        /// The image.
        image: String,
        /// The registry.
        registry: String,
        /// Why an earlier attempt failed, if one did.
        last: Option<String>,
        /// Why the context ended.
        #[source]
        source: Interrupted,
    },
    /// The work ended in a panic, which is a defect of this program.
    #[error("pulling image {image} failed: {why}")]
    Broken {
        /// The image.
        image: String,
        /// The message of the panic.
        why: String,
    },
    /// No image has this name or id.
    #[error("there is no image {image}")]
    NoSuchImage {
        /// The name or the id, as it was given.
        image: String,
    },
    /// The ids of several images begin with this prefix.
    #[error("image id {id} is ambiguous: several ids begin with it")]
    SeveralImages {
        /// The prefix.
        id: String,
    },
    /// The image has several names, and was not given by one of them.
    #[error("image {image} has several names ({})", names.join(", "))]
    SeveralNames {
        /// The id, as it was given.
        image: String,
        /// All its names.
        names: Vec<String>,
    },
    /// A container uses the image.
    #[error("image {image} is used by container {container}")]
    InUse {
        /// The image, as it was given.
        image: String,
        /// One of the containers that use it.
        container: String,
    },
    /// A part of the image is not in the store, and no registry is known that has it.
    #[error(
        "image {image} cannot be saved: its {} not here, and no registry is known to have it: pull the image first",
        are(parts)
    )]
    NotWhole {
        /// The image, as it was given.
        image: String,
        /// What is missing.
        parts: Vec<String>,
    },
    /// A part of the image is not in the store, and could not be fetched.
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
    /// The caller's context ended while leftover leases were being removed.
    #[error("removing the leases of killed processes was interrupted")]
    NotSwept {
        /// Why the context ended.
        #[source]
        source: Interrupted,
    },
    /// The archive could not be written.
    #[error("the archive could not be written to its end")]
    NotSaved {
        /// The error of the write.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The error of a call for an image.
    pub(super) fn containerd(image: &str) -> impl FnOnce(containerd::Error) -> Self {
        let image = image.to_owned();
        move |source| {
            if source.is_disk_full() {
                let what = format!("image {image} does not fit");
                Self::DiskFull { what, source }
            } else {
                let subject = format!("image {image}");
                Self::Containerd { subject, source }
            }
        }
    }

    /// The error of a call for anything else, named by a phrase such as "the list of leases".
    pub(super) fn store<S: Into<String>>(subject: S) -> impl FnOnce(containerd::Error) -> Self {
        let subject = subject.into();
        move |source| {
            if source.is_disk_full() {
                let what = format!("{subject} cannot be used");
                Self::DiskFull { what, source }
            } else {
                Self::Containerd { subject, source }
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

    /// The HTTP status, if a registry returned one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Registry(source) => source.status(),
            Self::NotFetched { source, .. } => source.status(),
            _ => None,
        }
    }

    /// Whether the same pull may succeed later without any change.
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

    /// How long to wait before another attempt makes sense, if a registry has specified it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry(source) => source.retry_after(),
            _ => None,
        }
    }

    /// Whether the cause is not the image, but its storage, this program, or the configuration of registries.
    pub(crate) fn is_of_the_host(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Broken { .. } | Self::Containerd { .. } => true,
            Self::Registry(source) => source.is_of_the_host(),
            _ => false,
        }
    }

    /// Whether the bytes that a pull has fetched so far are valid, so that another pull may continue with them.
    pub(super) fn leaves_good_bytes(&self) -> bool {
        self.is_passing() || self.interrupted().is_some()
    }

    /// Whether containerd cannot be reached or has ended.
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
