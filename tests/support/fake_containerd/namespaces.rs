//! The Namespaces service. Its calls carry the name in the message, not in the metadata.

use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1 as api;
use tonic::Status;

use super::Fake;
use super::grpc::{Call, Service};
use super::state::{Namespace, already_exists, not_found, update_labels};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.namespaces.v1.Namespaces")
        .plain("Get", get)
        .plain("List", list)
        .plain("Create", create)
        .plain("Update", update)
        .plain("Delete", delete)
        .routes()
}

fn view(name: &str, namespace: &Namespace) -> Option<api::Namespace> {
    Some(api::Namespace {
        name: name.into(),
        labels: namespace.labels.clone(),
    })
}

fn get(
    fake: &Fake,
    _: &Call,
    request: api::GetNamespaceRequest,
) -> Result<api::GetNamespaceResponse, Status> {
    match fake.state().namespaces.get(&request.name) {
        Some(found) => Ok(api::GetNamespaceResponse {
            namespace: view(&request.name, found),
        }),
        None => Err(not_found("namespace", &request.name)),
    }
}

fn list(fake: &Fake, _: &Call, _: api::ListNamespacesRequest) -> Result<api::ListNamespacesResponse, Status> {
    let state = fake.state();
    let namespaces = state
        .namespaces
        .iter()
        .filter_map(|(name, found)| view(name, found));
    Ok(api::ListNamespacesResponse {
        namespaces: namespaces.collect(),
    })
}

fn create(
    fake: &Fake,
    _: &Call,
    request: api::CreateNamespaceRequest,
) -> Result<api::CreateNamespaceResponse, Status> {
    let wanted = request.namespace.unwrap_or_default();
    let mut state = fake.state();
    if state.namespaces.contains_key(&wanted.name) {
        return Err(already_exists("namespace", &wanted.name));
    }
    let made = state.namespaces.entry(wanted.name.clone()).or_default();
    made.labels = wanted.labels;
    Ok(api::CreateNamespaceResponse {
        namespace: view(&wanted.name, made),
    })
}

fn update(
    fake: &Fake,
    _: &Call,
    request: api::UpdateNamespaceRequest,
) -> Result<api::UpdateNamespaceResponse, Status> {
    let wanted = request.namespace.unwrap_or_default();
    let mut state = fake.state();
    let Some(found) = state.namespaces.get_mut(&wanted.name) else {
        return Err(not_found("namespace", &wanted.name));
    };
    update_labels(&mut found.labels, wanted.labels, request.update_mask.as_ref());
    Ok(api::UpdateNamespaceResponse {
        namespace: view(&wanted.name, found),
    })
}

fn delete(fake: &Fake, _: &Call, request: api::DeleteNamespaceRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let Some(found) = state.namespaces.get(&request.name) else {
        return Err(not_found("namespace", &request.name));
    };
    let empty = found.containers.is_empty()
        && found.snapshots.is_empty()
        && found.images.is_empty()
        && found.content.is_empty();
    if !empty {
        return Err(Status::failed_precondition(format!(
            "namespace {:?} must be empty: failed precondition",
            request.name
        )));
    }
    state.namespaces.remove(&request.name);
    Ok(())
}
