//! The pages of volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::door::Door;
use super::filters::{Filters, is_named};
use super::refused::Refused;
use super::request::Request;
use super::time::stamp;
use super::version::ApiVersion;
use super::volume_names;
use crate::Context;
use crate::engine::{Kind, ListedVolume, NewVolume, Volume, VolumeInUse, VolumeName};

/// The label that Docker gives to a volume that nobody has named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// Since this version, a prune leaves volumes with a name unless it is told otherwise.
const LEAVES_NAMED: ApiVersion = ApiVersion::new(1, 42);

/// `GET /volumes`.
pub(super) async fn list(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &["dangling", "driver", "label", "name"])?;
    let dangling = filters.values("dangling").first();
    let dangling = dangling
        .map(|value| match value.as_str() {
            "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(true),
            "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(false),
            _ => Err(Refused::bad(format!("invalid filter 'dangling=[{value}]'"))),
        })
        .transpose()?;
    let all = door.engine.volumes(&Context::new()).await?;
    let chosen = all.iter().filter(|ListedVolume { volume, users }| {
        dangling.is_none_or(|dangling| dangling == users.is_empty())
            && filters.any("driver", |driver| driver == "local")
            && filters.any("name", |wanted| is_named(volume.name.as_str(), wanted))
            && filters.labels(&labels(volume))
    });
    let volumes: Vec<_> = chosen.map(|listed| shape(&listed.volume)).collect();
    Ok(Answer::ok(&json!({ "Volumes": volumes, "Warnings": null })))
}

/// `GET /volumes/{name}`.
pub(super) async fn inspect(door: &Arc<Door>, given: &str) -> Result<Answer, Refused> {
    let name = known(given)?;
    match door.engine.volume(&Context::new(), &name).await {
        Err(error) if error.kind() == Kind::NotFound => Err(no_such_volume(given)),
        found => Ok(Answer::ok(&shape(&found?.volume))),
    }
}

/// `POST /volumes/create`. A volume that is there stays as it is, and is no error.
pub(super) async fn create(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let body = request.json()?;
    let given = body.text("Name")?;
    if body.object("ClusterVolumeSpec")?.is_some() {
        return Err(Refused::bad(
            "ClusterVolumeSpec: fnctr does not serve volumes of a cluster; leave it out",
        ));
    }
    let is_anonymous = given.is_empty();
    let name = match is_anonymous {
        true => VolumeName::random(),
        false => volume_names::name(&given)?,
    };
    let options = volume_names::options(name.as_str(), &body.text("Driver")?, body.map("DriverOpts")?)?;
    let new = NewVolume {
        labels: body.map("Labels")?,
        options,
        is_anonymous,
    };
    let made = door.engine.create_volume(&Context::new(), &name, new).await?;
    Ok(Answer::json(StatusCode::CREATED, &shape(&made)))
}

/// `DELETE /volumes/{name}`. With `force`, one that is not there is no error.
pub(super) async fn remove(door: &Arc<Door>, given: &str, request: &Request) -> Result<Answer, Refused> {
    let force = request.query.flag("force");
    let gone = Ok(Answer::empty(StatusCode::NO_CONTENT));
    let Ok(name) = VolumeName::new(given) else {
        return if force { gone } else { Err(no_such_volume(given)) };
    };
    match door.engine.remove_volume(&Context::new(), &name).await {
        Ok(()) => gone,
        Err(error) if error.kind() == Kind::NotFound && force => gone,
        Err(error) if error.kind() == Kind::NotFound => Err(no_such_volume(given)),
        Err(error) => {
            let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
            Err(match cause {
                Some(VolumeInUse { users }) => {
                    let ids: Vec<_> = users.iter().map(|user| user.id.as_str()).collect();
                    Refused::conflict(format!("remove {name}: volume is in use - [{}]", ids.join(", ")))
                }
                None => error.into(),
            })
        }
    }
}

/// `POST /volumes/prune`: volumes without a name that no container uses; with the filter `all`, those with a name too.
pub(super) async fn prune(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &["all", "label", "label!"])?;
    let with_named = request.version < LEAVES_NAMED
        || filters
            .values("all")
            .iter()
            .any(|value| ["1", "true"].contains(&value.as_str()));
    let is_chosen = |volume: &Volume| {
        let labels = labels(volume);
        (with_named || labels.contains_key(ANONYMOUS)) && filters.labels(&labels)
    };
    let pruned = door.engine.prune_volumes(&Context::new(), is_chosen).await?;
    let names: Vec<_> = pruned.names.iter().map(VolumeName::as_str).collect();
    Ok(Answer::ok(
        &json!({ "VolumesDeleted": names, "SpaceReclaimed": pruned.freed }),
    ))
}

/// The name of a volume that is to be there.
fn known(given: &str) -> Result<VolumeName, Refused> {
    VolumeName::new(given).map_err(|_| no_such_volume(given))
}

fn no_such_volume(given: &str) -> Refused {
    Refused::missing(format!("get {given}: no such volume"))
}

/// The labels of a volume as Docker shows them.
fn labels(volume: &Volume) -> BTreeMap<String, String> {
    let NewVolume {
        labels, is_anonymous, ..
    } = &volume.about.made_with;
    let mut labels = labels.clone();
    if *is_anonymous {
        labels.insert(ANONYMOUS.to_owned(), String::new());
    }
    labels
}

/// A volume in Docker's form.
fn shape(volume: &Volume) -> Value {
    let labels = labels(volume);
    let options = volume.about.made_with.options.as_map();
    json!({
        "CreatedAt": stamp(Some(volume.about.created_at)),
        "Driver": "local",
        "Labels": if labels.is_empty() { Value::Null } else { json!(labels) },
        "Mountpoint": volume.data,
        "Name": volume.name.as_str(),
        "Options": if options.is_empty() { Value::Null } else { json!(options) },
        "Scope": "local",
    })
}
