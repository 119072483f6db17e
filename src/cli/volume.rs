//! `volume`: lists, shows, makes and removes volumes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::Invocation;
use super::args::volumes::VolumeCommand;
use super::confirm::confirm;
use super::connect::with;
use super::failure::Failure;
use super::filter::Filters;
use super::output::{Print, columns, fitted, line, plain, size};
use crate::Context;
use crate::engine::{Engine, Kind, ListedVolume, NewVolume, VolumeName, VolumeOptions};

/// What volumes are listed by.
const KEYS: [&str; 3] = ["name", "label", "dangling"];

/// Runs a `volume` command.
pub(super) async fn volume(
    invocation: Invocation<'_>,
    what: VolumeCommand,
    print: &Print,
) -> Result<ExitCode, Failure> {
    match what {
        VolumeCommand::Ls { quiet, filter } => {
            let filters = Filters::parse(&filter, &KEYS).map_err(Failure::usage)?;
            with(invocation, async |engine| {
                list(engine, &filters, quiet, print).await
            })
            .await
        }
        VolumeCommand::Inspect { names } => {
            with(invocation, async |engine| inspect(engine, &names, print).await).await
        }
        VolumeCommand::Create { name, label, opt, .. } => {
            let options = VolumeOptions::new(opt.into_iter().collect());
            let new = NewVolume {
                labels: label.into_iter().collect(),
                options: options.map_err(|why| Failure::usage(format!("--opt: {why}")))?,
                is_anonymous: name.is_none(),
            };
            let name = name.unwrap_or_else(VolumeName::random);
            with(invocation, async |engine| {
                engine.create_volume(&Context::new(), &name, new).await?;
                print.result(&serde_json::json!({ "volume": name.as_str() }), || {
                    name.to_string()
                });
                Ok(ExitCode::SUCCESS)
            })
            .await
        }
        VolumeCommand::Rm { names, force } => {
            with(invocation, async |engine| {
                Ok(remove(engine, &names, force, print).await)
            })
            .await
        }
        VolumeCommand::Prune { all, force } => {
            if !force {
                let which = if all {
                    "all volumes"
                } else {
                    "the volumes without a name"
                };
                confirm(
                    invocation,
                    format!("fnctr: remove {which} that no container uses, with their files?"),
                )
                .await?;
            }
            with(invocation, async |engine| prune(engine, all, print).await).await
        }
    }
}

async fn list(engine: &Engine, filters: &Filters, quiet: bool, print: &Print) -> Result<ExitCode, Failure> {
    let volumes = engine.volumes(&Context::new()).await?;
    let chosen: Vec<_> = volumes
        .iter()
        .filter(|ListedVolume { volume, users }| {
            filters.any("name", |part| volume.name.as_str().contains(part))
                && filters.any("dangling", |value| (value == "true") == users.is_empty())
                && filters.labels(&volume.about.made_with.labels)
        })
        .collect();
    if quiet || print.is_json() {
        for listed in chosen {
            print.result(&value(listed), || listed.volume.name.to_string());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = chosen
        .into_iter()
        .map(|listed| {
            vec![
                listed.volume.name.to_string(),
                users(listed).join(","),
                plain(&listed.volume.files().display().to_string()),
            ]
        })
        .collect();
    line(&fitted(
        &["VOLUME", "USED BY", "FILES"],
        &rows,
        &["FILES"],
        columns(),
    ));
    Ok(ExitCode::SUCCESS)
}

/// The containers that use a volume, as users call them.
fn users(listed: &ListedVolume) -> Vec<String> {
    let names = listed
        .users
        .iter()
        .map(|user| user.name.clone().unwrap_or_else(|| user.id.to_string()));
    names.collect()
}

async fn inspect(engine: &Engine, names: &[VolumeName], print: &Print) -> Result<ExitCode, Failure> {
    for name in names {
        let listed = engine.volume(&Context::new(), name).await?;
        let value = value(&listed);
        print.result(&value, || {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn value(listed: &ListedVolume) -> serde_json::Value {
    let about = &listed.volume.about;
    let created = prost_types::Timestamp::from(about.created_at).to_string();
    let labels: &BTreeMap<_, _> = &about.made_with.labels;
    serde_json::json!({
        "volume": listed.volume.name.as_str(),
        "created": created,
        "anonymous": about.made_with.is_anonymous,
        "labels": labels,
        "options": about.made_with.options.as_map(),
        "files": listed.volume.files(),
        "used_by": users(listed),
    })
}

/// Removes volumes. One that cannot be removed is reported, and the others are still removed.
async fn remove(engine: &Engine, names: &[VolumeName], force: bool, print: &Print) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match engine.remove_volume(&Context::new(), name).await {
            Ok(()) => print.result(
                &serde_json::json!({ "volume": name.as_str(), "removed": true }),
                || name.to_string(),
            ),
            Err(error) if error.kind() == Kind::NotFound && force => {}
            Err(error) => {
                code = ExitCode::FAILURE;
                print.failure(&error.into());
            }
        }
    }
    code
}

async fn prune(engine: &Engine, all: bool, print: &Print) -> Result<ExitCode, Failure> {
    let pruned = engine
        .prune_volumes(&Context::new(), |volume| {
            all || volume.about.made_with.is_anonymous
        })
        .await?;
    let names: Vec<_> = pruned.names.iter().map(VolumeName::as_str).collect();
    let value = serde_json::json!({ "removed": names, "freed": pruned.freed });
    print.result(&value, || {
        let names = names.iter().map(|name| format!("{name}\n"));
        format!("{}freed {}", names.collect::<String>(), size(pruned.freed))
    });
    Ok(ExitCode::SUCCESS)
}
