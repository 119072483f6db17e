//! Tests of images with a real containerd: loading, finding and inspecting them, and leaving nothing behind after
//! errors.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::fixtures::*;
use super::*;
use crate::containerd::testing::{Private, patience};
use crate::{Context, Interrupted};

struct World {
    private: Private,
    store: ImageStore,
    ctx: Context,
}

impl World {
    async fn start() -> Option<Self> {
        let private = Private::start().await?;
        let session = private.session().await;
        let store = ImageStore::new(session, "overlayfs", &private.scratch());
        let ctx = patience();
        Some(Self { private, store, ctx })
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.private.scratch().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    async fn load(&self, bytes: &[u8]) -> Result<Vec<String>, Error> {
        let loaded = self.loaded(bytes).await?;
        assert_eq!(loaded.passed_over, []);
        Ok(loaded.images.into_iter().map(|image| image.record).collect())
    }

    async fn loaded(&self, bytes: &[u8]) -> Result<Loaded, Error> {
        let path = self.file("image.tar", bytes);
        self.store.load(&self.ctx, &path).await
    }

    async fn save(&self, image: &str, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        let images = [image.to_owned()];
        let saving = self.store.save(&self.ctx, &images, format, &mut out);
        let size = saving.await.unwrap();
        assert_eq!(size, out.len() as u64);
        out
    }

    /// The names of all records.
    async fn records(&self) -> Vec<String> {
        let records = self.store.session.images().list(&self.ctx, &[]).await.unwrap();
        records.into_iter().map(|record| record.name).collect()
    }

    /// Makes the garbage collector run.
    async fn collect(&self) {
        let nothing = crate::LeaseId::new("nothing").unwrap();
        let leases = self.store.session.leases();
        let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        leases
            .create(&self.ctx, &nothing, soon, &Default::default())
            .await
            .unwrap();
        leases.delete(&self.ctx, &nothing, true).await.unwrap();
    }

    async fn find(&self, name: &str) -> Option<Image> {
        let reference = Reference::parse(name).unwrap();
        self.store.find(&self.ctx, &reference).await.unwrap()
    }

    async fn program(&self, image: &Image, program: &str) -> Program {
        let lookup = Lookup {
            program: program.into(),
            path: Some("/bin".into()),
            cwd: "/".into(),
            hidden: Vec::new(),
        };
        self.store.executable(&self.ctx, image, &lookup).await.unwrap()
    }

    /// No lease, no unfinished write, no mount and nothing in the directory for mounts.
    #[track_caller]
    fn no_work_is_left(&self, leases: usize) {
        assert_eq!(leases, 0);
        let content = self.private.root().join("io.containerd.content.v1.content");
        assert_eq!(entries(&content.join("ingest")), Vec::<String>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.private.scratch().to_str().unwrap()));
        let left = entries(&self.private.scratch());
        assert!(!left.iter().any(|name| name.starts_with("fnctr-")), "{left:?}");
    }

    async fn leases(&self) -> usize {
        self.store
            .session
            .leases()
            .list(&self.ctx, &[])
            .await
            .unwrap()
            .len()
    }

    fn blobs(&self) -> Vec<String> {
        entries(
            &self
                .private
                .root()
                .join("io.containerd.content.v1.content/blobs/sha256"),
        )
    }

    fn snapshots(&self) -> Vec<String> {
        entries(
            &self
                .private
                .root()
                .join("io.containerd.snapshotter.v1.overlayfs/snapshots"),
        )
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(read) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    read.map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn said(err: &Error) -> String {
    let mut text = err.to_string();
    let mut at: &dyn std::error::Error = err;
    while let Some(source) = at.source() {
        text = format!("{text}: {source}");
        at = source;
    }
    text
}

#[tokio::test]
async fn a_docker_archive_is_loaded_found_and_looked_into() {
    let Some(world) = World::start().await else { return };
    assert!(world.find("demo").await.is_none());
    let bare = layers();
    let saved = [bare[0].clone(), gzip(&bare[1])];
    let archive = docker_archive(&json!(["demo:1", "r.io/x/demo:1"]), &config(&bare), &saved);
    let names = world.load(&archive).await.unwrap();
    assert_eq!(names, ["docker.io/library/demo:1", "r.io/x/demo:1"]);

    let image = world.find("demo:1").await.unwrap();
    assert_eq!(
        image.config_digest.hex(),
        hex(&serde_json::to_vec(&config(&bare)).unwrap())
    );
    let diff_ids: Vec<_> = bare
        .iter()
        .map(|layer| format!("sha256:{}", hex(layer)))
        .collect();
    let chain = hex(format!("{} {}", diff_ids[0], diff_ids[1]).as_bytes());
    assert_eq!(image.chain_id, format!("sha256:{chain}"));
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.config.cmd, ["sh", "-c", "exit 3"]);
    assert_eq!(image.config.user.as_deref(), Some("fn"));
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    assert!(refuses_volume(&image.config));

    let facts = world.store.facts(&world.ctx, &image).await.unwrap();
    let passwd = facts.passwd.as_ref().unwrap();
    assert!(passwd.ends_with("fn:x:1000:1000::/work:/bin/sh\n"));
    assert_eq!(facts.group.as_deref(), Ok("fn:x:1000:\n"));
    assert_eq!(facts.etc.mtab, Entry::Nothing);
    assert_eq!(
        world.program(&image, "sh").await,
        Program::Found("/bin/sh".into())
    );
    assert_eq!(
        world.program(&image, "gone").await,
        Program::NotFound,
        "whited out"
    );
    assert_eq!(
        world.program(&image, "plain").await,
        Program::NotExecutable("/bin/plain".into(), NotExecutable::Permission(0o644))
    );
    world.no_work_is_left(world.leases().await);
    // Loading it again changes nothing.
    let blobs = world.blobs();
    assert_eq!(world.load(&archive).await.unwrap(), names);
    assert_eq!(world.blobs(), blobs);
}

#[tokio::test]
async fn a_known_image_is_found_with_its_name_alone() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    world
        .load(&docker_archive(&json!(["demo"]), &config(&bare), &bare))
        .await
        .unwrap();
    let image = world.find("demo").await.unwrap();
    let facts = world.store.facts(&world.ctx, &image).await.unwrap();
    world.program(&image, "sh").await;
    let session = &world.store.session;
    let asked = |fact: &str, known: bool| {
        let labels = format!("fact=\"{fact}\",known=\"{known}\"");
        session
            .metrics()
            .value(&format!("fnctr_image_facts_total{{{labels}}}"))
    };
    for fact in ["image", "users", "program"] {
        assert_eq!((asked(fact, false), asked(fact, true)), (1, 0), "{fact}");
    }
    // A request for one of these blobs or for the snapshot would now fail.
    session
        .snapshots("overlayfs")
        .remove(&world.ctx, &image.chain_id)
        .await
        .unwrap();
    session
        .content()
        .delete(&world.ctx, &image.target.digest)
        .await
        .unwrap();
    assert_eq!(world.find("demo").await.unwrap().chain_id, image.chain_id);
    assert_eq!(world.store.facts(&world.ctx, &image).await.unwrap(), facts);
    assert_eq!(
        world.program(&image, "sh").await,
        Program::Found("/bin/sh".into())
    );
    for fact in ["image", "users", "program"] {
        assert_eq!((asked(fact, false), asked(fact, true)), (1, 1), "{fact}");
    }
    // Once removed from the cache, an image whose manifest is missing counts as absent.
    world.store.forget(&image);
    assert!(world.find("demo").await.is_none());
}

#[tokio::test]
async fn an_image_that_is_not_unpacked_is_unpacked_when_it_is_found() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    world
        .load(&docker_archive(&json!(["demo"]), &config(&bare), &bare))
        .await
        .unwrap();
    let image = world.find("demo").await.unwrap();
    let snapshots = world.store.session.snapshots("overlayfs");
    snapshots.remove(&world.ctx, &image.chain_id).await.unwrap();
    world.store.forget(&image);
    assert_eq!(world.find("demo").await.unwrap().chain_id, image.chain_id);
    assert!(snapshots.stat(&world.ctx, &image.chain_id).await.is_ok());
    // The garbage collector keeps what the image needs.
    world.collect().await;
    assert!(snapshots.stat(&world.ctx, &image.chain_id).await.is_ok());
    assert_eq!(world.snapshots().len(), 2);
    // Without a layer the image cannot be unpacked, and counts as absent.
    snapshots.remove(&world.ctx, &image.chain_id).await.unwrap();
    let layer = &image.layers[1].digest;
    world
        .store
        .session
        .content()
        .delete(&world.ctx, layer)
        .await
        .unwrap();
    world.store.forget(&image);
    assert!(world.find("demo").await.is_none());
    world.no_work_is_left(world.leases().await);
}

#[tokio::test]
async fn an_oci_layout_is_loaded_with_every_compression_and_for_this_platform() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let packed = [(gzip(&bare[0]), "+gzip"), (zstd(&bare[1]), "+zstd")];
    let files = oci_layout(&config(&bare), &packed, |link| named(link, "r.io/oci:2"));
    // The whole file is compressed in addition.
    for whole in [gzip(&tar_of(&files)), zstd(&tar_of(&files))] {
        assert_eq!(world.load(&whole).await.unwrap(), ["r.io/oci:2"]);
    }
    let image = world.find("r.io/oci:2").await.unwrap();
    assert_eq!(
        world
            .store
            .facts(&world.ctx, &image)
            .await
            .unwrap()
            .group
            .as_deref(),
        Ok("fn:x:1000:\n")
    );

    // The format of newer Docker versions: an index of indexes, with a platform whose blobs were never pulled.
    let arch = config(&bare)["architecture"].clone();
    let inner = std::cell::RefCell::new(Vec::new());
    let mut files = oci_layout(&config(&bare), &packed, |mut link| {
        link["platform"] = json!({"os": "linux", "architecture": arch});
        let absent = json!({"mediaType": link["mediaType"], "size": 9,
            "digest": format!("sha256:{}", "0".repeat(64)), "platform": {"os": "linux", "architecture": "s390x"}});
        let bytes = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [absent, link]})).unwrap();
        let top = json!({"mediaType": super::manifest::OCI_INDEX, "size": bytes.len(),
            "digest": format!("sha256:{}", hex(&bytes)),
            "annotations": {"io.containerd.image.name": "docker.io/library/multi:3",
                            "org.opencontainers.image.ref.name": "3"}});
        inner
            .borrow_mut()
            .push((format!("blobs/sha256/{}", hex(&bytes)), bytes));
        top
    });
    files.extend(inner.into_inner());
    assert_eq!(
        world.load(&tar_of(&files)).await.unwrap(),
        ["docker.io/library/multi:3"]
    );
    let multi = world.find("multi:3").await.unwrap();
    assert_eq!(
        (multi.chain_id, multi.config_digest),
        (image.chain_id, image.config_digest)
    );
    world.no_work_is_left(world.leases().await);
}

#[tokio::test]
async fn layers_that_repeat_or_are_links_are_one_layer() {
    let Some(world) = World::start().await else { return };
    let base = layers().remove(0);
    let all = [base.clone(), base.clone(), base.clone()];
    let config = serde_json::to_vec(&config(&all)).unwrap();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["links"],
        "Layers": ["a/layer.tar", "b/layer.tar", "a/layer.tar"]}]);
    let archive = tar(&[
        ("b/layer.tar", Item::Link("../a/layer.tar")),
        ("a/layer.tar", Item::File(base, 0o644)),
        ("c.json", Item::File(config, 0o644)),
        ("manifest.json", text(&manifest.to_string())),
        ("../../etc/passwd", text("ignored")),
    ]);
    world.load(&archive).await.unwrap();
    let image = world.find("links").await.unwrap();
    assert_eq!(
        world.program(&image, "gone").await,
        Program::Found("/bin/gone".into())
    );
}

#[tokio::test]
async fn an_image_of_more_layers_than_fit_one_page_of_mount_options_is_looked_into() {
    let Some(world) = World::start().await else { return };
    let mut all = vec![tar(&[("etc/passwd", text("lowest:x:1:1::/:/\n"))])];
    all.extend((0..80).map(|n| tar(&[(format!("f{n}").as_str(), text(&n.to_string()))])));
    world
        .load(&docker_archive(&json!(["deep"]), &config(&all), &all))
        .await
        .unwrap();
    let image = world.find("deep").await.unwrap();
    assert_eq!(
        world
            .store
            .facts(&world.ctx, &image)
            .await
            .unwrap()
            .passwd
            .as_deref(),
        Ok("lowest:x:1:1::/:/\n")
    );
    world.no_work_is_left(world.leases().await);
}

#[tokio::test]
async fn a_broken_file_is_named_with_what_is_wrong_and_leaves_nothing() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let good = docker_archive(&json!(["demo"]), &config(&bare), &bare);
    let other = tar(&[("other", text("other"))]);
    let oci = oci_layout(
        &config(&bare),
        &[(gzip(&bare[0]), "+gzip"), (bare[1].clone(), "")],
        |link| named(link, "oci"),
    );
    let without = |part: usize| {
        let mut files = oci.clone();
        files.remove(part);
        tar_of(&files)
    };
    let mut swapped = oci.clone();
    swapped[4].1 = gzip(&other);
    let mut wrong_config = oci.clone();
    wrong_config[3].1.push(b' ');
    let manifest_only = tar(&[
        (
            "manifest.json",
            text(r#"[{"Config":"c.json","RepoTags":["x"],"Layers":["l.tar"]}]"#),
        ),
        ("c.json", text(&config(&bare[..1]).to_string())),
    ]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a bare layer of another content",
            docker_archive(
                &json!(["demo"]),
                &config(&bare),
                &[bare[0].clone(), other.clone()],
            ),
            "is corrupt: layer1/layer.tar does not match its digest",
        ),
        (
            "a gzip layer of another content",
            docker_archive(&json!(["demo"]), &config(&bare), &[gzip(&other), bare[1].clone()]),
            "image docker.io/library/demo:latest is corrupt: layer sha256:",
        ),
        (
            "a blob of another content",
            tar_of(&swapped),
            "does not match its digest",
        ),
        (
            "a changed configuration",
            tar_of(&wrong_config),
            "does not match its digest",
        ),
        (
            "a layout without a layer",
            without(4),
            "is incomplete: it lacks blobs/sha256/",
        ),
        (
            "a layout without its manifest",
            without(2),
            "is incomplete: it lacks blobs/sha256/",
        ),
        (
            "a layer that is missing",
            manifest_only,
            "is incomplete: it lacks l.tar",
        ),
        (
            "a truncated tar",
            good[..good.len() / 2].to_vec(),
            "is not an image archive: it is truncated",
        ),
        (
            "a truncated gzip",
            gzip(&good)[..100_000].to_vec(),
            "is not an image archive: it is truncated",
        ),
        (
            "not a tar",
            b"#!/bin/sh\necho this is a script\n".repeat(100),
            "is not an image archive: it is not a tar file, or a damaged one",
        ),
        (
            "an empty file",
            Vec::new(),
            "is not an image archive: there is nothing in it",
        ),
        (
            "an empty tar",
            tar(&[]),
            "is not an image archive: there is nothing in it",
        ),
        (
            "a tar of something else",
            other.clone(),
            "it has neither a manifest.json nor a complete index.json",
        ),
        (
            "a truncated zstd",
            zstd(&good)[..100_000].to_vec(),
            "is not an image archive: it is truncated",
        ),
        (
            "a damaged zstd",
            [&zstd(&good)[..13 + 3 + (128 << 10)], &[0xff; 4000]].concat(),
            "is not an image archive: it is damaged",
        ),
        (
            "a whole in xz",
            b"\xfd7zXZ\0\0\x04".to_vec(),
            "is compressed with xz, which is not understood",
        ),
        (
            "a whole in bzip2",
            b"BZh91AY&SY".to_vec(),
            "is compressed with bzip2, which is not understood",
        ),
        (
            "a layer in xz",
            docker_archive(
                &json!(["demo"]),
                &config(&bare[..1]),
                &[b"\xfd7zXZ\0\0\x04".repeat(100)],
            ),
            "its layer layer0/layer.tar is compressed with xz, which is not understood",
        ),
        (
            "no image at all",
            tar(&[("manifest.json", text("[]"))]),
            "holds no image that can be loaded",
        ),
        (
            "a container's files",
            tar(&[
                (".dockerenv", text("")),
                ("etc/hostname", text("x")),
                ("bin/sh", Item::Link("busybox")),
            ]),
            "it is a root file system, as `docker export` writes it, and no image: save the image, with `docker save`",
        ),
        (
            "a layout with its directory",
            tar_of(
                &oci.iter()
                    .map(|(name, bytes)| (format!("out/image/{name}"), bytes.clone()))
                    .collect::<Vec<_>>(),
            ),
            "its image lies in a directory: pack what is in it, with `tar -C out/image -c .`",
        ),
        (
            "skopeo's dir:",
            tar(&[
                ("version", text("Directory Transport Version: 1.1\n")),
                ("manifest.json", Item::File(oci[2].1.clone(), 0o644)),
            ]),
            "its manifest.json is a registry's, as skopeo's `dir:` keeps it",
        ),
        (
            "an archive of a Docker before 1.10",
            tar(&[
                ("repositories", text("{}")),
                ("abc/layer.tar", text("")),
                ("abc/json", text("{}")),
            ]),
            "it was saved by a Docker older than 1.10",
        ),
        (
            "a name that is not one",
            docker_archive(&json!(["Demo"]), &config(&bare), &bare),
            "\"Demo\" is not an image name: the repository must be lower-case",
        ),
        (
            "too few diff ids",
            docker_archive(&json!(["demo"]), &config(&bare[..1]), &bare),
            "is malformed: 2 layers, but 1 diff ids",
        ),
        (
            "a manifest that is not JSON",
            tar(&[("manifest.json", text("{"))]),
            "its manifest.json cannot be parsed",
        ),
        (
            "a layer that is no tar",
            docker_archive(
                &json!(["demo"]),
                &config(&[b"junk".to_vec()]),
                &[b"junk".to_vec()],
            ),
            "image docker.io/library/demo:latest cannot be used: containerd refused Diff/Apply for sha256:",
        ),
    ];
    for (case, bytes, expected) in cases {
        let failed = world.load(&bytes).await.unwrap_err();
        let said = said(&failed);
        assert!(said.contains(expected), "{case}: {said}");
        assert!(!said.contains('\n'), "{case}: {said}");
        assert!(
            said.contains(world.private.scratch().to_str().unwrap()) || said.contains("emo"),
            "{case}: {said}"
        );
        assert_eq!(world.blobs(), Vec::<String>::new(), "{case}");
        assert_eq!(world.snapshots(), Vec::<String>::new(), "{case}");
        world.no_work_is_left(world.leases().await);
    }
    let images = world.store.session.images().list(&world.ctx, &[]).await.unwrap();
    assert_eq!(images, []);
    let absent = world.private.scratch().join("absent.tar");
    let failed = world.store.load(&world.ctx, &absent).await.unwrap_err();
    let expected = format!(
        "cannot read {}: No such file or directory (os error 2)",
        absent.display()
    );
    assert_eq!(said(&failed), expected);
    // The valid archive can be loaded after all the broken ones.
    world.load(&good).await.unwrap();
    assert!(world.find("demo").await.is_some());
}

#[tokio::test]
async fn an_image_without_a_name_is_kept_by_its_digest_until_it_has_one() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let archive = docker_archive(&json!(null), &config(&bare), &bare);
    let loaded = world.loaded(&archive).await.unwrap();
    let [image] = loaded.images.as_slice() else {
        panic!("{loaded:?}")
    };
    let id = hex(&serde_json::to_vec(&config(&bare)).unwrap());
    assert_eq!((image.is_named, image.id.hex()), (false, id.as_str()));
    let unnamed = image.record.clone();
    assert!(unnamed.starts_with("localhost/unnamed@sha256:"), "{unnamed}");
    // The record stays, and loading the image again adds no other one.
    world.collect().await;
    assert_eq!(world.loaded(&archive).await.unwrap(), loaded);
    assert_eq!(world.records().await, [unnamed.as_str()]);
    let found = world.find(&unnamed).await.unwrap();
    assert_eq!(found.config_digest, image.id);
    assert_eq!(world.snapshots().len(), 2);
    // Once the image has a name, the record without a name is not needed and not added again.
    let name = Reference::parse("mine:1").unwrap();
    world.store.tag(&world.ctx, &id[..12], &name).await.unwrap();
    assert_eq!(world.records().await, [name.to_string()]);
    let again = world.loaded(&archive).await.unwrap();
    assert_eq!(
        (again.images[0].is_named, &again.images[0].record),
        (false, &name.to_string())
    );
    assert_eq!(world.records().await, [name.to_string()]);
    // An image that is saved by its id has no name in the archive, and is loaded as the same image.
    let saved = world.save(&id, Format::Docker).await;
    let session = &world.store.session;
    session
        .images()
        .delete(&world.ctx, &name.to_string(), true)
        .await
        .unwrap();
    assert_eq!(world.blobs(), Vec::<String>::new());
    assert_eq!(world.loaded(&saved).await.unwrap(), loaded);
    // A load that gives it a name also removes the record without a name.
    let named = docker_archive(&json!(["mine:2"]), &config(&bare), &bare);
    world.load(&named).await.unwrap();
    assert_eq!(world.records().await, ["docker.io/library/mine:2"]);
    world.no_work_is_left(world.leases().await);
}

#[tokio::test]
async fn a_layout_is_loaded_with_what_has_a_name_and_what_has_none_and_the_rest_is_reported() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let host = config(&bare)["architecture"].as_str().unwrap().to_owned();
    let layout = |layers: &[Vec<u8>]| {
        let packed: Vec<_> = layers.iter().map(|layer| (layer.clone(), "")).collect();
        oci_layout(&config(layers), &packed, |link| link)
    };
    let (one, two) = (layout(&bare[..1]), layout(&bare));
    let link = |files: &[(String, Vec<u8>)]| {
        json!({"mediaType": super::manifest::OCI_MANIFEST,
        "digest": format!("sha256:{}", hex(&files[2].1)), "size": files[2].1.len()})
    };
    let chart = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    let artifact = serde_json::to_vec(&json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": format!("sha256:{}", hex(b"c")), "size": 1},
        "layers": [{"mediaType": chart, "digest": format!("sha256:{}", hex(b"l")), "size": 1}]})).unwrap();
    let artifact_link = named(
        json!({"mediaType": super::manifest::OCI_MANIFEST, "size": artifact.len(),
        "digest": format!("sha256:{}", hex(&artifact))}),
        "chart:1",
    );
    let mut other = link(&one);
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let absent = json!({"mediaType": super::manifest::OCI_MANIFEST, "size": 9, "digest": format!("sha256:{}", "0".repeat(64))});
    let archive = |links: &[serde_json::Value], named_here: bool| {
        let mut files: std::collections::BTreeMap<String, Vec<u8>> =
            [one.clone(), two.clone()].concat().into_iter().collect();
        files.insert(format!("blobs/sha256/{}", hex(&artifact)), artifact.clone());
        files.insert(
            "index.json".into(),
            serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": links})).unwrap(),
        );
        if named_here {
            let manifest = json!([{"Config": two[3].0, "RepoTags": ["by/docker:1"], "Layers": []}]);
            files.insert("manifest.json".into(), manifest.to_string().into_bytes());
        }
        tar_of(&files.into_iter().collect::<Vec<_>>())
    };
    let links = [
        named(link(&one), "first:1"),
        link(&two),
        artifact_link.clone(),
        other.clone(),
        absent.clone(),
    ];
    let loaded = world.loaded(&archive(&links, false)).await.unwrap();
    let records: Vec<_> = loaded
        .images
        .iter()
        .map(|image| (image.is_named, image.record.as_str()))
        .collect();
    let unnamed = format!("localhost/unnamed@sha256:{}", hex(&two[2].1));
    assert_eq!(
        records,
        [(true, "docker.io/library/first:1"), (false, unnamed.as_str())]
    );
    let told: Vec<_> = loaded.passed_over.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            format!("sha256:{}: it is for linux/s390x", hex(&one[2].1)),
            format!("docker.io/library/chart:1: it is no image, but has {chart}"),
            format!(
                "sha256:{0}: the archive lacks its blobs/sha256/{0}",
                "0".repeat(64)
            ),
        ]
    );
    assert!(world.find("first:1").await.is_some() && world.find(&unnamed).await.is_some());
    // Docker's manifest in the same archive may contain the name.
    let names = world.loaded(&archive(&[link(&two)], true)).await.unwrap().images;
    assert_eq!(
        (names[0].is_named, names[0].record.as_str()),
        (true, "docker.io/by/docker:1")
    );
    // A name with several platforms refers to the image for this machine.
    let mut here = link(&two);
    here["platform"] = json!({"os": "linux", "architecture": host});
    for order in [[here.clone(), other.clone()], [other.clone(), here]] {
        let loaded = world
            .loaded(&archive(&order.map(|link| named(link, "both:1")), false))
            .await
            .unwrap();
        assert_eq!((loaded.images.len(), loaded.passed_over.len()), (1, 1));
        assert_eq!(
            world.find("both:1").await.unwrap().target.digest.hex(),
            hex(&two[2].1)
        );
    }
    // The archive contains no image at all.
    let before = world.blobs();
    let why = world
        .loaded(&archive(&[artifact_link, absent], false))
        .await
        .unwrap_err();
    let said = said(&why);
    assert!(
        said.contains(
            "holds no image that can be loaded: docker.io/library/chart:1: it is no image, but has "
        ),
        "{said}"
    );
    assert!(said.contains("; sha256:0000"), "{said}");
    let mut lying = link(&one);
    lying["annotations"] = json!({"io.containerd.image.name": format!("r.io/a@sha256:{}", "1".repeat(64))});
    let why = world.loaded(&archive(&[lying], false)).await.unwrap_err();
    assert!(
        why.to_string().contains("it gives the name r.io/a@sha256:1111"),
        "{why}"
    );
    assert_eq!(world.blobs(), before);
    world.no_work_is_left(world.leases().await);
}

#[tokio::test]
async fn a_layer_is_unpacked_by_its_first_bytes_whatever_it_is_called() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    for (called, lower, upper) in [
        ("", gzip(&bare[0]), zstd(&bare[1])),
        ("+gzip", zstd(&bare[0]), bare[1].clone()),
        ("+zstd", bare[0].clone(), gzip(&bare[1])),
    ] {
        let files = oci_layout(&config(&bare), &[(lower, called), (upper, called)], |link| {
            named(link, "odd")
        });
        world
            .load(&tar_of(&files))
            .await
            .unwrap_or_else(|why| panic!("{called:?}: {why:?}"));
        let image = world.find("odd").await.unwrap();
        assert_eq!(
            world.store.facts(&world.ctx, &image).await.unwrap().group,
            Ok("fn:x:1000:\n".to_owned())
        );
        // Removed, so that the next image cannot use the snapshots of this one.
        world
            .store
            .session
            .images()
            .delete(&world.ctx, &image.name, true)
            .await
            .unwrap();
        world.store.forget(&image);
        assert_eq!(world.snapshots(), Vec::<String>::new());
    }
    let xz = b"\xfd7zXZ\0\0\x04".repeat(100);
    let files = oci_layout(&config(&bare[..1]), &[(xz, "")], |link| named(link, "odd"));
    let said = said(&world.load(&tar_of(&files)).await.unwrap_err());
    assert!(
        said.ends_with("is compressed with xz, which containerd does not unpack"),
        "{said}"
    );
}

#[tokio::test]
async fn a_wrong_size_is_reported_with_both_numbers() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let good = || {
        oci_layout(&config(&bare[..1]), &[(bare[0].clone(), "")], |link| {
            named(link, "sizes")
        })
    };
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut files = good();
        let mut manifest: serde_json::Value = serde_json::from_slice(&files[2].1).unwrap();
        change(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        files[2] = (format!("blobs/sha256/{}", hex(&bytes)), bytes.clone());
        let link = named(
            json!({"mediaType": super::manifest::OCI_MANIFEST, "size": bytes.len(),
            "digest": format!("sha256:{}", hex(&bytes))}),
            "sizes",
        );
        files[1].1 = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [link]})).unwrap();
        files
    };
    let (manifest, config, layer) = (good()[2].clone(), good()[3].clone(), good()[4].clone());
    let mut index = good();
    index[1].1 = String::from_utf8(index[1].1.clone())
        .unwrap()
        .replace(&format!("\"size\":{}", manifest.1.len()), "\"size\":7")
        .into_bytes();
    for (files, part) in [
        (changed(&|manifest| manifest["config"]["size"] = json!(7)), config),
        (
            changed(&|manifest| manifest["layers"][0]["size"] = json!(7)),
            layer,
        ),
        (index, manifest),
    ] {
        let why = world.load(&tar_of(&files)).await.unwrap_err().to_string();
        let expected = format!(
            "is malformed: it lists {} with 7 bytes, but the content has {}",
            part.0,
            part.1.len()
        );
        assert!(why.ends_with(&expected), "{why}");
        assert_eq!(world.blobs(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_docker_archive_has_bare_tars_in_place_of_layers_with_zstd() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let packed = [(gzip(&bare[0]), "+gzip"), (zstd(&bare[1]), "+zstd")];
    let files = oci_layout(&config(&bare), &packed, |link| named(link, "z:1"));
    world.load(&tar_of(&files)).await.unwrap();
    let image = world.find("z:1").await.unwrap();
    let entries = |archive: &[u8]| -> std::collections::BTreeMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        };
        tar.entries().unwrap().map(read).collect()
    };
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let saved = world.save("z:1", Format::Docker).await;
    let docker = entries(&saved);
    let listed: serde_json::Value = serde_json::from_slice(&docker["manifest.json"]).unwrap();
    assert_eq!(listed[0]["Layers"], json!([blob(&packed[0].0), blob(&bare[1])]));
    assert_eq!(
        listed[0]["Config"],
        json!(format!("blobs/sha256/{}", image.config_digest.hex()))
    );
    // Unchanged where possible, uncompressed where necessary, and nothing is contained twice.
    assert_eq!(docker[&blob(&packed[0].0)], packed[0].0);
    assert_eq!(docker[&blob(&bare[1])], bare[1]);
    assert!(
        !docker.contains_key(&blob(&packed[1].0)) && docker.len() == 7,
        "{:?}",
        docker.keys()
    );
    // The manifest in the layout lists the same layers.
    let index: serde_json::Value = serde_json::from_slice(&docker["index.json"]).unwrap();
    let made = index["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "blobs/sha256/");
    let made: serde_json::Value = serde_json::from_slice(&docker[&made]).unwrap();
    assert_eq!(made["layers"][1]["mediaType"], super::manifest::OCI_LAYER);
    assert_eq!(made["layers"][1]["size"], bare[1].len());
    // In the OCI format the blobs are as they came from the registry.
    let oci = entries(&world.save("z:1", Format::Oci).await);
    assert_eq!(oci[&blob(&packed[1].0)], packed[1].0);
    assert!(oci.contains_key(&format!("blobs/sha256/{}", image.target.digest.hex())));
    // When the archive is loaded, the result is the same image.
    world
        .store
        .session
        .images()
        .delete(&world.ctx, &image.name, true)
        .await
        .unwrap();
    world.store.forget(&image);
    assert_eq!(world.load(&saved).await.unwrap(), ["docker.io/library/z:1"]);
    let again = world.find("z:1").await.unwrap();
    assert_eq!(
        (again.config_digest, again.chain_id),
        (image.config_digest, image.chain_id)
    );
    assert_ne!(again.target.digest, image.target.digest);
}

#[tokio::test]
async fn an_image_for_other_machines_is_refused_by_name() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let files = oci_layout(
        &config(&bare),
        &[(bare[0].clone(), ""), (bare[1].clone(), "")],
        |link| link,
    );
    let manifest = &files[2];
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": super::manifest::OCI_MANIFEST,
        "digest": format!("sha256:{}", hex(&manifest.1)), "size": manifest.1.len(),
        "platform": {"os": "linux", "architecture": "s390x"}}]});
    let index = serde_json::to_vec(&index).unwrap();
    let top = named(
        json!({"mediaType": super::manifest::OCI_INDEX, "size": index.len(), "digest": format!("sha256:{}", hex(&index))}),
        "big",
    );
    let mut all = files.clone();
    all[1].1 = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [top]})).unwrap();
    all.push((format!("blobs/sha256/{}", hex(&index)), index));
    let failed = world.load(&tar_of(&all)).await.unwrap_err();
    let wanted = format!("linux/{}", config(&bare)["architecture"].as_str().unwrap());
    assert_eq!(
        failed.to_string(),
        format!("image docker.io/library/big:latest has no variant for {wanted}, only for linux/s390x")
    );
    assert_eq!(world.blobs(), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_load_reports_that_and_leaves_nothing() {
    let Some(world) = World::start().await else { return };
    let bare = layers();
    let path = world.file(
        "image.tar",
        &docker_archive(&json!(["demo"]), &config(&bare), &bare),
    );
    let ctx = Context::new();
    ctx.cancel();
    let failed = world.store.load(&ctx, &path).await.unwrap_err();
    assert_eq!(failed.interrupted(), Some(Interrupted::Cancelled), "{failed:?}");
    // Cancelled at different moments: the image is either loaded completely or not at all.
    for after in [1, 3, 6, 12, 25] {
        let ctx = Context::new();
        let (load, cancel) = (world.store.load(&ctx, &path), async {
            tokio::time::sleep(std::time::Duration::from_millis(after)).await;
            ctx.cancel();
        });
        match tokio::join!(load, cancel).0 {
            Ok(loaded) => assert_eq!(loaded.images[0].record, "docker.io/library/demo:latest"),
            Err(failed) => {
                assert_eq!(failed.interrupted(), Some(Interrupted::Cancelled), "{failed:?}");
                assert_eq!(world.blobs(), Vec::<String>::new());
                assert_eq!(world.snapshots(), Vec::<String>::new());
            }
        }
        world.no_work_is_left(world.leases().await);
        let images = world.store.session.images();
        drop(
            images
                .delete(&world.ctx, "docker.io/library/demo:latest", true)
                .await,
        );
    }
}

/// Checked by the compiler: the futures can be spawned as tracked tasks.
#[expect(dead_code, reason = "it only has to compile")]
fn the_work_can_run_on_a_task(store: &ImageStore, ctx: &Context, image: &Image, lookup: &Lookup) {
    fn spawnable(_: impl Future + Send) {}
    let reference = Reference::parse("x").unwrap();
    spawnable(store.find(ctx, &reference));
    spawnable(store.load(ctx, Path::new("x")));
    spawnable(store.facts(ctx, image));
    spawnable(store.executable(ctx, image, lookup));
    spawnable(store.session.events().tasks(ctx));
}
