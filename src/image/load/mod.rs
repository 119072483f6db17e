//! Loads the images of a tar file: `docker save` archives of every age and OCI layouts.
//!
//! Everything is written under a separate lease and verified while it is read; a name is recorded only once its image
//! is complete and unpacked. If something fails, deleting the lease removes everything.

mod docker_archive;
mod import;
mod oci_layout;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub(crate) use self::import::PassedOver;
use self::import::{Import, Imported, Imports};
use super::archive::Archive;
use super::scratch::Scratch;
use super::{Error, ImageStore, unnamed};
use crate::containerd::{ImageRecord, Session};
use crate::{Context, Digest};

/// How long loading may take before the garbage collector may remove its unfinished work.
const EXPIRY: Duration = Duration::from_secs(2 * 3600);

/// The result of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The loaded images, one entry for each of their names.
    pub(crate) images: Vec<LoadedImage>,
    /// The contents of the archive that were not loaded.
    pub(crate) passed_over: Vec<PassedOver>,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedImage {
    /// The name of its record: the one in the archive, or a generated one (see [`unnamed`]).
    pub(crate) record: String,
    /// Whether the archive contains a name for it.
    pub(crate) is_named: bool,
    /// Its id.
    pub(crate) id: Digest,
}

impl ImageStore {
    /// Loads every image of a tar file. An image without a name gets a name derived from its digest.
    ///
    /// # Errors
    /// The error names the file, and what in it is missing, corrupt or not supported.
    ///
    /// # Cancellation
    /// Safe to drop: what was written so far is held by a lease that expires.
    pub(crate) async fn load(&self, ctx: &Context, path: &Path) -> Result<Loaded, Error> {
        let archive = Archive::open(ctx, path).await?;
        let shown = path.display().to_string();
        let scratch = Scratch::take(&self.session, ctx, ("load", &shown), EXPIRY)
            .await
            .map_err(Error::containerd(&shown))?;
        let loaded = self.load_under(&scratch.leased(), ctx, &archive).await;
        scratch.release(ctx, loaded.is_err()).await;
        loaded
    }

    async fn load_under(&self, session: &Session, ctx: &Context, archive: &Archive) -> Result<Loaded, Error> {
        let import = Import {
            content: session.content(),
            ctx,
            archive,
        };
        let Imports { images, passed_over } = match oci_layout::import(&import).await? {
            Some(imports) => imports,
            None => docker_archive::import(&import).await?,
        };
        let mut complete = Vec::new();
        for Imported { names, target } in images {
            let is_named = !names.is_empty();
            let names = if is_named {
                names.iter().map(ToString::to_string).collect()
            } else {
                vec![unnamed::name(&target.digest)]
            };
            for name in names {
                let opened = self.open(ctx, session, &name, &target).await?;
                let image = opened.ok_or_else(|| import.incomplete(format!("a part of {name}")))?;
                let record = ImageRecord {
                    name,
                    target: target.clone(),
                    labels: BTreeMap::new(),
                };
                complete.push((record, is_named, image.config_digest));
            }
        }
        if complete.is_empty() {
            return Err(Error::NoImage {
                path: archive.path().to_owned(),
                passed_over: passed_over.iter().map(ToString::to_string).collect(),
            });
        }
        let mut loaded = Loaded {
            images: Vec::new(),
            passed_over,
        };
        for (record, is_named, id) in complete {
            loaded.images.push(LoadedImage {
                record: self.record(ctx, session, record).await?,
                is_named,
                id,
            });
        }
        Ok(loaded)
    }
}
