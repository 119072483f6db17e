//! `load`, `tag`, `rmi`, `images`, `image inspect` and `image prune`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::At;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, line, note, plain, table};
use super::save::Spooled;
use crate::Context;
use crate::engine::{Removed, Shelf, Shelved};

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
        print.result(&serde_json::json!({ "loaded": name }), || {
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
    print.result(&serde_json::json!({ "tagged": name }), || name.clone());
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

/// Removes what no container uses.
pub(super) async fn prune(at: At<'_>, print: &Print) -> Result<ExitCode, Failure> {
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

/// Lists images.
pub(super) async fn list(at: At<'_>, quiet: bool, print: &Print) -> Result<ExitCode, Failure> {
    let shelf = with(at, async |driver| Ok(driver.shelf(&Context::new()).await?)).await?;
    if print.is_json() {
        for image in &shelf.images {
            for record in &image.names {
                print.json(&serde_json::json!({
                    "name": record.name,
                    "digest": record.target.digest.as_str(),
                    "id": image.id().map(|id| id.as_str()),
                    "created": created(image),
                    "size": image.look.footprint.unpacked(),
                    "content_size": image.look.footprint.content(),
                    "complete": image.look.missing.is_none(),
                }));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    if quiet {
        let mut ids: Vec<_> = shelf.images.iter().map(short).collect();
        ids.dedup();
        ids.iter().for_each(|id| line(id));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |image: &Shelved, name: &str| {
        let created = created(image).unwrap_or_default();
        let date = created.split('T').next().unwrap_or_default();
        let unpacked = size(image.look.footprint.unpacked());
        vec![plain(name), short(image), plain(date), unpacked]
    };
    let rows: Vec<_> = shelf
        .images
        .iter()
        .flat_map(|image| image.names.iter().map(|record| row(image, &record.name)))
        .collect();
    line(&table(&["IMAGE", "ID", "CREATED", "SIZE"], &rows));
    Ok(ExitCode::SUCCESS)
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
pub(super) async fn inspect(at: At<'_>, images: &[String]) -> Result<ExitCode, Failure> {
    let shelf = with(at, async |driver| Ok(driver.shelf(&Context::new()).await?)).await?;
    let mut inspected = Vec::new();
    for text in images {
        let (image, _) = shelf.find(text).map_err(|why| Failure::missing(&why))?;
        inspected.push(inspected_of(&shelf, image));
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

fn short(image: &Shelved) -> String {
    image.id().map_or_else(
        || "unknown".to_owned(),
        |id| id.hex().chars().take(SHORT).collect(),
    )
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
    use super::size;

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
