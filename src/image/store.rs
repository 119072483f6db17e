//! Finds the images that are present: by name, complete and unpacked.
//!
//! Every lookup of a name is a call to containerd. The name refers to content-addressed blobs, so the manifest, the
//! configuration and facts about the root file system are cached in the process, and finding a known image costs one
//! call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::bounded::Bounded;
use super::facts::RootfsFacts;
use super::manifest::{self, Layers};
use super::remembered::Remembered;
use super::rootfs::{Lookup, Place, Program};
use super::turns::Turns;
use super::unpack::{self, Unpacking};
use super::{Error, ImageSettings, Platform, Reference};
use crate::containerd::{Descriptor, Session};
use crate::{Context, Digest};

/// Manifests and configurations are small; a larger document is refused.
pub(super) const MAX_JSON: u64 = 4 << 20;
/// An index may point to other indexes, but only to this depth.
pub(super) const MAX_DEPTH: usize = 4;
const REMEMBERED: usize = 256;

/// An image that is present and unpacked. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its full name.
    pub(crate) name: String,
    /// The index or manifest that the name refers to.
    pub(crate) target: Descriptor,
    /// The digest of its configuration, which Docker calls the image id.
    pub(crate) config_digest: Digest,
    /// The name of the snapshot that holds all its layers; it becomes the parent of a container's root file system.
    pub(crate) chain_id: String,
    /// The blobs of its layers, lowest first.
    #[cfg_attr(not(test), expect(dead_code, reason = "for saving and removing images"))]
    pub(crate) layers: Arc<[Descriptor]>,
    /// Its settings for containers.
    pub(crate) config: Arc<ImageSettings>,
}

/// Finds images, and caches what cannot change about them.
#[derive(Debug)]
pub(crate) struct ImageStore {
    pub(super) session: Session,
    pub(super) snapshotter: String,
    pub(super) run_dir: PathBuf,
    /// Locked while leases of killed processes are deleted. Contains the bytes that this has freed and no removal has
    /// reported yet.
    pub(super) swept: Arc<Mutex<u64>>,
    known: Bounded<Digest, Image>,
    /// Ensures that each snapshot, by its name, is unpacked by one caller at a time.
    pub(super) unpacking: Turns<String>,
    pub(super) facts: Bounded<String, Arc<RootfsFacts>>,
    pub(super) executables: Bounded<(String, Lookup), Program>,
    pub(super) places: Bounded<(String, String), Place>,
    /// Where facts outlive the process, if they are to.
    pub(super) remembered: Option<Remembered>,
    /// The root file systems whose remembered facts were read.
    pub(super) recalled: Bounded<String, ()>,
}

impl ImageStore {
    /// A store based on containerd. Only this process uses `run_dir`: a root file system is mounted below it for a
    /// moment.
    pub(crate) fn new(session: Session, snapshotter: &str, run_dir: &Path) -> Self {
        Self {
            session,
            snapshotter: snapshotter.to_owned(),
            run_dir: run_dir.to_owned(),
            swept: Arc::default(),
            known: Bounded::new(REMEMBERED),
            unpacking: Turns::new(),
            facts: Bounded::new(REMEMBERED),
            executables: Bounded::new(REMEMBERED),
            places: Bounded::new(REMEMBERED),
            remembered: None,
            recalled: Bounded::new(REMEMBERED),
        }
    }

    /// The same store, which leaves facts about root file systems to later processes with the same run directory, and
    /// uses those that earlier ones have left.
    pub(crate) fn remembering(self) -> Self {
        Self {
            remembered: Some(Remembered::below(&self.run_dir)),
            ..self
        }
    }

    /// The image of this name. If its layers exist but are not unpacked, they are unpacked now. If a part is missing,
    /// the image counts as absent.
    ///
    /// # Errors
    /// [`Error::OtherPlatform`] and [`Error::Malformed`] for an image that exists but cannot be used here.
    ///
    /// # Cancellation
    /// Safe to drop: unfinished unpacking is held by a lease that expires.
    pub(crate) async fn find(&self, ctx: &Context, reference: &Reference) -> Result<Option<Image>, Error> {
        let name = reference.to_string();
        let record = match self.session.images().get(ctx, &name).await {
            Err(why) if why.is_not_found() => return Ok(None),
            found => found.map_err(Error::containerd(&name))?,
        };
        let known = self.known.get(&record.target.digest);
        self.counted("image", known.is_some());
        if let Some(known) = known {
            return Ok(Some(Image { name, ..known }));
        }
        let Some(image) = self.open(ctx, &self.session, &name, &record.target).await? else {
            return Ok(None);
        };
        self.known.put(record.target.digest, image.clone());
        Ok(Some(image))
    }

    /// Counts a question, and whether its answer was known.
    pub(super) fn counted(&self, fact: &'static str, was_known: bool) {
        self.session.metrics().image_fact(fact, was_known);
    }

    /// Caches an image for this machine's platform that was just pulled.
    pub(super) fn remember(&self, image: &Image) {
        self.known.put(image.target.digest.clone(), image.clone());
    }

    /// Removes an image from the cache, after its snapshot was found to be missing.
    pub(crate) fn forget(&self, image: &Image) {
        self.known.forget(&image.target.digest);
    }

    /// Reads the documents of `target`, and makes sure that it is unpacked. `None` if a part is missing.
    pub(super) async fn open(
        &self,
        ctx: &Context,
        session: &Session,
        name: &str,
        target: &Descriptor,
    ) -> Result<Option<Image>, Error> {
        let Some(Layers { config, layers }) = read_manifest(ctx, session, name, target).await? else {
            return Ok(None);
        };
        let Some(json) = read(ctx, session, name, &config).await? else {
            return Ok(None);
        };
        let (settings, diff_ids) = manifest::config(&json).map_err(|what| Error::malformed(name, what))?;
        if diff_ids.len() != layers.len() {
            let what = format!("{} layers, but {} diff ids", layers.len(), diff_ids.len());
            return Err(Error::malformed(name, what));
        }
        let unpacking = Unpacking {
            image: name,
            config: &config,
            layers: &layers,
            diff_ids: &diff_ids,
        };
        let chain_id = unpack::ensure(session, ctx, &self.snapshotter, unpacking).await?;
        Ok(chain_id.map(|chain_id| Image {
            name: name.to_owned(),
            target: target.clone(),
            config_digest: config.digest,
            chain_id,
            layers: layers.into(),
            config: Arc::new(settings),
        }))
    }
}

/// Follows an index to the manifest for this machine. `None` if a blob that leads to it is missing.
async fn read_manifest(
    ctx: &Context,
    session: &Session,
    name: &str,
    target: &Descriptor,
) -> Result<Option<Layers>, Error> {
    let malformed = |what: String| Error::malformed(name, what);
    let mut at = target.clone();
    for _ in 0..MAX_DEPTH {
        let Some(json) = read(ctx, session, name, &at).await? else {
            return Ok(None);
        };
        let mut document = manifest::parse(&json).map_err(malformed)?;
        let Some(links) = document.manifests.take() else {
            return manifest::layers(document).map(Some).map_err(malformed);
        };
        let host = Platform::host();
        let link = manifest::choose(&links, &host).map_err(|found| Error::OtherPlatform {
            image: name.to_owned(),
            wanted: host.to_string(),
            found,
        })?;
        at = link.descriptor().map_err(malformed)?;
    }
    Err(malformed("its index points to indexes without end".to_owned()))
}

pub(super) async fn read(
    ctx: &Context,
    session: &Session,
    name: &str,
    blob: &Descriptor,
) -> Result<Option<Vec<u8>>, Error> {
    match session.content().read(ctx, blob, MAX_JSON).await {
        Err(why) if why.is_not_found() => Ok(None),
        read => read.map(Some).map_err(Error::containerd(name)),
    }
}
