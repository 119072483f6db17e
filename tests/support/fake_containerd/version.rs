//! The Version service.

use std::sync::Arc;

use axum::Router;
use containerd_client::services::v1::VersionResponse;

use super::Fake;
use super::grpc::Service;

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.version.v1.Version")
        .plain("Version", |_, _, (): ()| {
            Ok(VersionResponse {
                version: "1.6.20".into(),
                revision: "fake".into(),
            })
        })
        .routes()
}
