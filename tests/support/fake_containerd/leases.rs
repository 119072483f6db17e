//! The Leases service: what must not be collected yet. Deleting one with `sync` collects garbage at once.

use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1 as api;
use tonic::Status;

use super::Fake;
use super::filter;
use super::gc;
use super::grpc::{Call, Service};
use super::state::{Lease, already_exists, not_found, now};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.leases.v1.Leases")
        .plain("Create", create)
        .plain("Delete", delete)
        .plain("List", list)
        .plain("AddResource", add_resource)
        .plain("DeleteResource", delete_resource)
        .plain("ListResources", list_resources)
        .routes()
}

fn view(id: &str, lease: &Lease) -> api::Lease {
    api::Lease {
        id: id.into(),
        created_at: lease.created_at,
        labels: lease.labels.clone(),
    }
}

fn create(fake: &Fake, call: &Call, request: api::CreateRequest) -> Result<api::CreateResponse, Status> {
    let mut state = fake.state();
    let namespace = state.of(call)?;
    let id = match request.id.is_empty() {
        true => format!("generated-{}", namespace.leases.len()),
        false => request.id,
    };
    if namespace.leases.contains_key(&id) {
        return Err(already_exists("lease", &id));
    }
    let lease = Lease {
        created_at: now(),
        labels: request.labels,
        ..Lease::default()
    };
    let made = view(&id, &lease);
    namespace.leases.insert(id, lease);
    Ok(api::CreateResponse { lease: Some(made) })
}

fn delete(fake: &Fake, call: &Call, request: api::DeleteRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let namespace = state.of(call)?;
    if namespace.leases.remove(&request.id).is_none() {
        return Err(not_found("lease", &request.id));
    }
    if request.sync {
        gc::collect(namespace);
    }
    Ok(())
}

fn list(fake: &Fake, call: &Call, request: api::ListRequest) -> Result<api::ListResponse, Status> {
    let mut leases = Vec::new();
    for (id, lease) in &fake.state().of(call)?.leases {
        if filter::matches(&request.filters, filter::labelled(id, &lease.labels))? {
            leases.push(view(id, lease));
        }
    }
    Ok(api::ListResponse { leases })
}

fn add_resource(fake: &Fake, call: &Call, request: api::AddResourceRequest) -> Result<(), Status> {
    let resource = request.resource.unwrap_or_default();
    let mut state = fake.state();
    let lease = lease(&mut state, call, &request.id)?;
    lease.holds.insert((resource.r#type, resource.id));
    Ok(())
}

fn delete_resource(fake: &Fake, call: &Call, request: api::DeleteResourceRequest) -> Result<(), Status> {
    let resource = request.resource.unwrap_or_default();
    let mut state = fake.state();
    let lease = lease(&mut state, call, &request.id)?;
    lease.holds.remove(&(resource.r#type, resource.id));
    Ok(())
}

fn list_resources(
    fake: &Fake,
    call: &Call,
    request: api::ListResourcesRequest,
) -> Result<api::ListResourcesResponse, Status> {
    let mut state = fake.state();
    let holds = lease(&mut state, call, &request.id)?.holds.iter();
    let resources = holds.map(|(kind, id)| api::Resource {
        id: id.clone(),
        r#type: kind.clone(),
    });
    Ok(api::ListResourcesResponse {
        resources: resources.collect(),
    })
}

fn lease<'a>(state: &'a mut super::state::State, call: &Call, id: &str) -> Result<&'a mut Lease, Status> {
    let found = state.of(call)?.leases.get_mut(id);
    found.ok_or_else(|| not_found("lease", id))
}
