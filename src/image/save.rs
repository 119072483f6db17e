//! Saves images as a tar archive: an OCI layout, and with an additional `manifest.json` of Docker an archive for
//! `docker load`.
//!
//! The archive contains the blobs as they came from the registry, each of them once even if images share it, and they
//! are copied part by part. Docker can read gzip layers since 1.10; zstd layers become uncompressed tars in its format
//! (see [`plain`](super::plain)). The tar crate supports only blocking writers, so it provides the headers, and the
//! rest is written here.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::bare::Packed;
use super::contents::Found;
use super::plain::Plain;
use super::{Error, ImageStore, manifest};
use crate::containerd::Descriptor;
use crate::{Context, Digest};

/// The block size of a tar archive in bytes.
const BLOCK: usize = 512;

/// The format of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For `docker load`, and for every program that reads OCI layouts.
    Docker,
    /// For programs that read OCI layouts.
    Oci,
}

/// An image to save, with its names in the archive.
struct ImageToSave {
    names: Vec<String>,
    image: Plain,
}

impl ImageStore {
    /// Writes the images with these names or ids. Returns the number of bytes written.
    ///
    /// # Errors
    /// An image that does not exist or is incomplete is refused before anything is written.
    ///
    /// # Cancellation
    /// Safe to drop: the archive is incomplete then.
    pub(crate) async fn save(
        &self,
        ctx: &Context,
        images: &[String],
        format: Format,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Error> {
        let mut wanted: Vec<(Vec<String>, &str, Found)> = Vec::new();
        let stored = self.stored_images(ctx).await?;
        for text in images {
            let (image, name) = stored.find(text)?;
            let found = image.contents.manifest.clone();
            let missing = match &found {
                None => vec!["manifest for this machine".to_owned()],
                Some(found) => self.missing(ctx, text, found).await?.iter().map(part).collect(),
            };
            let Some(found) = found.filter(|_| missing.is_empty()) else {
                return Err(Error::NotWhole {
                    image: text.clone(),
                    parts: missing,
                });
            };
            match wanted
                .iter_mut()
                .find(|(.., other)| other.manifest == found.manifest)
            {
                Some((names, ..)) => names.extend(name),
                None => wanted.push((name.into_iter().collect(), text, found)),
            }
        }
        let mut saved = Vec::new();
        for (names, text, found) in wanted {
            saved.push(ImageToSave {
                names,
                image: match format {
                    Format::Docker => Plain::of(self, ctx, text, found).await?,
                    Format::Oci => Plain::unchanged(found),
                },
            });
        }
        self.write(ctx, &saved, format, out).await
    }

    async fn write(
        &self,
        ctx: &Context,
        images: &[ImageToSave],
        format: Format,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Error> {
        let mut archive = Archive { ctx, out, written: 0 };
        archive
            .json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))
            .await?;
        archive.json("index.json", &index(images)).await?;
        if format == Format::Docker {
            archive.json("manifest.json", &dockers(images)).await?;
        }
        let mut had = BTreeSet::new();
        for ImageToSave { image, .. } in images {
            for blob in blobs(&image.found) {
                if !had.insert(blob.digest.clone()) {
                    continue;
                }
                match (&image.manifest, image.tars.get(&blob.digest)) {
                    (_, Some(packed)) => archive.bare(self, blob, packed).await?,
                    (Some(made), _) if blob.digest == image.found.manifest.digest => {
                        archive.document(&path_of(&blob.digest), made).await?;
                    }
                    _ => archive.blob(self, blob).await?,
                }
            }
        }
        archive.end().await
    }

    /// The parts of an image that are not in the content store, the configuration first.
    pub(super) async fn missing(
        &self,
        ctx: &Context,
        image: &str,
        found: &Found,
    ) -> Result<Vec<Descriptor>, Error> {
        let content = self.session.content();
        let mut missing = Vec::new();
        for blob in std::iter::once(&found.config).chain(&found.layers) {
            match content.info(ctx, &blob.digest).await {
                Err(why) if why.is_not_found() => missing.push(blob.clone()),
                info => drop(info.map_err(Error::containerd(image))?),
            }
        }
        Ok(missing)
    }
}

/// The description of a missing part.
pub(super) fn part(blob: &Descriptor) -> String {
    let what = if manifest::is_layer(&blob.media_type) {
        "layer"
    } else {
        "configuration"
    };
    format!("{what} {}", blob.digest)
}

fn blobs(found: &Found) -> impl Iterator<Item = &Descriptor> {
    [&found.manifest, &found.config].into_iter().chain(&found.layers)
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// One entry for each name, as containerd and skopeo read them. An image that is saved by its id gets an entry without
/// a name.
fn index(images: &[ImageToSave]) -> Value {
    let entry = |found: &Found| {
        let Descriptor {
            media_type,
            digest,
            size,
        } = &found.manifest;
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": size})
    };
    let entries = images.iter().flat_map(|ImageToSave { names, image }| {
        // A digest in a name is that of the original manifest, which is not in the archive if a layer was replaced.
        let names = names
            .iter()
            .filter(|name| image.manifest.is_none() || !name.contains('@'));
        let unnamed = names.clone().next().is_none().then(|| entry(&image.found));
        let named = names.map(|name| {
            let mut entry = entry(&image.found);
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            entry["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": tag,
            });
            entry
        });
        named.chain(unnamed)
    });
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries.collect::<Vec<_>>()})
}

/// Docker's own index. It supports only tags, so a name with a digest is left out.
fn dockers(images: &[ImageToSave]) -> Value {
    let entry = |image: &ImageToSave| {
        let tags: Vec<_> = image
            .names
            .iter()
            .filter(|name| !name.contains('@'))
            .map(|name| familiar(name))
            .collect();
        let found = &image.image.found;
        let layers: Vec<_> = found.layers.iter().map(|layer| path_of(&layer.digest)).collect();
        json!({"Config": path_of(&found.config.digest), "RepoTags": tags, "Layers": layers})
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
    async fn json(&mut self, path: &str, json: &Value) -> Result<(), Error> {
        let bytes = serde_json::to_vec(json).map_err(|why| Error::NotSaved { source: why.into() })?;
        self.document(path, &bytes).await
    }

    async fn document(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        self.header(path, bytes.len() as u64).await?;
        self.write(bytes).await?;
        self.pad(bytes.len() as u64).await
    }

    /// Writes a layer as an uncompressed tar, whose size is known.
    async fn bare(&mut self, store: &ImageStore, tar: &Descriptor, packed: &Packed) -> Result<(), Error> {
        self.header(&path_of(&tar.digest), tar.size).await?;
        let content = store.session.content();
        let ctx = self.ctx;
        let mut bare = packed.open(ctx, &content).await?;
        let mut size = 0;
        while let Some(chunk) = bare.next().await? {
            size += chunk.len() as u64;
            self.write(&chunk).await?;
        }
        self.ends(tar, size, tar.size).await
    }

    async fn blob(&mut self, store: &ImageStore, blob: &Descriptor) -> Result<(), Error> {
        let content = store.session.content();
        let fail = || Error::store(format!("blob {}", blob.digest));
        let info = content.info(self.ctx, &blob.digest).await.map_err(fail())?;
        self.header(&path_of(&blob.digest), info.size).await?;
        let mut parts = content.stream(self.ctx, &blob.digest).await.map_err(fail())?;
        let mut size = 0;
        while let Some(part) = parts.next().await.map_err(fail())? {
            size += part.len() as u64;
            self.write(&part).await?;
        }
        self.ends(blob, size, info.size).await
    }

    /// Ends an entry, whose size must match its header.
    async fn ends(&mut self, blob: &Descriptor, size: u64, announced: u64) -> Result<(), Error> {
        if size != announced {
            let why = format!("{} has {size} bytes, and {announced} were announced", blob.digest);
            return Err(Error::NotSaved {
                source: std::io::Error::other(why),
            });
        }
        self.pad(size).await
    }

    /// The header contains no time and no user, so that the same image results in the same archive.
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
        let wanted = |names: &[&str]| ImageToSave {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            image: Plain::unchanged(Found {
                manifest: blob('1'),
                config: blob('2'),
                layers: vec![blob('3')],
                diff_ids: Vec::new(),
                settings: None,
            }),
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
        // If a layer was replaced, the manifest to which a name with a digest refers is not in the archive.
        let mut replaced = wanted(&["r.io/b@sha256:x"]);
        replaced.image.manifest = Some(Vec::new());
        let index = super::index(&[replaced]);
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert!(index["manifests"][0].get("annotations").is_none());
    }
}
