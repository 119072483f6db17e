//! The Images service: names for manifests.

use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1 as api;
use tonic::Status;

use super::Fake;
use super::filter;
use super::gc;
use super::grpc::{Call, Service};
use super::state::{already_exists, not_found, now, update_labels};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.images.v1.Images")
        .plain("Get", get)
        .plain("List", list)
        .plain("Create", create)
        .plain("Update", update)
        .plain("Delete", delete)
        .routes()
}

fn get(fake: &Fake, call: &Call, request: api::GetImageRequest) -> Result<api::GetImageResponse, Status> {
    match fake.state().of(call)?.images.get(&request.name) {
        Some(found) => Ok(api::GetImageResponse {
            image: Some(found.clone()),
        }),
        None => Err(not_found("image", &request.name)),
    }
}

fn list(
    fake: &Fake,
    call: &Call,
    request: api::ListImagesRequest,
) -> Result<api::ListImagesResponse, Status> {
    let mut images = Vec::new();
    for (name, image) in &fake.state().of(call)?.images {
        let usual = filter::labelled(name, &image.labels);
        let field = |path: &str| match path {
            "target.digest" => image.target.as_ref().map(|target| target.digest.clone()),
            _ => usual(path),
        };
        if filter::matches(&request.filters, field)? {
            images.push(image.clone());
        }
    }
    Ok(api::ListImagesResponse { images })
}

fn create(
    fake: &Fake,
    call: &Call,
    request: api::CreateImageRequest,
) -> Result<api::CreateImageResponse, Status> {
    let mut image = request.image.unwrap_or_default();
    if image.name.is_empty() || image.target.is_none() {
        return Err(Status::invalid_argument(
            "image name and target must be set: invalid argument",
        ));
    }
    let mut state = fake.state();
    let images = &mut state.of(call)?.images;
    if images.contains_key(&image.name) {
        return Err(already_exists("image", &image.name));
    }
    image.created_at = now();
    image.updated_at = now();
    images.insert(image.name.clone(), image.clone());
    Ok(api::CreateImageResponse { image: Some(image) })
}

fn update(
    fake: &Fake,
    call: &Call,
    request: api::UpdateImageRequest,
) -> Result<api::UpdateImageResponse, Status> {
    let wanted = request.image.unwrap_or_default();
    let mut state = fake.state();
    let Some(found) = state.of(call)?.images.get_mut(&wanted.name) else {
        return Err(not_found("image", &wanted.name));
    };
    let paths = request.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() || paths.iter().any(|path| path.starts_with("labels")) {
        update_labels(&mut found.labels, wanted.labels, request.update_mask.as_ref());
    }
    if paths.is_empty() || paths.iter().any(|path| path == "target") {
        found.target = wanted.target;
    }
    found.updated_at = now();
    Ok(api::UpdateImageResponse {
        image: Some(found.clone()),
    })
}

fn delete(fake: &Fake, call: &Call, request: api::DeleteImageRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let namespace = state.of(call)?;
    if namespace.images.remove(&request.name).is_none() {
        return Err(not_found("image", &request.name));
    }
    if request.sync {
        gc::collect(namespace);
    }
    Ok(())
}
