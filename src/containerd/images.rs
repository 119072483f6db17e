//! Image records: names, and the descriptor of each name's image.

use std::collections::BTreeMap;

use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest, UpdateImageRequest,
};
use prost_types::FieldMask;
use tonic::transport::Channel;

use super::session::MAX_MESSAGE;
use super::{Descriptor, Error, Session};
use crate::Context;

/// An image name and its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    /// The normalised reference, as in `docker.io/library/busybox:latest`.
    pub(crate) name: String,
    /// The image's index or manifest.
    pub(crate) target: Descriptor,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The images service.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    session: Session,
}

impl Images {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Returns the image with this name.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn get(&self, ctx: &Context, name: &str) -> Result<ImageRecord, Error> {
        let mut client = self.client();
        let message = GetImageRequest {
            name: name.to_owned(),
        };
        let call = self.session.call(ctx, "Images/Get", name);
        let reply = call.read(message, |r| async move { client.get(r).await }).await?;
        let image = reply.image.ok_or_else(|| call.malformed("it has no image"))?;
        from_wire(image).map_err(|why| call.malformed(why))
    }

    /// The images that match any of `filters`; all images if there is no filter. Leaves out an image whose digest is
    /// not SHA-256.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a malformed filter.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context, filters: &[String]) -> Result<Vec<ImageRecord>, Error> {
        let mut client = self.client();
        let message = ListImagesRequest {
            filters: filters.to_vec(),
        };
        let reply = self
            .session
            .call(ctx, "Images/List", "")
            .read(message, |r| async move { client.list(r).await })
            .await?;
        let images = reply.images.into_iter().filter_map(|image| {
            from_wire(image)
                .inspect_err(|why| tracing::debug!(%why, "skipped an image record that cannot be used"))
                .ok()
        });
        Ok(images.collect())
    }

    /// Sets the target of the name, whether the name exists or not. Labels of an existing name stay as they are, except
    /// those given in `image`.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn put(&self, ctx: &Context, image: &ImageRecord) -> Result<(), Error> {
        match self.create(ctx, image).await {
            Err(why) if why.is_already_exists() => {}
            done => return done,
        }
        match self.update(ctx, image).await {
            // Another client deleted the name in between.
            Err(why) if why.is_not_found() => self.create(ctx, image).await,
            done => done,
        }
    }

    /// Deletes the name. With `sync`, data that nothing else refers to is collected before the reply.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete(&self, ctx: &Context, name: &str, sync: bool) -> Result<(), Error> {
        let mut client = self.client();
        let message = DeleteImageRequest {
            name: name.to_owned(),
            sync,
            target: None,
        };
        self.session
            .call(ctx, "Images/Delete", name)
            .change(message, |r| async move { client.delete(r).await })
            .await?;
        Ok(())
    }

    async fn create(&self, ctx: &Context, image: &ImageRecord) -> Result<(), Error> {
        let mut client = self.client();
        let message = CreateImageRequest {
            image: Some(to_wire(image)),
            source_date_epoch: None,
        };
        self.session
            .call(ctx, "Images/Create", &image.name)
            .change(message, |r| async move { client.create(r).await })
            .await?;
        Ok(())
    }

    async fn update(&self, ctx: &Context, image: &ImageRecord) -> Result<(), Error> {
        let mut client = self.client();
        let labels = image.labels.keys().map(|name| format!("labels.{name}"));
        let paths = std::iter::once("target".to_owned()).chain(labels).collect();
        let message = UpdateImageRequest {
            image: Some(to_wire(image)),
            // Without a mask the whole record is replaced, including labels that other programs have set.
            update_mask: Some(FieldMask { paths }),
            ..UpdateImageRequest::default()
        };
        self.session
            .call(ctx, "Images/Update", &image.name)
            .change(message, |r| async move { client.update(r).await })
            .await?;
        Ok(())
    }

    fn client(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

fn to_wire(image: &ImageRecord) -> Image {
    Image {
        name: image.name.clone(),
        labels: image.labels.clone().into_iter().collect(),
        target: Some(image.target.to_wire()),
        ..Image::default()
    }
}

fn from_wire(image: Image) -> Result<ImageRecord, String> {
    let target = image.target.ok_or("an image without a target")?;
    Ok(ImageRecord {
        name: image.name,
        target: Descriptor::from_wire(target)?,
        labels: image.labels.into_iter().collect(),
    })
}
