//! Lists and shows images.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::docker_api::answer::Answer;
use crate::docker_api::containers::Front;
use crate::docker_api::door::Door;
use crate::docker_api::filters::Filters;
use crate::docker_api::image_names::found;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::docker_api::time::{NEVER, moment, moment_or_age, unix_seconds};
use crate::docker_api::version::ApiVersion;
use crate::engine::{Reference, StoredImage, StoredImages, refers};

const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// `GET /images/json`.
pub(in crate::docker_api) async fn list(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &FILTERS)?;
    let stored = door.engine.stored_images(&request.client).await?;
    let age = Age::of(&filters, &stored)?;
    let users = users(door);
    let mut entries = Vec::new();
    for image in &stored.images {
        let labels = labels(image);
        let is_dangling = names(image).next().is_none();
        let dangling = |wanted: &str| is_dangling != ["0", "false"].contains(&wanted);
        let tags: Vec<String> = names(image)
            .filter(|reference| filters.any("reference", |pattern| refers(pattern, &reference.to_string())))
            .map(|reference| reference.familiar())
            .collect();
        let is_referred = filters.values("reference").is_empty() || !tags.is_empty();
        if is_referred && filters.any("dangling", dangling) && filters.labels(&labels) && age.has(image) {
            entries.push((
                created(image),
                entry(image, &tags, &labels, &users, request.version),
            ));
        }
    }
    entries.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Answer::ok(&entries))
}

/// Which images are wanted by when they were made.
struct Age {
    /// Only those that were made before this.
    before: Option<SystemTime>,
    /// Only those that were made after this.
    since: Option<SystemTime>,
}

impl Age {
    /// Images are named by `before` and `since`; of several values, all must be kept.
    fn of(filters: &Filters, stored: &StoredImages) -> Result<Self, Refused> {
        let of_image = |name: &String| Ok(made(found(stored, name)?.0));
        let of_time = |text: &String| {
            moment_or_age(text).ok_or_else(|| {
                Refused::bad(format!(
                    "invalid filter 'until={text}': give a duration before now, seconds since 1970, or a time in UTC"
                ))
            })
        };
        let before = filters.values("before").iter().map(of_image);
        let until = filters.values("until").iter().map(of_time);
        let before: Vec<_> = before.chain(until).collect::<Result<_, Refused>>()?;
        let since = filters.values("since").iter().map(of_image);
        let since: Vec<_> = since.collect::<Result<_, Refused>>()?;
        Ok(Self {
            before: before.into_iter().min(),
            since: since.into_iter().max(),
        })
    }

    fn has(&self, image: &StoredImage) -> bool {
        let made = made(image);
        self.before.is_none_or(|before| made < before) && self.since.is_none_or(|since| made > since)
    }
}

fn entry(
    image: &StoredImage,
    tags: &[String],
    labels: &BTreeMap<String, String>,
    users: &BTreeMap<String, usize>,
    version: ApiVersion,
) -> Value {
    let id = id(image);
    let count = users.get(&id).copied().unwrap_or_default();
    let size = image.contents.footprint.unpacked();
    let mut entry = json!({
        "Containers": if version >= ApiVersion::new(1, 51) { json!(count) } else { json!(-1) },
        "Created": created(image), "Id": id, "Labels": if labels.is_empty() { Value::Null } else { json!(labels) },
        "ParentId": "", "RepoDigests": digests(image), "RepoTags": tags, "SharedSize": -1, "Size": size,
    });
    if let Some(entry) = entry.as_object_mut() {
        if version < ApiVersion::new(1, 44) {
            entry.insert("VirtualSize".to_owned(), json!(size));
        }
        if version < ApiVersion::new(1, 43) && tags.is_empty() {
            entry.insert("RepoTags".to_owned(), json!(["<none>:<none>"]));
            entry.insert("RepoDigests".to_owned(), json!(["<none>@<none>"]));
        }
    }
    entry
}

/// `GET /images/{name}/json`.
pub(in crate::docker_api) async fn inspect(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let stored = door.engine.stored_images(&door.life).await?;
    let (image, _) = found(&stored, given)?;
    let settings = image
        .contents
        .manifest
        .as_ref()
        .and_then(|found| found.settings.clone())
        .unwrap_or_default();
    let layers: Vec<String> = image
        .contents
        .manifest
        .iter()
        .flat_map(|found| &found.diff_ids)
        .map(ToString::to_string)
        .collect();
    let set = |names: &[String]| -> Value {
        match names.is_empty() {
            true => Value::Null,
            false => names
                .iter()
                .map(|name| (name.clone(), json!({})))
                .collect::<Map<_, _>>()
                .into(),
        }
    };
    let words = |words: &[String]| {
        if words.is_empty() {
            Value::Null
        } else {
            json!(words)
        }
    };
    let tags: Vec<String> = names(image).map(|reference| reference.familiar()).collect();
    let mut shown = json!({
        "Id": id(image), "RepoTags": tags, "RepoDigests": digests(image), "Parent": "", "Comment": "",
        "Created": settings.created.as_deref().unwrap_or(NEVER), "DockerVersion": "", "Author": "",
        "Config": {
            "User": settings.user.unwrap_or_default(), "Env": settings.env, "Cmd": words(&settings.cmd),
            "Entrypoint": words(&settings.entrypoint), "WorkingDir": settings.working_dir.unwrap_or_default(),
            "Volumes": set(&settings.volumes), "OnBuild": null,
            "Labels": if settings.labels.is_empty() { Value::Null } else { json!(settings.labels) },
        },
        "Architecture": settings.architecture, "Os": settings.os,
        "Size": image.contents.footprint.unpacked(),
        "GraphDriver": { "Data": null, "Name": "overlayfs" },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": NEVER },
    });
    // Docker leaves these out when they are empty.
    if let Some(variant) = settings.variant.filter(|variant| !variant.is_empty()) {
        shown["Variant"] = json!(variant);
    }
    if !settings.exposed_ports.is_empty() {
        shown["Config"]["ExposedPorts"] = set(&settings.exposed_ports);
    }
    if let Some(signal) = settings.stop_signal.filter(|signal| !signal.is_empty()) {
        shown["Config"]["StopSignal"] = json!(signal);
    }
    Ok(Answer::ok(&shown))
}

/// `GET /images/{name}/history`: one entry for each layer, newest first.
pub(in crate::docker_api) async fn history(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let stored = door.engine.stored_images(&door.life).await?;
    let (image, _) = found(&stored, given)?;
    let layers: Vec<u64> = image
        .contents
        .manifest
        .iter()
        .flat_map(|found| &found.layers)
        .map(|layer| layer.size)
        .collect();
    let tags: Vec<String> = names(image).map(|reference| reference.familiar()).collect();
    let count = layers.len();
    let entries = layers.iter().enumerate().rev().map(|(at, size)| {
        let is_newest = at + 1 == count;
        json!({
            "Comment": "", "Created": created(image), "CreatedBy": "",
            "Id": if is_newest { id(image) } else { "<missing>".to_owned() },
            "Size": size, "Tags": if is_newest { json!(tags) } else { Value::Null },
        })
    });
    let entries: Vec<_> = entries.collect();
    Ok(Answer::ok(&entries))
}

/// How many containers of this API each image has.
fn users(door: &Door) -> BTreeMap<String, usize> {
    let mut users = BTreeMap::new();
    for served in door.server.containers() {
        if let Some(front) = Front::of(&served) {
            *users.entry(front.image_id().to_owned()).or_default() += 1;
        }
    }
    users
}

/// The names of an image.
pub(super) fn names(image: &StoredImage) -> impl Iterator<Item = Reference> {
    let called = image.names.iter().filter_map(StoredImage::called);
    called
        .filter_map(|name| Reference::parse(name).ok())
        .filter(|reference| reference.tag().is_some())
}

/// The id of an image; that of its manifest, if its configuration is missing.
pub(super) fn id(image: &StoredImage) -> String {
    let target = || image.names.first().map(|record| record.target.digest.to_string());
    image
        .id()
        .map(ToString::to_string)
        .or_else(target)
        .unwrap_or_default()
}

/// `REPOSITORY@DIGEST`, one for each repository.
fn digests(image: &StoredImage) -> Vec<String> {
    let mut digests: Vec<String> = image
        .names
        .iter()
        .filter_map(|record| {
            let name = Reference::parse(StoredImage::called(record)?).ok()?;
            let familiar = name.familiar();
            let end = familiar.rfind(['@']).or_else(|| {
                familiar
                    .rfind(':')
                    .filter(|at| !familiar.get(*at..).unwrap_or_default().contains('/'))
            });
            let repository = familiar.get(..end?)?.to_owned();
            Some(format!("{repository}@{}", record.target.digest))
        })
        .collect();
    digests.sort();
    digests.dedup();
    digests
}

fn labels(image: &StoredImage) -> BTreeMap<String, String> {
    let settings = image
        .contents
        .manifest
        .as_ref()
        .and_then(|found| found.settings.as_ref());
    settings
        .map(|settings| settings.labels.clone())
        .unwrap_or_default()
}

/// When an image was made, in seconds since 1970.
fn created(image: &StoredImage) -> u64 {
    unix_seconds(made(image))
}

/// When an image was made; 1970 if it does not say.
fn made(image: &StoredImage) -> SystemTime {
    let settings = image
        .contents
        .manifest
        .as_ref()
        .and_then(|found| found.settings.as_ref());
    let at = settings.and_then(|settings| moment(settings.created.as_deref()?));
    at.unwrap_or(UNIX_EPOCH)
}
