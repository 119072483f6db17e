//! The images that are here, for the command line.

use std::path::Path;

use tokio::io::AsyncWrite;

use super::{ContainerdDriver, translate};
use crate::Context;
use crate::driver::{Error, ErrorKind};
use crate::engine::{Format, Loaded, Removed, Shelf};
use crate::image::Reference;

impl ContainerdDriver {
    /// Loads the images of an archive, and says what of it was not loaded.
    pub(crate) async fn load_archive(&self, ctx: &Context, file: &Path) -> Result<Loaded, Error> {
        self.0.open()?;
        self.0.engine.load(ctx, file).await.map_err(translate)
    }

    /// All of them.
    pub(crate) async fn shelf(&self, ctx: &Context) -> Result<Shelf, Error> {
        self.0.engine.shelf(ctx).await.map_err(translate)
    }

    /// Gives an image another name; returns that in full.
    pub(crate) async fn tag(&self, ctx: &Context, source: &str, name: &str) -> Result<String, Error> {
        let name = Reference::parse(name).map_err(|why| Error::new(ErrorKind::InvalidTask, why))?;
        if name.digest().is_some() {
            let text = format!("{name} has a digest, which is not a name to give; give a tag");
            return Err(Error::new(ErrorKind::InvalidTask, text));
        }
        self.0.engine.tag(ctx, source, &name).await.map_err(translate)?;
        Ok(name.to_string())
    }

    /// Removes a name, or an image by its id.
    pub(crate) async fn remove_image(
        &self,
        ctx: &Context,
        image: &str,
        force: bool,
    ) -> Result<Removed, Error> {
        self.0
            .engine
            .remove_image(ctx, image, force)
            .await
            .map_err(translate)
    }

    /// Removes every image that no container uses.
    pub(crate) async fn prune_images(&self, ctx: &Context, all: bool) -> Result<Removed, Error> {
        self.0.engine.prune_images(ctx, all).await.map_err(translate)
    }

    /// Writes images as an archive; returns its size in bytes.
    pub(crate) async fn save(
        &self,
        ctx: &Context,
        images: &[String],
        format: Format,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Error> {
        self.0
            .engine
            .save(ctx, images, format, out)
            .await
            .map_err(translate)
    }
}
