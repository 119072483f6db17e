//! The write protocol of the Content service: a stream of stat, write and commit for one reference.

use std::sync::Arc;

use containerd_client::services::v1 as api;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::super::Fake;
use super::super::grpc::{Call, Replies};
use super::super::state::{Blob, Ingest, State, already_exists, not_found, now};
use super::len;

type Reply = Result<api::WriteContentResponse, Status>;

pub(super) async fn write(
    fake: Arc<Fake>,
    call: Call,
    mut requests: Streaming<api::WriteContentRequest>,
) -> Result<Replies<api::WriteContentResponse>, Status> {
    let first = match requests.message().await? {
        Some(first) if !first.r#ref.is_empty() => first,
        _ => {
            return Err(Status::invalid_argument(
                "first message must have a reference: invalid argument",
            ));
        }
    };
    let name = first.r#ref.clone();
    open(&mut fake.state(), &call, &first)?;
    let (replies, stream) = mpsc::channel::<Reply>(4);
    let tracker = fake.tracker.clone();
    tracker.spawn(async move {
        let mut next = Some(first);
        while let Some(request) = next.take() {
            let reply = step(&mut fake.state(), &call, &name, request);
            let failed = reply.is_err();
            if replies.send(reply).await.is_err() || failed {
                break;
            }
            next = tokio::select! {
                request = requests.message() => request.ok().flatten(),
                () = fake.stop.cancelled() => None,
            };
        }
        if let Ok(namespace) = fake.state().of(&call)
            && let Some(ingest) = namespace.ingests.get_mut(&name)
        {
            ingest.locked = false;
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

/// Begins the ingest or goes on with it; one stream at a time.
fn open(state: &mut State, call: &Call, first: &api::WriteContentRequest) -> Result<(), Status> {
    let namespace = state.of(call)?;
    if namespace.content.contains_key(&first.expected) {
        return Err(already_exists("content", &first.expected));
    }
    if namespace
        .ingests
        .get(&first.r#ref)
        .is_some_and(|ingest| ingest.locked)
    {
        return Err(Status::unavailable(format!(
            "ref {} locked: unavailable",
            first.r#ref
        )));
    }
    namespace.hold(call, "ingests", &first.r#ref)?;
    let ingest = namespace
        .ingests
        .entry(first.r#ref.clone())
        .or_insert_with(|| Ingest {
            started_at: now(),
            ..Ingest::default()
        });
    ingest.locked = true;
    ingest.total = first.total;
    ingest.expected.clone_from(&first.expected);
    Ok(())
}

fn step(state: &mut State, call: &Call, name: &str, request: api::WriteContentRequest) -> Reply {
    let action = request.action();
    let namespace = state.of(call)?;
    let ingest = namespace
        .ingests
        .get_mut(name)
        .ok_or_else(|| not_found("ingest ref", name))?;
    if !request.data.is_empty() {
        if request.offset != len(&ingest.data) {
            let text = format!(
                "write @{} must occur at current offset {}",
                request.offset,
                ingest.data.len()
            );
            return Err(Status::out_of_range(text));
        }
        ingest.data.extend_from_slice(&request.data);
    }
    let digest = format!("sha256:{}", hex(&Sha256::digest(&ingest.data)));
    let reply = api::WriteContentResponse {
        action: action.into(),
        started_at: ingest.started_at,
        updated_at: now(),
        offset: len(&ingest.data),
        total: ingest.total,
        digest: digest.clone(),
    };
    if action != api::WriteAction::Commit {
        return Ok(reply);
    }
    let total = len(&ingest.data);
    if request.total > 0 && request.total != total {
        let text = format!(
            "unexpected commit size {total}, expected {}: failed precondition",
            request.total
        );
        return Err(Status::failed_precondition(text));
    }
    let expected = [&request.expected, &ingest.expected]
        .into_iter()
        .find(|digest| !digest.is_empty());
    if let Some(expected) = expected.filter(|expected| **expected != digest) {
        let text = format!("unexpected commit digest {digest}, expected {expected}: failed precondition");
        return Err(Status::failed_precondition(text));
    }
    if namespace.content.contains_key(&digest) {
        namespace.ingests.remove(name);
        return Err(already_exists("content", &digest));
    }
    namespace.hold(call, "content", &digest)?;
    if let Some(done) = namespace.ingests.remove(name) {
        namespace
            .content
            .insert(digest, Blob::new(done.data, request.labels));
    }
    for lease in namespace.leases.values_mut() {
        lease.holds.remove(&("ingests".to_owned(), name.to_owned()));
    }
    Ok(reply)
}

impl Blob {
    pub(in super::super) fn new(data: Vec<u8>, labels: std::collections::HashMap<String, String>) -> Self {
        Self {
            info: api::Info {
                digest: format!("sha256:{}", hex(&Sha256::digest(&data))),
                size: len(&data),
                created_at: now(),
                updated_at: now(),
                labels,
            },
            data,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
