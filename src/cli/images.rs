//! `load`, `tag`, `rmi`, `images`, `image inspect` and `image prune`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::At;
use super::confirm::confirm;
use super::connect::with;
use super::failure::Failure;
use super::filter::Filters;
use super::output::{Print, line, note, plain, table};
use super::save::Spooled;
use super::template::{Fields, Template};
use crate::Context;
use crate::engine::{Reference, Removed, Shelf, Shelved};

/// How much of an id is shown in a table.
const SHORT: usize = 12;

/// Loads an archive.
pub(super) async fn load(at: At<'_>, file: &Path, print: &Print) -> Result<ExitCode, Failure> {
    let spooled = if file == Path::new("-") {
        Some(Spooled::stdin(at).await?)
    } else {
        None
    };
    let file = spooled.as_ref().map_or_else(|| file.to_owned(), Spooled::file);
    let names = with(at, async |driver| Ok(driver.load(&Context::new(), &file).await?)).await?;
    for name in names {
        print.result(&serde_json::json!({ "image": name, "loaded": true }), || {
            format!("loaded {name}")
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives an image another name.
pub(super) async fn tag(at: At<'_>, source: &str, name: &str, print: &Print) -> Result<ExitCode, Failure> {
    let name = with(at, async |driver| {
        Ok(driver.tag(&Context::new(), source, name).await?)
    })
    .await?;
    print.result(&serde_json::json!({ "image": name, "tagged": true }), || {
        name.clone()
    });
    Ok(ExitCode::SUCCESS)
}

/// Removes names. One that cannot be removed does not keep the others.
pub(super) async fn remove(
    at: At<'_>,
    images: &[String],
    force: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let failures = with(at, async |driver| {
        let mut failures = Vec::new();
        for image in images {
            match driver.remove_image(&Context::new(), image, force).await {
                Ok(removed) => told(&removed, print),
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

/// Removes what no container uses: what has no name, or all of it.
pub(super) async fn prune(at: At<'_>, all: bool, force: bool, print: &Print) -> Result<ExitCode, Failure> {
    if !force {
        let which = if all { "" } else { " and that have no name" };
        let question = format!("fnctr: remove all images that no container uses{which}?");
        let asked = at.interrupt.ctx().run(confirm(question)).await;
        asked.unwrap_or_else(|_| Err(Failure::interrupted()))?;
    }
    let removed = with(at, async |driver| {
        Ok(driver.prune_images(&Context::new()).await?)
    })
    .await?;
    told(&removed, print);
    if !print.is_json() {
        line(&format!("freed {}", size(removed.freed)));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(removed: &Removed, print: &Print) {
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
            "containerd has not let go of it".to_owned()
        } else {
            format!("kept by {}", plain(&kept.by.join(", ")))
        };
        note(&format!("fnctr: {} is not freed yet: {by}", size(kept.bytes)));
    }
}

/// What `images` is told.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ImagesArgs {
    /// Print ids alone
    #[arg(long, short, conflicts_with = "format")]
    quiet: bool,
    /// Only those with this reference (a name, in which * is anything but a slash) or label, or without a name (dangling=true)
    #[arg(long, short, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A template such as '{{.Repository}}:{{.Tag}} {{.Size}}', with `table ` before it for columns, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Ids in full
    #[arg(long)]
    no_trunc: bool,
}

/// What a template may name, as docker calls it, and its head in a table.
const FIELDS: [(&str, &str); 7] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "ID"),
    ("Digest", "DIGEST"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Name", "IMAGE"),
];

/// What a list of images can be filtered by.
const KEYS: [&str; 3] = ["reference", "label", "dangling"];

/// Lists images.
pub(super) async fn list(at: At<'_>, args: ImagesArgs, print: &Print) -> Result<ExitCode, Failure> {
    let filters = Filters::parse(&args.filter, &KEYS).map_err(Failure::usage)?;
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let template = args.format.as_deref().map(|text| Template::parse(text, &names));
    let template = template.transpose().map_err(Failure::usage)?;
    let shelf = with(at, async |driver| Ok(driver.shelf(&Context::new()).await?)).await?;
    // A row for each name, and one for what has none.
    let each = |image| names_of(image).into_iter().map(move |name| (image, name));
    let rows = shelf.images.iter().flat_map(each);
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
                "size": image.look.footprint.unpacked(),
                "content_size": image.look.footprint.content(),
                "complete": image.look.missing.is_none(),
            }));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let row = |(image, name): &(&Shelved, Option<&str>)| {
        let created = created(image).unwrap_or_default();
        let date = created.split('T').next().unwrap_or_default();
        let unpacked = size(image.look.footprint.unpacked());
        vec![
            plain(name.unwrap_or(NONE)),
            id(image, args.no_trunc),
            plain(date),
            unpacked,
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    line(&table(&["IMAGE", "ID", "CREATED", "SIZE"], &rows));
    Ok(ExitCode::SUCCESS)
}

/// What stands for the name of an image that has none.
const NONE: &str = "<none>";

fn names_of(image: &Shelved) -> Vec<Option<&str>> {
    let names: Vec<_> = image
        .names
        .iter()
        .map(|record| Some(record.name.as_str()))
        .collect();
    if names.is_empty() { vec![None] } else { names }
}

fn digest(image: &Shelved) -> Option<&str> {
    image.names.first().map(|record| record.target.digest.as_str())
}

fn wanted(filters: &Filters, image: &Shelved, name: Option<&str>) -> bool {
    let settings = image
        .look
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

/// Whether a name, in its full or its short form, with its tag or without, is one that the pattern stands for.
fn refers(pattern: &str, name: &str) -> bool {
    let short = Reference::parse(name).map(|reference| reference.familiar());
    let forms = [Some(name.to_owned()), short.ok()];
    forms.into_iter().flatten().any(|form| {
        let bare = form
            .rsplit_once(':')
            .map(|(bare, _)| bare)
            .filter(|bare| !bare.is_empty());
        matches(pattern, &form) || bare.is_some_and(|bare| matches(pattern, bare))
    })
}

/// `*` stands for any characters but a slash.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let within = rest.find('/').unwrap_or(rest.len());
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.take_while(|at| *at <= within)
                .any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

fn fields(image: &Shelved, name: Option<&str>, whole: bool) -> Fields {
    let reference = name.and_then(|name| Reference::parse(name).ok());
    let tag = reference.as_ref().and_then(Reference::tag).unwrap_or(NONE);
    let familiar = reference.as_ref().map(Reference::familiar);
    let repository = familiar.as_deref().map_or(NONE, |familiar| {
        let digest = familiar.split_once('@').map(|(bare, _)| bare);
        let bare = digest.or_else(|| familiar.strip_suffix(tag)?.strip_suffix(':'));
        bare.unwrap_or(familiar)
    });
    let settings = image
        .look
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
            ("Size", size(image.look.footprint.unpacked())),
            ("Name", name.unwrap_or(NONE).to_owned()),
        ]
        .into(),
        labels: settings
            .map(|settings| settings.labels.clone())
            .unwrap_or_default(),
    }
}

/// An image in `image inspect`.
#[derive(Debug, Serialize)]
struct Inspected<'a> {
    id: Option<&'a str>,
    names: Vec<&'a str>,
    /// What the names stand for.
    digest: Option<&'a str>,
    manifest: Option<&'a str>,
    created: Option<&'a str>,
    platform: Option<String>,
    /// Unpacked, in bytes.
    size: u64,
    /// As it lies in the content store, in bytes.
    content_size: u64,
    /// What its removal would free, in bytes.
    frees: u64,
    /// The first part that is not here.
    missing: Option<&'a str>,
    layers: Vec<&'a str>,
    config: Option<Settings<'a>>,
}

/// What it says about its containers.
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

/// Prints all that is known of images.
pub(super) async fn inspect(at: At<'_>, images: &[String], print: &Print) -> Result<ExitCode, Failure> {
    let shelf = with(at, async |driver| Ok(driver.shelf(&Context::new()).await?)).await?;
    let mut inspected = Vec::new();
    for text in images {
        let (image, _) = shelf.find(text).map_err(|why| Failure::missing(&why))?;
        inspected.push(inspected_of(&shelf, image));
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

fn inspected_of<'a>(shelf: &Shelf, image: &'a Shelved) -> Inspected<'a> {
    let look = &image.look;
    let found = look.manifest.as_ref();
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
        size: look.footprint.unpacked(),
        content_size: look.footprint.content(),
        frees: shelf.frees(image),
        missing: look.missing.as_ref().map(|digest| digest.as_str()),
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

fn created(image: &Shelved) -> Option<&str> {
    image
        .look
        .manifest
        .as_ref()?
        .settings
        .as_ref()?
        .created
        .as_deref()
}

fn id(image: &Shelved, whole: bool) -> String {
    match image.id() {
        None => "unknown".to_owned(),
        Some(id) if whole => id.to_string(),
        Some(id) => id.hex().chars().take(SHORT).collect(),
    }
}

/// Bytes as `docker images` shows them: three digits that count, in powers of ten.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let decimals = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{name}")
}

#[cfg(test)]
mod tests {
    use super::{matches, refers, size};

    #[test]
    fn a_reference_may_be_short_and_have_stars() {
        let name = "docker.io/library/busybox:1.36";
        for pattern in [
            name,
            "busybox",
            "busybox:1.36",
            "busy*",
            "busybox:1.*",
            "*",
            "docker.io/*/busy*",
        ] {
            assert!(refers(pattern, name), "{pattern}");
        }
        for pattern in ["", "busy", "busybox:2", "docker.io/*", "b/*"] {
            assert!(!refers(pattern, name), "{pattern}");
        }
        assert!(matches("a*b*c", "axxbyyc") && !matches("a*c", "a/c"));
    }

    #[test]
    fn a_size_has_three_digits_that_count() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (4_262_000, "4.26MB"),
            (77_800_000, "77.8MB"),
            (999_600_000, "1.00GB"),
            (123_456_000_000, "123GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
