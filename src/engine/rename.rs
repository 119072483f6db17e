//! Gives a container another name.

use std::sync::Arc;

use super::container::Container;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::turn::Turn;
use super::{find, label, names, record};
use crate::containerd::Field;
use crate::events::{Action, Event, Kind as EventKind};
use crate::{ContainerName, Context};

/// Why a container cannot be renamed.
#[derive(Debug, thiserror::Error)]
enum NotRenamed {
    #[error("it was not made to be kept, and its id is its name")]
    NotKept,
    #[error("it was removed")]
    Removed,
    #[error("it is being removed")]
    Removing,
}

impl Container {
    /// Gives a kept container another name, whether it runs or not.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if a container has the name, or has it as its id; [`Kind::OutOfOrder`] if the container is not
    /// kept; [`Kind::NotFound`] if it was removed.
    ///
    /// # Cancellation
    /// Safe to drop: continues on its own task, with its own time limit.
    pub(crate) async fn rename(&self, name: ContainerName) -> Result<()> {
        let this = self.clone();
        let rename = async move {
            let ctx = Context::timeout(this.deps().config.close_grace);
            this.rename_here(&ctx, &name).await
        };
        self.deps().finished(rename).await
    }

    async fn rename_here(&self, ctx: &Context, name: &ContainerName) -> Result<()> {
        let (deps, id) = (Arc::clone(self.deps()), self.id());
        let refuse = |kind, why| Err(Error::new(Step::Rename, id, kind, why));
        if !self.is_kept() {
            return refuse(Kind::OutOfOrder, NotRenamed::NotKept);
        }
        // In the order of a create.
        let _turn = Turn::take(&deps, ctx, id).await?;
        let _name = names::reserve(&deps, ctx, name, id).await?;
        let mut record = find::get(&deps, ctx, id).await?;
        if record::attempt_of(&record) != self.attempt() {
            return refuse(Kind::NotFound, NotRenamed::Removed);
        }
        if deps.is_being_removed(id, self.attempt()) {
            return refuse(Kind::OutOfOrder, NotRenamed::Removing);
        }
        let old = record.labels.insert(label::NAME.to_owned(), name.to_string());
        let written = deps
            .session
            .containers()
            .update(ctx, &record, &[Field::Labels])
            .await;
        written.at(Step::Rename, id)?;
        let event = Event::new(EventKind::Container, Action::Rename, id.as_str());
        let old = old.unwrap_or_else(|| id.to_string());
        deps.record(event.with("name", name.as_str()).with("oldName", old));
        Ok(())
    }
}
