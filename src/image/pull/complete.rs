//! Fetches the missing blobs of an image that can run already.
//!
//! A pull skips the layers whose snapshots exist, whichever image they came with. An image needs no more to run, but to
//! be saved, it needs all its blobs. containerd's own clients and this one record at the manifest and at the
//! configuration from which repositories these were fetched, so the missing blobs are fetched from there; no other
//! place is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::progress::Reporter;
use super::resolve::{KEEPS, SOURCE};
use super::work::{Job, Work, abandoned};
use super::{Puller, Request, fetch};
use crate::Context;
use crate::containerd::Descriptor;
use crate::image::contents::Found;
use crate::image::save::part;
use crate::image::scratch::Scratch;
use crate::image::{Error, Reference};

impl Puller {
    /// Fetches the missing blobs of these images, given by names or ids. Blobs without a known repository stay missing.
    ///
    /// # Errors
    /// [`Error::NotFetched`] if none of the known repositories provides the missing blobs.
    ///
    /// # Cancellation
    /// Not safe to drop in the middle of a write to containerd, so callers run it on a task of its own. Interrupting
    /// `ctx` unwinds.
    pub(crate) async fn complete(&self, ctx: &Context, images: &[String]) -> Result<(), Error> {
        let store = &self.shared.images;
        let stored = store.stored_images(ctx).await?;
        for text in images {
            let (image, _) = stored.find(text)?;
            let Some(found) = &image.contents.manifest else {
                continue;
            };
            let missing = store.missing(ctx, text, found).await?;
            if missing.is_empty() {
                continue;
            }
            let mut last = None;
            for source in self.sources(ctx, text, found).await? {
                match self.fetch(ctx, source, found, &missing).await {
                    Ok(()) => {
                        last = None;
                        break;
                    }
                    Err(why) if why.interrupted().is_some() => return Err(why),
                    Err(why) => {
                        tracing::debug!(why = %crate::chain(&why), "a repository does not provide the missing blobs of an image");
                        last = Some(why);
                    }
                }
            }
            if let Some(why) = last {
                return Err(Error::NotFetched {
                    image: text.clone(),
                    parts: missing.iter().map(part).collect(),
                    source: Box::new(why),
                });
            }
        }
        Ok(())
    }

    /// The repositories from which the documents of the image were fetched.
    async fn sources(&self, ctx: &Context, image: &str, found: &Found) -> Result<BTreeSet<Reference>, Error> {
        let content = self.shared.images.session.content();
        let mut sources = BTreeSet::new();
        for blob in [&found.manifest, &found.config] {
            let labels = match content.info(ctx, &blob.digest).await {
                Err(why) if why.is_not_found() => continue,
                info => info.map_err(Error::containerd(image))?.labels,
            };
            sources.extend(labels.iter().flat_map(|(label, paths)| listed(label, paths)));
        }
        Ok(sources)
    }

    /// Fetches these blobs of an image from one repository.
    async fn fetch(
        &self,
        ctx: &Context,
        source: Reference,
        found: &Found,
        missing: &[Descriptor],
    ) -> Result<(), Error> {
        let shared = &self.shared;
        let session = &shared.images.session;
        let repository = shared.registries.repository(&source, None)?;
        let request = Request {
            reference: source,
            platform: None,
            credential: None,
        };
        let job = Arc::new(Job::new(Arc::clone(shared), request, Reporter::new()));
        let fail = || Error::containerd(&job.name);
        // Some clients make containerd remove the layers that they have unpacked.
        let content = session.content();
        let labels = content
            .set_labels(ctx, &found.manifest.digest, &keeps(found))
            .await;
        labels.map_err(fail())?;
        let scratch = Scratch::take(session, ctx, ("save", &job.name), shared.settings.lease).await;
        let work = Work {
            scratch: scratch.map_err(fail())?,
            repository,
            job: Arc::clone(&job),
        };
        let fetching = async {
            let room = Semaphore::new(1);
            for (at, blob) in missing.iter().enumerate() {
                fetch::layer(&work, ctx, &room, blob, at).await?;
            }
            Ok(())
        };
        let fetched = tokio::select! {
            biased;
            fetched = fetching => fetched,
            never = work.scratch.keep_alive(ctx) => match never {},
            source = abandoned(ctx) => Err(job.not_pulled(source)),
        };
        work.scratch.release(ctx, fetched.is_err()).await;
        fetched
    }
}

/// The labels of the blobs that the manifest keeps alive, as a pull writes them.
fn keeps(found: &Found) -> BTreeMap<String, String> {
    let config = (format!("{KEEPS}config"), found.config.digest.to_string());
    let layers = found.layers.iter().enumerate();
    let layers = layers.map(|(at, layer)| (format!("{KEEPS}l.{at}"), layer.digest.to_string()));
    std::iter::once(config).chain(layers).collect()
}

/// The repositories in a label; empty if the label lists none.
fn listed(label: &str, paths: &str) -> Vec<Reference> {
    let Some(registry) = label.strip_prefix(SOURCE) else {
        return Vec::new();
    };
    let paths = paths.split(',').filter(|path| !path.is_empty());
    paths
        .filter_map(|path| Reference::parse(&format!("{registry}/{path}")).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_from_the_label_that_containerd_writes() {
        let shown = |label: &str, paths: &str| -> Vec<String> {
            listed(label, paths).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            shown("containerd.io/distribution.source.docker.io", "library/a,b/c"),
            ["docker.io/library/a:latest", "docker.io/b/c:latest"]
        );
        assert_eq!(
            shown("containerd.io/distribution.source.127.0.0.1:5000", "x"),
            ["127.0.0.1:5000/x:latest"]
        );
        assert_eq!(shown("containerd.io/distribution.source.r.io", ""), [""; 0]);
        assert_eq!(shown("containerd.io/gc.ref.content.config", "sha256:x"), [""; 0]);
    }
}
