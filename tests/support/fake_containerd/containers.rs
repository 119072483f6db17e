//! The Containers service: records, whatever their tasks do.

use std::sync::Arc;

use axum::Router;
use containerd_client::events;
use containerd_client::services::v1 as api;
use tonic::Status;
use tonic::codegen::tokio_stream;

use super::Fake;
use super::filter;
use super::grpc::{Call, Replies, Service};
use super::state::{already_exists, not_found, now, update_labels};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.containers.v1.Containers")
        .plain("Get", get)
        .plain("List", list)
        .streaming("ListStream", list_stream)
        .plain("Create", create)
        .plain("Update", update)
        .plain("Delete", delete)
        .routes()
}

fn get(
    fake: &Fake,
    call: &Call,
    request: api::GetContainerRequest,
) -> Result<api::GetContainerResponse, Status> {
    match fake.state().of(call)?.containers.get(&request.id) {
        Some(found) => Ok(api::GetContainerResponse {
            container: Some(found.clone()),
        }),
        None => Err(not_found("container", &request.id)),
    }
}

fn list(
    fake: &Fake,
    call: &Call,
    request: api::ListContainersRequest,
) -> Result<api::ListContainersResponse, Status> {
    let mut containers = Vec::new();
    for (id, container) in &fake.state().of(call)?.containers {
        let usual = filter::labelled(id, &container.labels);
        let field = |path: &str| match path {
            "image" => Some(container.image.clone()),
            "runtime.name" => container.runtime.as_ref().map(|runtime| runtime.name.clone()),
            _ => usual(path),
        };
        if filter::matches(&request.filters, field)? {
            containers.push(container.clone());
        }
    }
    Ok(api::ListContainersResponse { containers })
}

async fn list_stream(
    fake: Arc<Fake>,
    call: Call,
    request: api::ListContainersRequest,
) -> Result<Replies<api::ListContainerMessage>, Status> {
    let found = list(&fake, &call, request)?.containers.into_iter();
    let messages: Vec<_> = found
        .map(|container| {
            Ok(api::ListContainerMessage {
                container: Some(container),
            })
        })
        .collect();
    Ok(Box::pin(tokio_stream::iter(messages)))
}

fn create(
    fake: &Fake,
    call: &Call,
    request: api::CreateContainerRequest,
) -> Result<api::CreateContainerResponse, Status> {
    let mut container = request.container.unwrap_or_default();
    if container.id.is_empty() {
        return Err(Status::invalid_argument(
            "container.ID: identifier must not be empty",
        ));
    }
    if container
        .runtime
        .as_ref()
        .is_none_or(|runtime| runtime.name.is_empty())
    {
        return Err(Status::invalid_argument(
            "container.Runtime.Name must be set: invalid argument",
        ));
    }
    if container.spec.is_none() {
        return Err(Status::invalid_argument(
            "container.Spec must be set: invalid argument",
        ));
    }
    let mut state = fake.state();
    let namespace = state.of(call)?;
    if namespace.containers.contains_key(&container.id) {
        return Err(already_exists("container", &container.id));
    }
    container.created_at = now();
    container.updated_at = now();
    namespace
        .containers
        .insert(container.id.clone(), container.clone());
    drop(state);
    let event = events::ContainerCreate {
        id: container.id.clone(),
        image: container.image.clone(),
        ..Default::default()
    };
    fake.publish(call.namespace()?, "/containers/create", &event);
    Ok(api::CreateContainerResponse {
        container: Some(container),
    })
}

fn update(
    fake: &Fake,
    call: &Call,
    request: api::UpdateContainerRequest,
) -> Result<api::UpdateContainerResponse, Status> {
    let wanted = request.container.unwrap_or_default();
    let mut state = fake.state();
    let Some(found) = state.of(call)?.containers.get_mut(&wanted.id) else {
        return Err(not_found("container", &wanted.id));
    };
    let paths = request.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    let all = paths.is_empty();
    if all || paths.iter().any(|path| path.starts_with("labels")) {
        update_labels(&mut found.labels, wanted.labels, request.update_mask.as_ref());
    }
    if all || paths.iter().any(|path| path == "spec") {
        found.spec = wanted.spec;
    }
    for (key, extension) in wanted.extensions {
        if all
            || paths
                .iter()
                .any(|path| path == "extensions" || *path == format!("extensions.{key}"))
        {
            found.extensions.insert(key, extension);
        }
    }
    found.updated_at = now();
    let found = found.clone();
    drop(state);
    let event = events::ContainerUpdate {
        id: found.id.clone(),
        image: found.image.clone(),
        labels: found.labels.clone(),
        snapshot_key: found.snapshot_key.clone(),
    };
    fake.publish(call.namespace()?, "/containers/update", &event);
    Ok(api::UpdateContainerResponse {
        container: Some(found),
    })
}

fn delete(fake: &Fake, call: &Call, request: api::DeleteContainerRequest) -> Result<(), Status> {
    match fake.state().of(call)?.containers.remove(&request.id) {
        Some(_) => {}
        None => return Err(not_found("container", &request.id)),
    }
    let event = events::ContainerDelete { id: request.id };
    fake.publish(call.namespace()?, "/containers/delete", &event);
    Ok(())
}
