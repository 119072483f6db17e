//! containerd's version. Also the cheapest check that containerd answers.

use containerd_client::services::v1::version_client::VersionClient;

use super::{Error, Session};
use crate::Context;

/// The version that the server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerVersion {
    /// The version, as in `1.6.20~ds1` or `v2.1.3`.
    pub(crate) version: String,
    /// The commit that the server was built from.
    pub(crate) revision: String,
}

/// The version service.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    session: Session,
}

impl Version {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Asks the server for its version.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn version(&self, ctx: &Context) -> Result<ServerVersion, Error> {
        let mut client = VersionClient::new(self.session.channel());
        let reply = self
            .session
            .call(ctx, "Version/Version", "")
            .read((), |r| async move { client.version(r).await })
            .await?;
        Ok(ServerVersion {
            version: reply.version,
            revision: reply.revision,
        })
    }
}
