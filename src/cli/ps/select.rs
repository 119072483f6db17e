//! Which containers `ps` shows.

use super::row::Row;
use crate::cli::filter::Filters;
use crate::engine::{Reference, Seen, State};

/// What a list of containers can be filtered by.
pub(super) const KEYS: [&str; 6] = ["id", "name", "label", "status", "ancestor", "network"];

/// The words for states; a frozen container is a paused one to docker.
const STATES: [&str; 7] = ["created", "running", "frozen", "paused", "exited", "dead", "lost"];

/// What was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    all: bool,
    filters: Filters,
}

impl Wanted {
    /// # Errors
    /// A sentence that names a state that there is not.
    pub(super) fn new(all: bool, filters: Filters) -> Result<Self, String> {
        let unknown = |state: &&String| !STATES.contains(&state.as_str());
        if let Some(state) = filters.of("status").iter().find(unknown) {
            return Err(format!(
                "--filter status has no {state:?}; there are {}",
                STATES.join(", ")
            ));
        }
        // Whoever asks for a state wants to see it.
        let all = all || !filters.of("status").is_empty();
        Ok(Self { all, filters })
    }

    pub(super) fn has(&self, seen: &Seen, row: &Row) -> bool {
        let ended = matches!(seen.state, State::Exited(_) | State::Dead);
        let filters = &self.filters;
        let image = |text: &str| {
            let name = Reference::parse(text).map(|name| name.to_string());
            row.image == text || name.is_ok_and(|name| row.image == name)
        };
        // An orphan is shown whatever it does: somebody has to remove it.
        (self.all || !ended || seen.is_orphaned())
            && filters.any("id", |id| row.id.starts_with(id))
            && filters.any("name", |name| row.id.contains(name))
            && filters.any("status", |state| {
                row.state == state || (state == "paused" && row.state == "frozen")
            })
            && filters.any("ancestor", image)
            && filters.any("network", |network| row.network.as_deref() == Some(network))
            && filters.labels(&seen.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_there_is_not_is_refused_with_those_that_there_are() {
        let filters = |state: &str| {
            let given = [format!("status={state}")];
            Wanted::new(false, Filters::parse(&given, &KEYS).unwrap())
        };
        assert!(filters("paused").unwrap().all);
        assert!(filters("restarting").unwrap_err().contains("created, running"));
    }
}
