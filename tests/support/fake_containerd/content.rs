//! The Content service. The write protocol is in `ingest`.

mod ingest;

use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1 as api;
use tonic::Status;
use tonic::codegen::tokio_stream::{iter, once};

use super::Fake;
use super::filter;
use super::grpc::{Call, Replies, Service};
use super::state::{Ingest, not_found, now, update_labels};

/// What one reply of `Read` carries.
const CHUNK: usize = 1 << 20;

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.content.v1.Content")
        .plain("Info", info)
        .plain("Update", update)
        .streaming("List", list)
        .plain("Delete", delete)
        .streaming("Read", read)
        .plain("Status", status)
        .plain("ListStatuses", list_statuses)
        .duplex("Write", ingest::write)
        .plain("Abort", abort)
        .routes()
}

fn info(fake: &Fake, call: &Call, request: api::InfoRequest) -> Result<api::InfoResponse, Status> {
    match fake.state().of(call)?.content.get(&request.digest) {
        Some(found) => Ok(api::InfoResponse {
            info: Some(found.info.clone()),
        }),
        None => Err(not_found("content", &request.digest)),
    }
}

fn update(fake: &Fake, call: &Call, request: api::UpdateRequest) -> Result<api::UpdateResponse, Status> {
    let wanted = request.info.unwrap_or_default();
    let mut state = fake.state();
    let Some(found) = state.of(call)?.content.get_mut(&wanted.digest) else {
        return Err(not_found("content", &wanted.digest));
    };
    update_labels(
        &mut found.info.labels,
        wanted.labels,
        request.update_mask.as_ref(),
    );
    found.info.updated_at = now();
    Ok(api::UpdateResponse {
        info: Some(found.info.clone()),
    })
}

async fn list(
    fake: Arc<Fake>,
    call: Call,
    request: api::ListContentRequest,
) -> Result<Replies<api::ListContentResponse>, Status> {
    let mut info = Vec::new();
    for (digest, blob) in &fake.state().of(&call)?.content {
        if filter::matches(&request.filters, filter::labelled(digest, &blob.info.labels))? {
            info.push(blob.info.clone());
        }
    }
    Ok(Box::pin(once(Ok(api::ListContentResponse { info }))))
}

fn delete(fake: &Fake, call: &Call, request: api::DeleteContentRequest) -> Result<(), Status> {
    match fake.state().of(call)?.content.remove(&request.digest) {
        Some(_) => Ok(()),
        None => Err(not_found("content", &request.digest)),
    }
}

async fn read(
    fake: Arc<Fake>,
    call: Call,
    request: api::ReadContentRequest,
) -> Result<Replies<api::ReadContentResponse>, Status> {
    let mut state = fake.state();
    let Some(blob) = state.of(&call)?.content.get(&request.digest) else {
        return Err(not_found("content", &request.digest));
    };
    let from = usize::try_from(request.offset).unwrap();
    if from > blob.data.len() {
        return Err(Status::out_of_range(
            "read past the end of the content: out of range",
        ));
    }
    let to = match usize::try_from(request.size).unwrap() {
        0 => blob.data.len(),
        size => blob.data.len().min(from + size),
    };
    let mut offset = request.offset;
    let replies: Vec<_> = blob.data[from..to]
        .chunks(CHUNK)
        .map(|data| {
            let reply = api::ReadContentResponse {
                offset,
                data: data.to_vec(),
            };
            offset += len(data);
            Ok(reply)
        })
        .collect();
    Ok(Box::pin(iter(replies)))
}

fn status(fake: &Fake, call: &Call, request: api::StatusRequest) -> Result<api::StatusResponse, Status> {
    match fake.state().of(call)?.ingests.get(&request.r#ref) {
        Some(found) => Ok(api::StatusResponse {
            status: Some(view(&request.r#ref, found)),
        }),
        None => Err(not_found("ingest ref", &request.r#ref)),
    }
}

fn list_statuses(
    fake: &Fake,
    call: &Call,
    request: api::ListStatusesRequest,
) -> Result<api::ListStatusesResponse, Status> {
    let mut statuses = Vec::new();
    for (name, ingest) in &fake.state().of(call)?.ingests {
        let field = |path: &str| (path == "ref").then(|| name.clone());
        if filter::matches(&request.filters, field)? {
            statuses.push(view(name, ingest));
        }
    }
    Ok(api::ListStatusesResponse { statuses })
}

fn abort(fake: &Fake, call: &Call, request: api::AbortRequest) -> Result<(), Status> {
    match fake.state().of(call)?.ingests.remove(&request.r#ref) {
        Some(_) => Ok(()),
        None => Err(not_found("ingest ref", &request.r#ref)),
    }
}

fn view(name: &str, ingest: &Ingest) -> api::Status {
    api::Status {
        started_at: ingest.started_at,
        updated_at: now(),
        r#ref: name.into(),
        offset: len(&ingest.data),
        total: ingest.total,
        expected: ingest.expected.clone(),
    }
}

fn len(data: &[u8]) -> i64 {
    i64::try_from(data.len()).unwrap()
}
