//! `images`: the list of images, filtered and formatted as in docker.

use std::process::ExitCode;

use super::Invocation;
use super::args::images::ImagesArgs;
use super::connect::with;
use super::failure::Failure;
use super::filter::Filters;
use super::images::created;
use super::output::{Print, columns, fitted, line, plain, size};
use super::template::{Fields, Template};
use crate::Context;
use crate::engine::{Reference, StoredImage, refers};

/// The number of digits of an id that are shown in a table.
const SHORT: usize = 12;

/// The fields of a template, by docker's names, and their column headings.
const FIELDS: [(&str, &str); 7] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "ID"),
    ("Digest", "DIGEST"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Name", "IMAGE"),
];

/// The keys by which a list of images can be filtered.
const KEYS: [&str; 3] = ["reference", "label", "dangling"];

/// Lists images.
pub(super) async fn list(
    invocation: Invocation<'_>,
    args: ImagesArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let filters = Filters::parse(&args.filter, &KEYS).map_err(Failure::usage)?;
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let template = args.format.as_deref().map(|text| Template::parse(text, &names));
    let template = template.transpose().map_err(Failure::usage)?;
    let stored = with(invocation, async |engine| {
        Ok(engine.stored_images(&Context::new()).await?)
    })
    .await?;
    // A row for each name, and one row for an image without a name.
    let each = |image| names_of(image).into_iter().map(move |name| (image, name));
    let rows = stored.images.iter().flat_map(each);
    let rows: Vec<_> = rows
        .filter(|(image, name)| wanted(&filters, image, *name))
        .collect();
    if args.quiet {
        let mut ids: Vec<_> = rows.iter().map(|(image, _)| id(image, args.no_trunc)).collect();
        ids.dedup();
        ids.iter().for_each(|id| line(id));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(template) = template {
        let fields: Vec<_> = rows
            .iter()
            .map(|(image, name)| fields(image, *name, args.no_trunc))
            .collect();
        let text = template.render(&fields, &FIELDS.into_iter().collect());
        text.iter().for_each(|text| line(text));
        return Ok(ExitCode::SUCCESS);
    }
    if print.is_json() {
        for (image, name) in rows {
            print.json(&serde_json::json!({
                "image": name,
                "digest": digest(image),
                "id": image.id().map(|id| id.as_str()),
                "created": created(image),
                "size": image.contents.footprint.unpacked(),
                "content_size": image.contents.footprint.content(),
                "complete": image.contents.missing.is_none(),
            }));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let row = |(image, name): &(&StoredImage, Option<&str>)| {
        let created = created(image).unwrap_or_default();
        let date = created.split('T').next().unwrap_or_default();
        let unpacked = size(image.contents.footprint.unpacked());
        vec![
            plain(&name.map_or_else(|| NONE.to_owned(), |name| familiar(name, args.no_trunc))),
            id(image, args.no_trunc),
            plain(date),
            unpacked,
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let width = columns().filter(|_| !args.no_trunc);
    line(&fitted(
        &["IMAGE", "ID", "CREATED", "SIZE"],
        &rows,
        &["CREATED", "SIZE"],
        width,
    ));
    Ok(ExitCode::SUCCESS)
}

/// The name as a person types it; in full on request.
fn familiar(name: &str, whole: bool) -> String {
    let reference = Reference::parse(name).ok().filter(|_| !whole);
    reference.map_or_else(|| name.to_owned(), |reference| reference.familiar())
}

/// Shown as the name of an image without a name.
const NONE: &str = "<none>";

fn names_of(image: &StoredImage) -> Vec<Option<&str>> {
    let names = image.names.iter().map(StoredImage::called);
    names.collect()
}

fn digest(image: &StoredImage) -> Option<&str> {
    image.names.first().map(|record| record.target.digest.as_str())
}

fn wanted(filters: &Filters, image: &StoredImage, name: Option<&str>) -> bool {
    let settings = image
        .contents
        .manifest
        .as_ref()
        .and_then(|found| found.settings.as_ref());
    let none = std::collections::BTreeMap::new();
    let labels = settings.map_or(&none, |settings| &settings.labels);
    filters.labels(labels)
        && filters.any("reference", |pattern| {
            name.is_some_and(|name| refers(pattern, name))
        })
        && filters.any("dangling", |value| {
            name.is_none() == matches!(value, "true" | "1")
        })
}

fn fields(image: &StoredImage, name: Option<&str>, whole: bool) -> Fields {
    let reference = name.and_then(|name| Reference::parse(name).ok());
    let tag = reference.as_ref().and_then(Reference::tag).unwrap_or(NONE);
    let familiar = reference.as_ref().map(Reference::familiar);
    let repository = familiar.as_deref().map_or(NONE, |familiar| {
        let digest = familiar.split_once('@').map(|(bare, _)| bare);
        let bare = digest.or_else(|| familiar.strip_suffix(tag)?.strip_suffix(':'));
        bare.unwrap_or(familiar)
    });
    let settings = image
        .contents
        .manifest
        .as_ref()
        .and_then(|found| found.settings.as_ref());
    Fields {
        values: [
            ("Repository", repository.to_owned()),
            ("Tag", tag.to_owned()),
            ("ID", id(image, whole)),
            ("Digest", digest(image).unwrap_or(NONE).to_owned()),
            ("CreatedAt", created(image).unwrap_or_default().to_owned()),
            ("Size", size(image.contents.footprint.unpacked())),
            ("Name", name.unwrap_or(NONE).to_owned()),
        ]
        .into(),
        labels: settings
            .map(|settings| settings.labels.clone())
            .unwrap_or_default(),
    }
}

fn id(image: &StoredImage, whole: bool) -> String {
    match image.id() {
        None => "unknown".to_owned(),
        Some(id) if whole => id.to_string(),
        Some(id) => id.hex().chars().take(SHORT).collect(),
    }
}
