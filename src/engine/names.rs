//! How people refer to a container: by its id, by its name, or by the beginning of an id that was made up. Ids that people
//! choose have no beginnings: `rm web` must not remove `web-2`.
//!
//! A name is a label of the record. Who makes a container with a name has the turn for that name until the record is
//! there, so no two containers get the same name. An id comes before an equal name, as with Docker.

use std::sync::Arc;

use super::config::Role;
use super::deps::{Deps, Engine};
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::label;
use super::name_index::{Holder, Mark};
use super::record::NameTaken;
use super::turn::Turn;
use crate::containerd::{self, Record};
use crate::{ContainerId, ContainerName, Context};

/// Why a text refers to no container, or to none that is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOne {
    /// No container has that id or name, or an id that begins so.
    #[error("no such container")]
    None,
    /// Several containers' ids begin so.
    #[error("the ids of several containers begin like that; give more of the id, or a name")]
    Several,
}

impl Engine {
    /// The id of the container that `given` refers to: its id, its name, or the beginning of a made-up id.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is none; [`Kind::Conflict`] if there are several.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn id_of(&self, ctx: &Context, given: &str) -> Result<ContainerId> {
        let containers = self.0.session.containers();
        if let Ok(id) = ContainerId::new(given) {
            match containers.get(ctx, &id).await {
                Ok(_) => return Ok(id),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error).at(Step::Find, given),
            }
        }
        // Anything else is part of no id and no name, and might not be a valid filter.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let records = match given.chars().all(plain) {
            true => containers
                .list(ctx, &filters(given))
                .await
                .at(Step::Find, given)?,
            false => Vec::new(),
        };
        let named = records.iter().map(|record| (&record.id, name_of(record)));
        chosen(given, named).map_err(|why| {
            let kind = match why {
                NotOne::None => Kind::NotFound,
                NotOne::Several => Kind::Conflict,
            };
            Error::new(Step::Find, given, kind, why)
        })
    }
}

/// Containers of the engine with this name, or with an id that begins so. In the filter's regular expression a dot
/// stands for any character; the caller looks again.
fn filters(given: &str) -> Vec<String> {
    let ours = label::ENGINE;
    let name = label::NAME;
    vec![
        format!("labels.{ours:?},labels.{name:?}=={given:?}"),
        format!("labels.{ours:?},id~={:?}", format!("^{given}[0-9a-f]*$")),
    ]
}

/// The name on a record, if it has one.
pub(super) fn name_of(record: &Record) -> Option<&str> {
    record.labels.get(label::NAME).map(String::as_str)
}

/// Chooses the container that `given` refers to.
pub(super) fn chosen<'a>(
    given: &str,
    containers: impl Iterator<Item = (&'a ContainerId, Option<&'a str>)>,
) -> Result<ContainerId, NotOne> {
    let mut begins = Vec::new();
    let mut named = None;
    for (id, name) in containers {
        if id.as_str() == given {
            return Ok(id.clone());
        }
        if name == Some(given) {
            named = Some(id);
        }
        if !given.is_empty() && id.is_random() && id.as_str().starts_with(given) {
            begins.push(id);
        }
    }
    match (named, begins.as_slice()) {
        (Some(id), _) => Ok(id.clone()),
        (None, [id]) => Ok((*id).clone()),
        (None, []) => Err(NotOne::None),
        (None, _) => Err(NotOne::Several),
    }
}

/// The right to give a name to one container; dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub(super) struct Reserved {
    deps: Arc<Deps>,
    name: String,
    _turn: Turn,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.deps.names.done(&self.name);
    }
}

/// Reserves the name for a container that is about to be made or renamed, until the right is given back.
///
/// # Errors
/// [`Kind::Conflict`] if a container has the name, or has it as its id.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn reserve(
    deps: &Arc<Deps>,
    ctx: &Context,
    name: &ContainerName,
    id: &ContainerId,
) -> Result<Reserved> {
    let _turn = Turn::take_name(deps, ctx, name).await?;
    let untold = |error| Error::new(Step::Record, name, Kind::Internal, error);
    let holder = deps.names.announce(name.as_str()).map_err(untold)?;
    let reserved = Reserved {
        deps: Arc::clone(deps),
        name: name.to_string(),
        _turn,
    };
    let is_taken = match holder {
        Holder::List(mark) if deps.config.role == Role::Server => {
            remember_all(deps, ctx, mark).await.at(Step::Record, name)?;
            is_taken(deps, ctx, name).await
        }
        Holder::List(_) | Holder::Unknown => is_taken(deps, ctx, name).await,
        Holder::Perhaps(id) => match has_name(deps, ctx, &id, name).await {
            Ok(false) => is_an_id(deps, ctx, name).await,
            is => is,
        },
        Holder::Nobody => is_an_id(deps, ctx, name).await,
    };
    if is_taken.at(Step::Record, name)? {
        return Err(taken_error(name));
    }
    deps.names.give(name.as_str(), id);
    Ok(reserved)
}

/// Remembers the names of all containers.
async fn remember_all(deps: &Deps, ctx: &Context, mark: Mark) -> Result<(), containerd::Error> {
    let named = [format!("labels.{:?}", label::NAME)];
    let records = deps.session.containers().list(ctx, &named).await?;
    let ids = records
        .iter()
        .filter_map(|record| Some((name_of(record)?.to_owned(), record.id.clone())));
    deps.names.remember(ids.collect(), mark);
    Ok(())
}

/// Whether any container has the name, or has it as its id. containerd looks at all records.
async fn is_taken(deps: &Deps, ctx: &Context, name: &ContainerName) -> Result<bool, containerd::Error> {
    let filters = vec![
        format!("labels.{:?}=={:?}", label::NAME, name.as_str()),
        format!("id=={:?}", name.as_str()),
    ];
    let taken = deps.session.containers().list(ctx, &filters).await?;
    Ok(!taken.is_empty())
}

async fn is_an_id(deps: &Deps, ctx: &Context, name: &ContainerName) -> Result<bool, containerd::Error> {
    let Ok(id) = ContainerId::new(name.as_str()) else {
        return Ok(false);
    };
    let record = record_of(deps, ctx, &id).await?;
    Ok(record.is_some())
}

async fn has_name(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
    name: &ContainerName,
) -> Result<bool, containerd::Error> {
    let record = record_of(deps, ctx, id).await?;
    Ok(record.as_ref().and_then(name_of) == Some(name.as_str()))
}

async fn record_of(
    deps: &Deps,
    ctx: &Context,
    id: &ContainerId,
) -> Result<Option<Record>, containerd::Error> {
    match deps.session.containers().get(ctx, id).await {
        Err(error) if error.is_not_found() => Ok(None),
        found => found.map(Some),
    }
}

fn taken_error(name: &ContainerName) -> Error {
    Error::new(Step::Record, name, Kind::Conflict, NameTaken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ContainerId {
        ContainerId::new(text).unwrap()
    }

    #[test]
    fn an_id_comes_before_a_name_and_a_name_before_the_beginning_of_an_id() {
        let made_up = |begins: &str| id(&format!("{begins}{}", "0".repeat(64 - begins.len())));
        let ids = [
            id("web"),
            id("web1"),
            made_up("ab12"),
            made_up("ab13"),
            made_up("cd"),
        ];
        let names = [None, None, Some("web"), Some("ab"), Some("c")];
        let find = |given: &str| chosen(given, ids.iter().zip(names));
        assert_eq!(find("web").unwrap(), ids[0]);
        assert_eq!(find("ab").unwrap(), ids[3]);
        assert_eq!(find("ab12").unwrap(), ids[2]);
        assert_eq!(find("c").unwrap(), ids[4]);
        assert_eq!(find("web1").unwrap(), ids[1]);
        assert_eq!(find("ab1"), Err(NotOne::Several));
        assert_eq!(find("we"), Err(NotOne::None));
        assert_eq!(find("x"), Err(NotOne::None));
        assert_eq!(find(""), Err(NotOne::None));
    }

    proptest! {
        #[test]
        fn enough_of_an_id_is_enough(of in 0_usize..50, digits in 1_usize..64) {
            let ids: Vec<_> = (0..50).map(|_| ContainerId::random()).collect();
            let given = &ids[of].as_str()[..digits];
            let alike = ids.iter().filter(|id| id.as_str().starts_with(given)).count();
            let found = chosen(given, ids.iter().map(|id| (id, None)));
            prop_assert_eq!(found, if alike == 1 { Ok(ids[of].clone()) } else { Err(NotOne::Several) });
        }
    }
}
