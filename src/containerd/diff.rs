//! Unpacking: containerd applies a layer's blob to the mounts of a snapshot.

use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::diff_client::DiffClient;
use tonic::transport::Channel;

use super::call::LONG;
use super::session::MAX_MESSAGE;
use super::snapshots::mounts_to_wire;
use super::{Descriptor, Error, Mount, Session};
use crate::Context;

/// The diff service.
#[derive(Debug, Clone)]
pub(crate) struct Diff {
    session: Session,
}

impl Diff {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Unpacks a layer into the mounts. Returns the descriptor of the uncompressed layer, whose digest is the diff id.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if the layer is not in the content store; containerd's own message if it cannot be
    /// unpacked.
    ///
    /// # Cancellation
    /// Not safe to drop: the mounts' content is then unknown.
    pub(crate) async fn apply(
        &self,
        ctx: &Context,
        layer: &Descriptor,
        mounts: &[Mount],
    ) -> Result<Descriptor, Error> {
        let mut client: DiffClient<Channel> =
            DiffClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE);
        let message = ApplyRequest {
            diff: Some(layer.to_wire()),
            mounts: mounts_to_wire(mounts),
            ..ApplyRequest::default()
        };
        let call = self
            .session
            .call(ctx, "Diff/Apply", layer.digest.as_str())
            .ceiling(Some(LONG));
        let reply = call
            .change(message, |r| async move { client.apply(r).await })
            .await?;
        let applied = reply
            .applied
            .ok_or_else(|| call.malformed("it has no descriptor"))?;
        Descriptor::from_wire(applied).map_err(|why| call.malformed(why))
    }
}
