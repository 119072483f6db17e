//! The Diff service: unpacks a layer into the directory behind the mounts, and says what its bytes are unpacked.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1 as api;
use containerd_client::types::{Descriptor, Mount};
use tonic::Status;

use super::Fake;
use super::grpc::{Call, Service};
use super::state::{Blob, not_found};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.diff.v1.Diff")
        .plain("Apply", apply)
        .routes()
}

fn apply(fake: &Fake, call: &Call, request: api::ApplyRequest) -> Result<api::ApplyResponse, Status> {
    let layer = request.diff.unwrap_or_default();
    let data = match fake.state().of(call)?.content.get(&layer.digest) {
        Some(blob) => blob.data.clone(),
        None => return Err(not_found("content", &layer.digest)),
    };
    let failed =
        |error: std::io::Error| Status::unknown(format!("failed to extract layer {}: {error}", layer.digest));
    let mut tar = Vec::new();
    match layer.media_type.as_str() {
        kind if kind.ends_with("gzip") => {
            flate2::read::GzDecoder::new(data.as_slice())
                .read_to_end(&mut tar)
                .map_err(failed)?;
        }
        kind if kind.ends_with("tar") => tar = data,
        kind => {
            let text =
                format!("failed to get stream processor for {kind}: no processor for media-type: unknown");
            return Err(Status::unknown(text));
        }
    }
    let target = directory(&request.mounts)?;
    tar::Archive::new(tar.as_slice()).unpack(target).map_err(failed)?;
    let unpacked = Blob::new(tar, Default::default()).info;
    Ok(api::ApplyResponse {
        applied: Some(Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            digest: unpacked.digest,
            size: unpacked.size,
            ..Descriptor::default()
        }),
    })
}

/// The directory that a mount would write to.
fn directory(mounts: &[Mount]) -> Result<PathBuf, Status> {
    let [mount] = mounts else {
        return Err(Status::invalid_argument("one mount is needed: invalid argument"));
    };
    let upper = mount
        .options
        .iter()
        .find_map(|option| option.strip_prefix("upperdir="));
    Ok(upper.unwrap_or(&mount.source).into())
}
