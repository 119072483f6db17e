//! Copies the files of an archive into the content store, for all archive formats.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::io::AsyncReadExt;

use crate::compression::{Compression, Foreign, MAGIC};
use crate::containerd::{Content, Descriptor};
use crate::image::archive::{Archive, Entry};
use crate::image::manifest::{OCI_LAYER, digest_of};
use crate::image::scratch::unique;
use crate::image::{Error, Reference};
use crate::{Context, Digest};

/// A part of an archive that is not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Its name or its digest.
    pub(crate) what: String,
    /// Why it is not loaded.
    pub(crate) why: String,
}

/// The images and the skipped parts of an archive.
#[derive(Debug, Default)]
pub(super) struct Imports {
    pub(super) images: Vec<Imported>,
    pub(super) passed_over: Vec<PassedOver>,
}

/// An image whose blobs are all in the content store, and its names, if it has any.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) names: Vec<Reference>,
    pub(super) target: Descriptor,
}

/// A file of the archive that becomes a blob.
#[derive(Debug)]
pub(super) struct BlobSource {
    pub(super) entry: Entry,
    /// The name of the file, for messages.
    pub(super) name: String,
    pub(super) is: Expected,
}

/// The expected content of the file.
#[derive(Debug)]
pub(super) enum Expected {
    /// This blob. Its size comes from a manifest and is checked after the write.
    Blob(Descriptor),
    /// A layer that unpacks to this digest; it may be compressed.
    Layer(Digest),
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Copies from an archive into the content store.
#[derive(Debug)]
pub(super) struct Import<'a> {
    pub(super) content: Content,
    pub(super) ctx: &'a Context,
    pub(super) archive: &'a Archive,
}

impl Import<'_> {
    /// Writes these files as blobs, in a single pass through the archive. A file that is requested twice is written
    /// once.
    pub(super) async fn blobs(
        &self,
        mut wanted: Vec<BlobSource>,
    ) -> Result<HashMap<Entry, Descriptor>, Error> {
        wanted.sort_by_key(|wanted| wanted.entry);
        wanted.dedup_by_key(|wanted| wanted.entry);
        let mut stream = self
            .archive
            .stream(wanted.iter().map(|wanted| wanted.entry).collect());
        let mut written = HashMap::new();
        for BlobSource { entry, name, is } in wanted {
            let mut body = (&mut stream).take(entry.size);
            let mut head = Vec::new();
            let mut start = (&mut body).take(MAGIC);
            let read = self
                .ctx
                .run(start.read_to_end(&mut head))
                .await
                .map_err(|why| self.interrupted(why))?;
            read.map_err(|why| self.archive.fail(why))?;
            let blob = {
                let reader = head.as_slice().chain(&mut body);
                match is {
                    Expected::Blob(blob) => {
                        let said = blob.size;
                        let real = Descriptor {
                            size: entry.size,
                            ..blob
                        };
                        let written = self.write(&name, real, BTreeMap::new(), reader).await?;
                        self.sized(&name, said, entry.size)?;
                        written
                    }
                    Expected::Layer(diff_id) => self.layer(&name, entry, diff_id, &head, reader).await?,
                }
            };
            // If the blob existed already, the file was not read, so the rest of it is skipped here.
            let mut nowhere = tokio::io::sink();
            let rest = self
                .ctx
                .run(tokio::io::copy(&mut body, &mut nowhere))
                .await
                .map_err(|why| self.interrupted(why))?;
            rest.map_err(|why| self.archive.fail(why))?;
            written.insert(entry, blob);
        }
        Ok(written)
    }

    /// Writes a document that refers to other blobs, and makes it keep them alive.
    pub(super) async fn document(
        &self,
        name: &str,
        media_type: &str,
        json: &[u8],
        refers_to: &BTreeMap<String, Digest>,
    ) -> Result<Descriptor, Error> {
        let blob = Descriptor {
            media_type: media_type.to_owned(),
            digest: digest_of(json).ok_or_else(|| self.corrupt(name))?,
            size: json.len() as u64,
        };
        let labels: BTreeMap<_, _> = refers_to
            .iter()
            .map(|(what, digest)| (format!("containerd.io/gc.ref.content.{what}"), digest.to_string()))
            .collect();
        let blob = self.write(name, blob, labels.clone(), json).await?;
        // A document that existed already may have been written without its references.
        self.content
            .set_labels(self.ctx, &blob.digest, &labels)
            .await
            .map_err(Error::containerd(name))?;
        Ok(blob)
    }

    pub(super) fn incomplete(&self, entry: impl Into<String>) -> Error {
        Error::Incomplete {
            path: self.archive.path().to_owned(),
            entry: entry.into(),
        }
    }

    pub(super) fn corrupt(&self, entry: &str) -> Error {
        Error::Corrupt {
            path: self.archive.path().to_owned(),
            entry: entry.to_owned(),
        }
    }

    /// Checks whether the size of a part matches the one in the archive's metadata.
    pub(super) fn sized(&self, name: &str, said: u64, got: u64) -> Result<(), Error> {
        if said == got {
            return Ok(());
        }
        let what = format!("it lists {name} with {said} bytes, but the content has {got}");
        Err(self.malformed(what))
    }

    pub(super) fn malformed(&self, what: impl Into<String>) -> Error {
        Error::malformed(&format!("in {}", self.archive.path().display()), what)
    }

    /// The digest of an uncompressed layer is its diff id; the archive contains no digest of a compressed one.
    async fn layer(
        &self,
        name: &str,
        entry: Entry,
        diff_id: Digest,
        head: &[u8],
        reader: impl tokio::io::AsyncRead + Unpin,
    ) -> Result<Descriptor, Error> {
        let suffix = match Compression::of(head) {
            Some(Compression::Gzip) => "+gzip",
            Some(Compression::Zstd) => "+zstd",
            Some(Compression::Foreign(Foreign { name: packed, .. })) => {
                let what = format!("its layer {name} is compressed with {packed}, which is not understood");
                return Err(self.malformed(what));
            }
            None => {
                let blob = Descriptor {
                    media_type: OCI_LAYER.to_owned(),
                    digest: diff_id,
                    size: entry.size,
                };
                return self.write(name, blob, BTreeMap::new(), reader).await;
            }
        };
        let ingest = unique("load");
        let written = self
            .content
            .ingest(self.ctx, &ingest, &BTreeMap::new(), reader)
            .await;
        let (digest, size) = written.map_err(|why| self.failed(name, why))?;
        Ok(Descriptor {
            media_type: format!("{OCI_LAYER}{suffix}"),
            digest,
            size,
        })
    }

    async fn write(
        &self,
        name: &str,
        blob: Descriptor,
        labels: BTreeMap<String, String>,
        reader: impl tokio::io::AsyncRead + Unpin,
    ) -> Result<Descriptor, Error> {
        let ingest = unique("load");
        self.content
            .write(self.ctx, &ingest, &blob, &labels, reader)
            .await
            .map_err(|why| self.failed(name, why))?;
        Ok(blob)
    }

    fn failed(&self, name: &str, why: crate::containerd::Error) -> Error {
        if why.is_failed_precondition() {
            return self.corrupt(name);
        }
        match why.into_input() {
            Ok(unread) => self.archive.fail(unread),
            Err(why) => Error::containerd(&format!("in {}", self.archive.path().display()))(why),
        }
    }

    fn interrupted(&self, source: crate::Interrupted) -> Error {
        Error::NotLoaded {
            path: self.archive.path().to_owned(),
            source,
        }
    }
}

/// The names without duplicates, in their order.
pub(super) fn distinct(names: impl IntoIterator<Item = Reference>) -> Vec<Reference> {
    let mut seen = BTreeSet::new();
    names
        .into_iter()
        .filter(|name| seen.insert(name.clone()))
        .collect()
}
