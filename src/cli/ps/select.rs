//! Selects the containers that `ps` shows.

use super::row::Row;
use crate::cli::filter::Filters;
use crate::engine::{ListedContainer, Reference, State};

/// The keys by which a list of containers can be filtered.
pub(super) const KEYS: [&str; 6] = ["id", "name", "label", "status", "ancestor", "network"];

/// The names of states. Docker's name for `frozen` is `paused`.
const STATES: [&str; 9] = [
    "created",
    "running",
    "frozen",
    "paused",
    "restarting",
    "exited",
    "removing",
    "dead",
    "lost",
];

/// The containers that the user asked for.
#[derive(Debug)]
pub(super) struct Selection {
    all: bool,
    filters: Filters,
}

impl Selection {
    /// # Errors
    /// Returns a sentence that names the state if a filter names an unknown one.
    pub(super) fn new(all: bool, filters: Filters) -> Result<Self, String> {
        let unknown = |state: &&String| !STATES.contains(&state.as_str());
        if let Some(state) = filters.of("status").iter().find(unknown) {
            return Err(format!(
                "--filter status has no {state:?}; there are {}",
                STATES.join(", ")
            ));
        }
        // A filter by state implies --all, since it may ask for containers that have ended.
        let all = all || !filters.of("status").is_empty();
        Ok(Self { all, filters })
    }

    pub(super) fn has(&self, container: &ListedContainer, row: &Row) -> bool {
        let ended = matches!(container.state, State::Exited(_) | State::Removing | State::Dead)
            || container.waits_for_a_start();
        let filters = &self.filters;
        let image = |text: &str| {
            let name = Reference::parse(text).map(|name| name.to_string());
            row.image == text || name.is_ok_and(|name| row.image == name)
        };
        // An orphaned container is shown in every state, because it has to be removed.
        (self.all || !ended || container.is_orphaned())
            && filters.any("id", |id| row.id.starts_with(id))
            && filters.any("name", |name| row.name.contains(name))
            && filters.any("status", |state| {
                row.state == state || (state == "paused" && row.state == "frozen")
            })
            && filters.any("ancestor", image)
            && filters.any("network", |network| row.network.as_deref() == Some(network))
            && filters.labels(&container.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_is_refused_with_the_known_ones() {
        let filters = |state: &str| {
            let given = [format!("status={state}")];
            Selection::new(false, Filters::parse(&given, &KEYS).unwrap())
        };
        assert!(filters("paused").unwrap().all);
        assert!(filters("sleeping").unwrap_err().contains("created, running"));
    }
}
