//! The plugins of containerd, and what each of them reports about itself.

use std::collections::BTreeMap;

use containerd_client::services::v1::PluginsRequest;
use containerd_client::services::v1::introspection_client::IntrospectionClient;

use super::session::MAX_MESSAGE;
use super::{Error, Session};
use crate::Context;

/// The type of the plugins that keep root file systems.
pub(crate) const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// A plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plugin {
    /// The values that the plugin exports. containerd's own snapshotters export the directory of their files as `root`.
    pub(crate) exports: BTreeMap<String, String>,
}

/// The introspection service.
#[derive(Debug, Clone)]
pub(crate) struct Introspection {
    session: Session,
}

impl Introspection {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// The plugin of this type and name, if there is one.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn plugin(
        &self,
        ctx: &Context,
        kind: &str,
        name: &str,
    ) -> Result<Option<Plugin>, Error> {
        let mut client =
            IntrospectionClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE);
        let message = PluginsRequest {
            filters: vec![format!("type=={kind:?},id=={name:?}")],
        };
        let reply = self
            .session
            .call(ctx, "Introspection/Plugins", name)
            .read(message, |r| async move { client.plugins(r).await })
            .await?;
        let found = reply.plugins.into_iter().next();
        Ok(found.map(|plugin| Plugin {
            exports: plugin.exports.into_iter().collect(),
        }))
    }
}
