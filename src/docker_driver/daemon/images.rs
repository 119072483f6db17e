//! Calls about images.

use std::path::Path;

use bollard::auth::DockerCredentials;
use bollard::body_try_stream;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptions, ListImagesOptions, RemoveImageOptions,
};
use futures_util::StreamExt as _;
use tokio_util::io::ReaderStream;

use super::Daemon;
use super::failed::{Cause, Failed, cause};
use crate::Context;
use crate::credentials::Credential;

/// How much of an archive is read at once.
const CHUNK: usize = 256 << 10;
/// What the engine says before the name of an image that it has loaded.
const LOADED: [&str; 2] = ["Loaded image: ", "Loaded image ID: "];

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::docker_driver) struct Found {
    /// `sha256:…`
    pub(in crate::docker_driver) id: String,
    /// The paths that it declares as volumes, sorted.
    pub(in crate::docker_driver) volumes: Vec<String>,
}

/// An image in a list.
#[derive(Debug, Clone)]
pub(in crate::docker_driver) struct Stored {
    pub(in crate::docker_driver) id: String,
    /// Its names with tags and with digests.
    pub(in crate::docker_driver) names: Vec<String>,
    /// In bytes, with the layers that other images share.
    pub(in crate::docker_driver) size: u64,
}

/// Credentials for a registry.
#[derive(Debug, Clone)]
pub(in crate::docker_driver) struct Login {
    pub(in crate::docker_driver) registry: String,
    pub(in crate::docker_driver) credential: Credential,
}

impl Login {
    fn header(&self) -> DockerCredentials {
        let mut header = DockerCredentials {
            serveraddress: Some(self.registry.clone()),
            ..DockerCredentials::default()
        };
        match &self.credential {
            Credential::Basic { username, password } => {
                header.username = Some(username.clone());
                header.password = Some(password.clone());
            }
            Credential::IdentityToken(token) => header.identitytoken = Some(token.clone()),
            Credential::RegistryToken(token) => header.registrytoken = Some(token.clone()),
        }
        header
    }
}

impl Daemon {
    /// Looks for an image by name or id; `None` if it is not here.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn image(
        &self,
        ctx: &Context,
        name: &str,
    ) -> Result<Option<Found>, Failed> {
        let call = "inspect image";
        let inspecting = ctx.run(self.calls.inspect_image(name)).await;
        let inspected = inspecting.map_err(|why| Failed::new(call, name, why.into()))?;
        let image = match inspected.map_err(|error| Failed::of(call, name, error)) {
            Ok(image) => image,
            Err(failed) if failed.is_missing() => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let mut volumes = image.config.and_then(|config| config.volumes).unwrap_or_default();
        volumes.sort();
        Ok(Some(Found {
            id: image.id.unwrap_or_default(),
            volumes,
        }))
    }

    /// All images.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn images(&self, ctx: &Context) -> Result<Vec<Stored>, Failed> {
        let listing = ctx.run(self.calls.list_images(None::<ListImagesOptions>)).await;
        let listed = listing.map_err(|why| Failed::new("list", "images", why.into()))?;
        let listed = listed.map_err(|error| Failed::of("list", "images", error))?;
        let stored = listed.into_iter().map(|image| Stored {
            id: image.id,
            names: image
                .repo_tags
                .into_iter()
                .chain(image.repo_digests)
                // As older engines name an image without a name.
                .filter(|name| !name.starts_with("<none>"))
                .collect(),
            size: u64::try_from(image.size).unwrap_or_default(),
        });
        Ok(stored.collect())
    }

    /// Pulls an image.
    ///
    /// # Cancellation
    /// Safe to drop: the engine then ends the pull.
    pub(in crate::docker_driver) async fn pull(
        &self,
        repository: &str,
        tag: &str,
        login: Option<&Login>,
    ) -> Result<(), Cause> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(repository)
            .tag(tag)
            .build();
        let mut progress = self
            .waits
            .create_image(Some(options), None, login.map(Login::header));
        while let Some(message) = progress.next().await {
            let message = message.map_err(cause)?;
            if let Some(failed) = message.error_detail {
                return Err(Cause::Broken(failed.message.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Loads the images of an archive, which is sent as it is read, and returns their names.
    ///
    /// # Cancellation
    /// The images may be here if this is dropped.
    pub(in crate::docker_driver) async fn load(
        &self,
        ctx: &Context,
        file: &Path,
    ) -> Result<Vec<String>, Failed> {
        let shown = file.display().to_string();
        let failed = |cause| Failed::new("load", &shown, cause);
        let loading = async {
            let archive = tokio::fs::File::open(file).await.map_err(Cause::File)?;
            let body = body_try_stream(ReaderStream::with_capacity(archive, CHUNK));
            let mut messages = self.waits.import_image(ImportImageOptions::default(), body, None);
            let mut names = Vec::new();
            while let Some(message) = messages.next().await {
                let message = message.map_err(cause)?;
                if let Some(failed) = message.error_detail {
                    return Err(Cause::Broken(failed.message.unwrap_or_default()));
                }
                names.extend(message.stream.as_deref().and_then(loaded));
            }
            Ok(names)
        };
        let loaded = ctx.run(loading).await.map_err(|why| failed(why.into()))?;
        loaded.map_err(failed)
    }

    /// Removes an image by its id or a name, unless a container uses it. By its id, the engine removes one that several
    /// repositories name only name by name.
    ///
    /// # Cancellation
    /// The image may be removed if this is dropped.
    pub(in crate::docker_driver) async fn remove_image(&self, id: &str) -> Result<(), Failed> {
        let removed = self
            .calls
            .remove_image(id, None::<RemoveImageOptions>, None)
            .await;
        removed
            .map(drop)
            .map_err(|error| Failed::of("remove image", id, error))
    }
}

/// The name in a message such as `Loaded image: busybox:latest`.
fn loaded(message: &str) -> Option<String> {
    let name = LOADED
        .iter()
        .find_map(|words| message.trim().strip_prefix(words))?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_loaded_images_are_read_from_the_engine_s_messages() {
        assert_eq!(
            loaded("Loaded image: busybox:latest\n").as_deref(),
            Some("busybox:latest")
        );
        assert_eq!(
            loaded("Loaded image ID: sha256:aa\n").as_deref(),
            Some("sha256:aa")
        );
        assert_eq!(loaded("The image busybox:latest already exists"), None);
    }

    #[test]
    fn a_login_is_sent_in_the_form_of_its_credentials() {
        let header = |credential| {
            let login = Login {
                registry: "r.io".to_owned(),
                credential,
            };
            serde_json::to_value(login.header()).unwrap()
        };
        let basic = header(Credential::Basic {
            username: "bob".to_owned(),
            password: "secret".to_owned(),
        });
        assert_eq!(
            (&basic["username"], &basic["serveraddress"]),
            (&"bob".into(), &"r.io".into())
        );
        assert_eq!(
            header(Credential::IdentityToken("t".to_owned()))["identitytoken"],
            "t"
        );
        assert_eq!(
            header(Credential::RegistryToken("t".to_owned()))["registrytoken"],
            "t"
        );
    }
}
