//! Loads the images of a tar file: `docker save` archives of every age and OCI layouts.
//!
//! Everything is written under a lease of its own and verified on the way in; a name is given only once its image is
//! complete and unpacked. When something fails, the lease takes all of it along.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use super::archive::{Archive, Entry};
use super::compression::{Compression, Foreign, MAGIC};
use super::manifest::OCI_LAYER;
use super::scratch::{Scratch, unique};
use super::{Error, ImageStore, Reference, docker_archive, oci_layout};
use crate::containerd::{Content, Descriptor, ImageRecord, Session};
use crate::{Context, Digest};

/// How long loading may take before the collector may take its unfinished work.
const EXPIRY: Duration = Duration::from_secs(2 * 3600);

/// An image whose blobs are all in the content store, and the names it shall have.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) names: Vec<Reference>,
    pub(super) target: Descriptor,
}

/// A file of the archive that shall become a blob.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) entry: Entry,
    /// For messages.
    pub(super) name: String,
    pub(super) is: Expected,
}

/// What is known of it beforehand.
#[derive(Debug)]
pub(super) enum Expected {
    /// Exactly this blob.
    Blob(Descriptor),
    /// A layer that unpacks to this; it may be compressed.
    Layer(Digest),
}

impl ImageStore {
    /// Loads every named image of a tar file, and returns their full names.
    ///
    /// # Errors
    /// The sentence names the file, and what in it is missing, corrupt or not understood.
    ///
    /// # Cancellation
    /// Safe to drop: what was written so far is under a lease that expires.
    pub(crate) async fn load(&self, ctx: &Context, path: &Path) -> Result<Vec<String>, Error> {
        let archive = Archive::open(ctx, path).await?;
        let shown = path.display().to_string();
        let scratch = Scratch::take(&self.session, ctx, ("load", &shown), EXPIRY)
            .await
            .map_err(Error::containerd(&shown))?;
        let loaded = self.load_under(&scratch.leased(), ctx, &archive).await;
        scratch.release(ctx, loaded.is_err()).await;
        loaded
    }

    async fn load_under(
        &self,
        session: &Session,
        ctx: &Context,
        archive: &Archive,
    ) -> Result<Vec<String>, Error> {
        let import = Import {
            content: session.content(),
            ctx,
            archive,
        };
        let images = match oci_layout::import(&import).await? {
            Some(images) => images,
            None => docker_archive::import(&import).await?,
        };
        let mut records = Vec::new();
        for Imported { names, target } in images {
            for name in names {
                let name = name.to_string();
                let opened = self.open(ctx, session, &name, &target).await?;
                opened.ok_or_else(|| import.incomplete(format!("a part of {name}")))?;
                records.push(ImageRecord {
                    name,
                    target: target.clone(),
                    labels: BTreeMap::new(),
                });
            }
        }
        if records.is_empty() {
            let path = archive.path().to_owned();
            return Err(Error::Unnamed { path });
        }
        for record in &records {
            session
                .images()
                .put(ctx, record)
                .await
                .map_err(Error::containerd(&record.name))?;
        }
        Ok(records.into_iter().map(|record| record.name).collect())
    }
}

/// The way from an archive into the content store.
#[derive(Debug)]
pub(super) struct Import<'a> {
    content: Content,
    ctx: &'a Context,
    pub(super) archive: &'a Archive,
}

impl Import<'_> {
    /// Writes these files as blobs, in one passage through the archive. What two of them share is written once.
    pub(super) async fn blobs(&self, mut wanted: Vec<Wanted>) -> Result<HashMap<Entry, Descriptor>, Error> {
        wanted.sort_by_key(|wanted| wanted.entry);
        wanted.dedup_by_key(|wanted| wanted.entry);
        let mut stream = self
            .archive
            .stream(wanted.iter().map(|wanted| wanted.entry).collect());
        let mut written = HashMap::new();
        for Wanted { entry, name, is } in wanted {
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
                    Expected::Blob(blob) => self.write(&name, blob, BTreeMap::new(), reader).await?,
                    Expected::Layer(diff_id) => self.layer(&name, entry, diff_id, &head, reader).await?,
                }
            };
            // A blob that existed already was not read.
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

    /// Writes a document that refers to other blobs, which it keeps alive from then on.
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
        // A document that existed already may have come without its children.
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

    pub(super) fn malformed(&self, what: impl Into<String>) -> Error {
        Error::malformed(&format!("in {}", self.archive.path().display()), what)
    }

    /// A layer that is a bare tar is its own diff id; of a compressed one nobody has said the digest.
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

/// The digest of a document.
pub(super) fn digest_of(bytes: &[u8]) -> Option<Digest> {
    Digest::new(format!("sha256:{:x}", Sha256::digest(bytes))).ok()
}

/// Names without repetition, in order.
pub(super) fn distinct(names: impl IntoIterator<Item = Reference>) -> Vec<Reference> {
    let mut seen = BTreeSet::new();
    names
        .into_iter()
        .filter(|name| seen.insert(name.clone()))
        .collect()
}
