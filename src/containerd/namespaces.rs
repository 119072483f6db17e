//! containerd namespaces: the tenants of one server. Not related to the kernel's namespaces.

use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::{
    CreateNamespaceRequest, DeleteNamespaceRequest, ListNamespacesRequest, Namespace as Wire,
};
use tonic::transport::Channel;

use super::session::MAX_MESSAGE;
use super::{Error, Session};
use crate::{Context, Namespace};

/// The namespaces service.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    session: Session,
}

impl Namespaces {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Makes sure that the namespace exists.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn create_if_missing(&self, ctx: &Context, name: &Namespace) -> Result<(), Error> {
        let mut client = self.client();
        let message = CreateNamespaceRequest {
            namespace: Some(Wire {
                name: name.to_string(),
                ..Wire::default()
            }),
        };
        let created = self
            .session
            .call(ctx, "Namespaces/Create", name.as_str())
            .change(message, |r| async move { client.create(r).await })
            .await;
        match created {
            Err(why) if why.is_already_exists() => Ok(()),
            created => created.map(|_| ()),
        }
    }

    /// The names of all namespaces.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn list(&self, ctx: &Context) -> Result<Vec<String>, Error> {
        let mut client = self.client();
        let reply = self
            .session
            .call(ctx, "Namespaces/List", "")
            .read(ListNamespacesRequest::default(), |r| async move {
                client.list(r).await
            })
            .await?;
        Ok(reply.namespaces.into_iter().map(|found| found.name).collect())
    }

    /// Deletes an empty namespace.
    ///
    /// # Errors
    /// [`Error::is_failed_precondition`] while the namespace contains something, [`Error::is_not_found`] if there is
    /// none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete(&self, ctx: &Context, name: &Namespace) -> Result<(), Error> {
        let mut client = self.client();
        let message = DeleteNamespaceRequest {
            name: name.to_string(),
        };
        self.session
            .call(ctx, "Namespaces/Delete", name.as_str())
            .change(message, |r| async move { client.delete(r).await })
            .await?;
        Ok(())
    }

    fn client(&self) -> NamespacesClient<Channel> {
        NamespacesClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}
