//! Image records: a name and the descriptor that it stands for.

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

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    /// The normalised reference, as in `docker.io/library/busybox:latest`.
    pub(crate) name: String,
    /// Its index or manifest.
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

    /// The image of that name.
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
        let image = reply.image.ok_or_else(|| call.malformed("no image in it"))?;
        from_wire(image).map_err(|why| call.malformed(why))
    }

    /// The images that match any of `filters`; all without any. One whose digest is not SHA-256 is left out.
    ///
    /// # Errors
    /// [`Error::is_invalid`] for a filter that is not one.
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

    /// Makes the name stand for the target, whether it exists or not. Labels that a name has already stay as they are, save
    /// those that `image` gives.
    ///
    /// # Errors
    /// As every call.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn put(&self, ctx: &Context, image: &ImageRecord) -> Result<(), Error> {
        match self.create(ctx, image).await {
            Err(why) if why.is_already_exists() => {}
            done => return done,
        }
        match self.update(ctx, image).await {
            // Somebody deleted it in between.
            Err(why) if why.is_not_found() => self.create(ctx, image).await,
            done => done,
        }
    }

    /// Deletes the name. With `sync`, what nothing else holds is collected before the reply.
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
            // Without a mask all of the record is replaced, and with it what others have noted in its labels.
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
