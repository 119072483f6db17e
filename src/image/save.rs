//! Saves images as a tar archive: an OCI layout, and with Docker's `manifest.json` beside it an archive for `docker load`.
//!
//! Blobs lie in it as they came from the registry, each once, whoever shares it, and pass through part by part. Docker reads
//! them compressed since 1.10 with gzip, and since 23.0 with zstd. The tar crate writes to blocking writers alone, so it gives
//! the headers, and the rest is written here.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::look::Found;
use super::{Error, ImageStore};
use crate::containerd::Descriptor;
use crate::{Context, Digest};

/// What everything in a tar archive is a multiple of, in bytes.
const BLOCK: usize = 512;

/// What reads the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `docker load`, and everything that reads OCI layouts.
    Docker,
    /// What reads OCI layouts.
    Oci,
}

/// An image to save, with the names that it shall have in the archive.
struct Wanted {
    names: Vec<String>,
    found: Found,
}

impl ImageStore {
    /// Writes the images of these names or ids. Returns how many bytes it has written.
    ///
    /// # Errors
    /// One that is not here or not complete is refused before anything is written.
    ///
    /// # Cancellation
    /// Safe to drop: the archive is then not complete.
    pub(crate) async fn save(
        &self,
        ctx: &Context,
        images: &[String],
        format: Format,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Error> {
        let shelf = self.shelf(ctx).await?;
        let mut wanted: Vec<Wanted> = Vec::new();
        for text in images {
            let (image, name) = shelf.find(text)?;
            let lacks = |part: &str| Error::NotWhole {
                image: text.clone(),
                part: part.to_owned(),
            };
            let found = image
                .look
                .manifest
                .clone()
                .ok_or_else(|| lacks("manifest for this machine"))?;
            if let Some(missing) = &image.look.missing {
                return Err(lacks(missing.as_str()));
            }
            match wanted
                .iter_mut()
                .find(|other| other.found.manifest == found.manifest)
            {
                Some(known) => known.names.extend(name),
                None => wanted.push(Wanted {
                    names: name.into_iter().collect(),
                    found,
                }),
            }
        }
        let mut archive = Archive { ctx, out, written: 0 };
        archive
            .document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))
            .await?;
        archive.document("index.json", &index(&wanted)).await?;
        if format == Format::Docker {
            archive.document("manifest.json", &dockers(&wanted)).await?;
        }
        let mut had = BTreeSet::new();
        for blob in wanted.iter().flat_map(|image| blobs(&image.found)) {
            if had.insert(blob.digest.clone()) {
                archive.blob(self, blob).await?;
            }
        }
        archive.end().await
    }
}

fn blobs(found: &Found) -> impl Iterator<Item = &Descriptor> {
    [&found.manifest, &found.config].into_iter().chain(&found.layers)
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An entry for each name, as containerd and skopeo read them; an image saved by its id has none.
fn index(images: &[Wanted]) -> Value {
    let entry = |found: &Found| {
        let Descriptor {
            media_type,
            digest,
            size,
        } = &found.manifest;
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": size})
    };
    let entries = images.iter().flat_map(|image| {
        let named = image.names.iter().map(|name| {
            let mut entry = entry(&image.found);
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            entry["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": tag,
            });
            entry
        });
        let unnamed = image.names.is_empty().then(|| entry(&image.found));
        named.chain(unnamed)
    });
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries.collect::<Vec<_>>()})
}

/// Docker's own index. It knows tags alone, so a name with a digest is left out.
fn dockers(images: &[Wanted]) -> Value {
    let entry = |image: &Wanted| {
        let tags: Vec<_> = image
            .names
            .iter()
            .filter(|name| !name.contains('@'))
            .map(|name| familiar(name))
            .collect();
        let layers: Vec<_> = image
            .found
            .layers
            .iter()
            .map(|layer| path_of(&layer.digest))
            .collect();
        json!({"Config": path_of(&image.found.config.digest), "RepoTags": tags, "Layers": layers})
    };
    images.iter().map(entry).collect()
}

fn familiar(name: &str) -> String {
    super::Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

struct Archive<'a, W> {
    ctx: &'a Context,
    out: &'a mut W,
    written: u64,
}

impl<W: AsyncWrite + Unpin> Archive<'_, W> {
    async fn document(&mut self, path: &str, json: &Value) -> Result<(), Error> {
        let bytes = serde_json::to_vec(json).map_err(|why| Error::NotSaved { source: why.into() })?;
        self.header(path, bytes.len() as u64).await?;
        self.write(&bytes).await?;
        self.pad(bytes.len() as u64).await
    }

    async fn blob(&mut self, store: &ImageStore, blob: &Descriptor) -> Result<(), Error> {
        let content = store.session.content();
        let fail = || Error::containerd(blob.digest.as_str());
        let info = content.info(self.ctx, &blob.digest).await.map_err(fail())?;
        self.header(&path_of(&blob.digest), info.size).await?;
        let mut parts = content.stream(self.ctx, &blob.digest).await.map_err(fail())?;
        let mut size = 0;
        while let Some(part) = parts.next().await.map_err(fail())? {
            size += part.len() as u64;
            self.write(&part).await?;
        }
        if size != info.size {
            let why = format!(
                "{} has {size} bytes, and {} were announced",
                blob.digest, info.size
            );
            return Err(Error::NotSaved {
                source: std::io::Error::other(why),
            });
        }
        self.pad(size).await
    }

    /// The same image gives the same archive: no clock, no user.
    async fn header(&mut self, path: &str, size: u64) -> Result<(), Error> {
        let mut header = Header::new_gnu();
        header
            .set_path(path)
            .map_err(|source| Error::NotSaved { source })?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes()).await
    }

    async fn pad(&mut self, size: u64) -> Result<(), Error> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        let zeros = [0; BLOCK];
        let rest = (BLOCK - over) % BLOCK;
        self.write(zeros.get(..rest).unwrap_or_default()).await
    }

    async fn end(mut self) -> Result<u64, Error> {
        self.write(&[0; 2 * BLOCK]).await?;
        self.out
            .flush()
            .await
            .map_err(|source| Error::NotSaved { source })?;
        Ok(self.written)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.ctx.run(self.out.write_all(bytes)).await;
        written
            .map_err(|why| Error::NotSaved {
                source: std::io::Error::other(why),
            })?
            .map_err(|source| Error::NotSaved { source })?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(digit: char) -> Descriptor {
        Descriptor {
            media_type: "m".into(),
            digest: Digest::new(format!("sha256:{}", digit.to_string().repeat(64))).unwrap(),
            size: 7,
        }
    }

    #[test]
    fn both_indexes_name_the_same() {
        let wanted = |names: &[&str]| Wanted {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            found: Found {
                manifest: blob('1'),
                config: blob('2'),
                layers: vec![blob('3')],
                settings: None,
            },
        };
        let named = [wanted(&["docker.io/library/a:1", "r.io/b@sha256:x"])];
        let index = index(&named);
        let names: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["annotations"]["io.containerd.image.name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["docker.io/library/a:1", "r.io/b@sha256:x"]);
        assert_eq!(
            index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
            "1"
        );
        let docker = dockers(&named);
        assert_eq!(docker[0]["RepoTags"], json!(["a:1"]));
        assert_eq!(docker[0]["Config"], format!("blobs/sha256/{}", "2".repeat(64)));
        let unnamed = super::index(&[wanted(&[])]);
        assert_eq!(unnamed["manifests"].as_array().unwrap().len(), 1);
        assert!(unnamed["manifests"][0].get("annotations").is_none());
    }
}
