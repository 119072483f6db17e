//! `load`, `tag`, `rmi`, `image inspect` and `image prune`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::Invocation;
use super::args::images::RmiArgs;
use super::confirm::confirm;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, line, note, plain, size};
use super::save::Spooled;
use crate::Context;
use crate::engine::{Reference, Removed, StoredImage, StoredImages};

/// Loads the images of an archive.
pub(super) async fn load(
    invocation: Invocation<'_>,
    file: &Path,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let spooled = if file == Path::new("-") {
        Some(Spooled::stdin(invocation).await?)
    } else {
        None
    };
    let file = spooled.as_ref().map_or_else(|| file.to_owned(), Spooled::file);
    let loaded = with(invocation, async |engine| {
        Ok(engine.load(&Context::new(), &file).await?)
    })
    .await?;
    for image in &loaded.images {
        let (name, id) = (image.is_named.then_some(image.record.as_str()), image.id.as_str());
        print.result(
            &serde_json::json!({ "image": name, "id": id, "loaded": true }),
            || format!("loaded {}", name.unwrap_or(id)),
        );
    }
    for passed_over in &loaded.passed_over {
        if print.is_json() {
            let (what, why) = (&passed_over.what, &passed_over.why);
            print.json(&serde_json::json!({ "passed_over": what, "why": why }));
        } else {
            note(&format!("fnctr: not loaded: {}", plain(&passed_over.to_string())));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives an image another name.
pub(super) async fn tag(
    invocation: Invocation<'_>,
    source: &str,
    name: &str,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let name = Reference::parse(name).map_err(|why| Failure::usage(crate::chain(&why)))?;
    if name.digest().is_some() {
        let sentence = format!("{name} has a digest, which is not a name to give; give a tag");
        return Err(Failure::usage(sentence));
    }
    with(invocation, async |engine| {
        Ok(engine.tag(&Context::new(), source, &name).await?)
    })
    .await?;
    let name = name.to_string();
    print.result(&serde_json::json!({ "image": name, "tagged": true }), || {
        name.clone()
    });
    Ok(ExitCode::SUCCESS)
}

/// Removes names of images. A name that cannot be removed is reported, and the others are still removed.
pub(super) async fn remove(
    invocation: Invocation<'_>,
    args: &RmiArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let failures = with(invocation, async |engine| {
        let mut failures = Vec::new();
        for image in &args.images {
            match engine.remove_image(&Context::new(), image, args.force).await {
                Ok(removed) => report_removed(&removed, print),
                Err(error) => failures.push(Failure::from(error)),
            }
        }
        Ok(failures)
    })
    .await?;
    for failure in &failures {
        print.failure(failure);
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Removes images that no container uses: those without a name, or all of them.
pub(super) async fn prune(
    invocation: Invocation<'_>,
    all: bool,
    force: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    if !force {
        let which = if all { "" } else { " and that have no name" };
        let question = format!("fnctr: remove all images that no container uses{which}?");
        confirm(invocation, question).await?;
    }
    let removed = with(invocation, async |engine| {
        Ok(engine.prune_images(&Context::new(), all).await?)
    })
    .await?;
    report_removed(&removed, print);
    if !print.is_json() {
        line(&format!("freed {}", size(removed.freed)));
    }
    Ok(ExitCode::SUCCESS)
}

fn report_removed(removed: &Removed, print: &Print) {
    let ids: Vec<_> = removed.ids.iter().map(|id| id.as_str()).collect();
    if print.is_json() {
        let kept = removed.kept.as_ref();
        let kept = kept.map(|kept| serde_json::json!({ "bytes": kept.bytes, "by": kept.by }));
        print.json(&serde_json::json!({
            "untagged": removed.names,
            "deleted": ids,
            "freed": removed.freed,
            "kept": kept,
        }));
        return;
    }
    for name in &removed.names {
        line(&format!("untagged {}", plain(name)));
    }
    for id in ids {
        line(&format!("deleted {id}"));
    }
    if let Some(kept) = &removed.kept {
        let by = if kept.by.is_empty() {
            "containerd still holds it".to_owned()
        } else {
            format!("kept by {}", plain(&kept.by.join(", ")))
        };
        note(&format!("fnctr: {} is not freed yet: {by}", size(kept.bytes)));
    }
}

/// An image in `image inspect`.
#[derive(Debug, Serialize)]
struct Inspected<'a> {
    id: Option<&'a str>,
    names: Vec<&'a str>,
    /// The digest that the names refer to.
    digest: Option<&'a str>,
    manifest: Option<&'a str>,
    created: Option<&'a str>,
    platform: Option<String>,
    /// The unpacked size in bytes.
    size: u64,
    /// The size in the content store in bytes.
    content_size: u64,
    /// The bytes that the removal of the image would free.
    frees: u64,
    /// The first part of the image that is missing on this host.
    missing: Option<&'a str>,
    layers: Vec<&'a str>,
    config: Option<Settings<'a>>,
}

/// The settings that an image has for its containers.
#[derive(Debug, Serialize)]
struct Settings<'a> {
    entrypoint: &'a [String],
    cmd: &'a [String],
    env: &'a [String],
    working_dir: Option<&'a str>,
    user: Option<&'a str>,
    volumes: &'a [String],
    exposed_ports: &'a [String],
    stop_signal: Option<&'a str>,
    labels: &'a std::collections::BTreeMap<String, String>,
}

/// Prints everything that is known about images.
pub(super) async fn inspect(
    invocation: Invocation<'_>,
    images: &[String],
    print: &Print,
) -> Result<ExitCode, Failure> {
    let stored = with(invocation, async |engine| {
        Ok(engine.stored_images(&Context::new()).await?)
    })
    .await?;
    let mut inspected = Vec::new();
    for text in images {
        let (image, _) = stored.find(text).map_err(|why| Failure::missing(&why))?;
        inspected.push(inspected_of(&stored, image));
    }
    if print.is_json() {
        inspected.iter().for_each(|image| print.json(image));
        return Ok(ExitCode::SUCCESS);
    }
    match serde_json::to_string_pretty(&inspected) {
        Ok(json) => line(&json),
        Err(why) => return Err(Failure::host(&why)),
    }
    Ok(ExitCode::SUCCESS)
}

fn inspected_of<'a>(stored: &StoredImages, image: &'a StoredImage) -> Inspected<'a> {
    let contents = &image.contents;
    let found = contents.manifest.as_ref();
    let settings = found.and_then(|found| found.settings.as_ref());
    Inspected {
        id: image.id().map(|id| id.as_str()),
        names: image.names.iter().map(|record| record.name.as_str()).collect(),
        digest: image.names.first().map(|record| record.target.digest.as_str()),
        manifest: found.map(|found| found.manifest.digest.as_str()),
        created: created(image),
        platform: settings.map(|settings| {
            let variant = settings.variant.as_ref().map(|variant| format!("/{variant}"));
            format!(
                "{}/{}{}",
                settings.os,
                settings.architecture,
                variant.unwrap_or_default()
            )
        }),
        size: contents.footprint.unpacked(),
        content_size: contents.footprint.content(),
        frees: stored.frees(image),
        missing: contents.missing.as_ref().map(|digest| digest.as_str()),
        layers: found.map_or_else(Vec::new, |found| {
            found.layers.iter().map(|layer| layer.digest.as_str()).collect()
        }),
        config: settings.map(|settings| Settings {
            entrypoint: &settings.entrypoint,
            cmd: &settings.cmd,
            env: &settings.env,
            working_dir: settings.working_dir.as_deref(),
            user: settings.user.as_deref(),
            volumes: &settings.volumes,
            exposed_ports: &settings.exposed_ports,
            stop_signal: settings.stop_signal.as_deref(),
            labels: &settings.labels,
        }),
    }
}

pub(super) fn created(image: &StoredImage) -> Option<&str> {
    image
        .contents
        .manifest
        .as_ref()?
        .settings
        .as_ref()?
        .created
        .as_deref()
}
