//! The images that are present: found by name, complete and unpacked.
//!
//! A name is asked of containerd every time. What it stands for is content-addressed, so manifest, configuration and
//! what the root file system says are remembered in process, and finding a known image costs one call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::bounded::Bounded;
use super::manifest::{self, Layers};
use super::rootfs::{Lookup, Place, Program, RootfsFacts};
use super::turns::Turns;
use super::unpack::{self, Unpacking};
use super::{Error, ImageSettings, Platform, Reference};
use crate::containerd::{Descriptor, Session};
use crate::{Context, Digest};

/// Manifests and configurations are small; a larger one is not one.
pub(super) const MAX_JSON: u64 = 4 << 20;
/// An index may point to indexes, but not for long.
pub(super) const MAX_DEPTH: usize = 4;
const REMEMBERED: usize = 256;

/// An image that is present and unpacked. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its full name.
    pub(crate) name: String,
    /// What the name stands for: an index or a manifest.
    pub(crate) target: Descriptor,
    /// The digest of its configuration: what Docker calls the image id.
    pub(crate) config_digest: Digest,
    /// The name of the snapshot that holds all its layers: the parent of a container's root file system.
    pub(crate) chain_id: String,
    /// Its layers' blobs, lowest first.
    #[cfg_attr(not(test), expect(dead_code, reason = "for saving and removing images"))]
    pub(crate) layers: Arc<[Descriptor]>,
    /// What it says about its containers.
    pub(crate) config: Arc<ImageSettings>,
}

/// Finds images, and remembers what cannot change about them.
#[derive(Debug)]
pub(crate) struct ImageStore {
    pub(super) session: Session,
    pub(super) snapshotter: String,
    pub(super) run_dir: PathBuf,
    /// Held while leases of killed processes are ended: the bytes which that has freed and no removal has told yet.
    pub(super) swept: Arc<Mutex<u64>>,
    known: Bounded<Digest, Image>,
    /// Whose turn it is to unpack a snapshot, by its name.
    pub(super) unpacking: Turns<String>,
    pub(super) facts: Bounded<String, Arc<RootfsFacts>>,
    pub(super) executables: Bounded<(String, Lookup), Program>,
    pub(super) places: Bounded<(String, String), Place>,
}

impl ImageStore {
    /// A store over containerd. `run_dir` is ours alone: a root file system is mounted below it for a moment.
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
        }
    }

    /// The image of that name. One whose layers are there but not unpacked is unpacked now; one of which something is
    /// missing counts as absent.
    ///
    /// # Errors
    /// [`Error::OtherPlatform`] and [`Error::Malformed`] for an image that is there but cannot be used here.
    ///
    /// # Cancellation
    /// Safe to drop: unfinished unpacking is under a lease that expires.
    pub(crate) async fn find(&self, ctx: &Context, reference: &Reference) -> Result<Option<Image>, Error> {
        let name = reference.to_string();
        let record = match self.session.images().get(ctx, &name).await {
            Err(why) if why.is_not_found() => return Ok(None),
            found => found.map_err(Error::containerd(&name))?,
        };
        if let Some(known) = self.known.get(&record.target.digest) {
            return Ok(Some(Image { name, ..known }));
        }
        let Some(image) = self.open(ctx, &self.session, &name, &record.target).await? else {
            return Ok(None);
        };
        self.known.put(record.target.digest, image.clone());
        Ok(Some(image))
    }

    /// Remembers an image of this machine's platform that was just pulled.
    pub(super) fn remember(&self, image: &Image) {
        self.known.put(image.target.digest.clone(), image.clone());
    }

    /// Forgets what is remembered of an image: for when its snapshot turned out to be gone.
    pub(crate) fn forget(&self, image: &Image) {
        self.known.forget(&image.target.digest);
    }

    /// Reads what `target` is, and makes sure that it is unpacked. `None` if something of it is missing.
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

/// Follows an index to the manifest for this machine. `None` if a blob on the way is missing.
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
