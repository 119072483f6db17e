//! `GET /containers/json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::inspect::{addresses, is_attached, seen};
use super::labels;
use super::state::{self, Shown};
use super::view::Seen;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::filters::{self, Filters};
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{ListedContainer, State};

const FILTERS: [&str; 14] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
];
const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

/// The containers, newest first: those that run, or all of them.
pub(in crate::docker_api) async fn list(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let query = &request.query;
    let filters = Filters::of(query, &FILTERS)?;
    let limit = match query.get("limit") {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Ok(limit) => usize::try_from(limit).ok().filter(|limit| *limit > 0),
            Err(_) => {
                return Err(Refused::failed(format!(
                    "strconv.Atoi: parsing \"{text}\": invalid syntax"
                )));
            }
        },
    };
    let all = query.flag("all")
        || limit.is_some()
        || !filters.values("status").is_empty()
        || !filters.values("exited").is_empty();
    let chosen = choose(door, &filters, all)?;
    let chosen = chosen.into_iter().take(limit.unwrap_or(usize::MAX));
    let mut shown: Vec<Seen> = chosen.collect();
    if shown.iter().any(is_attached) {
        let mut addresses: BTreeMap<_, _> = addresses(door).await;
        for seen in &mut shown {
            seen.address = addresses.remove(seen.container.sandbox().unwrap_or_default());
        }
    }
    let entries: Vec<Value> = shown.iter().map(|seen| seen.entry(request.version)).collect();
    Ok(Answer::ok(&entries))
}

/// The containers that pass the filters, newest first.
fn choose(door: &Door, filters: &Filters, all: bool) -> Result<Vec<Seen>, Refused> {
    if let Some(bad) = filters
        .values("status")
        .iter()
        .find(|state| !STATES.contains(&state.as_str()))
    {
        let known = STATES.join(", ");
        return Err(Refused::bad(format!(
            "invalid filter 'status={bad}': invalid value for state ({bad}): must be one of {known}"
        )));
    }
    if let Some(bad) = filters
        .values("exited")
        .iter()
        .find(|code| code.parse::<i64>().is_err())
    {
        return Err(Refused::bad(format!(
            "invalid filter 'exited={bad}': strconv.Atoi: parsing \"{bad}\": invalid syntax"
        )));
    }
    if let Some(name) = ["publish", "expose"]
        .into_iter()
        .find(|name| !filters.values(name).is_empty())
    {
        return Err(Refused::bad(format!(
            "the filter {name} of containers is not served by fnctr; leave it out"
        )));
    }
    let made_at = |name: &str| -> Result<Vec<_>, Refused> {
        let named = filters.values(name).iter();
        named
            .map(|given| Ok(door.container(given)?.look().created_at))
            .collect()
    };
    let (before, since) = (made_at("before")?, made_at("since")?);
    let mut found: Vec<Seen> = Vec::new();
    for served in door.server.containers() {
        let container = served.look();
        let is_alive = matches!(
            container.state,
            State::Running | State::Frozen | State::Restarting | State::Lost
        );
        let is_between = before.iter().all(|at| container.created_at < *at)
            && since.iter().all(|at| container.created_at > *at);
        if (all || is_alive) && is_between && passes(&container, filters) {
            let seen = seen(&served);
            let health = seen.health.as_ref().map_or("none", |health| health.status.name());
            if filters.any("health", |wanted| wanted == health)
                && filters.any("network", |network| network == seen_network(&seen))
                && filters.any("ancestor", |image| is_of(&seen, image))
            {
                found.push(seen);
            }
        }
    }
    found.sort_by_key(|seen| std::cmp::Reverse(seen.container.created_at));
    Ok(found)
}

fn passes(container: &ListedContainer, filters: &Filters) -> bool {
    let name = container.name.as_deref().unwrap_or(container.id.as_str());
    let code = Shown::of(container).code.to_string();
    filters.any("id", |id| container.id.as_str().starts_with(id))
        && filters.any("name", |wanted| is_named(name, wanted))
        && filters.any("status", |status| state::word(container.state) == status)
        && filters.any("exited", |wanted| {
            matches!(container.state, State::Exited(_)) && code == wanted
        })
        && filters.any("is-task", |wanted| !["1", "true"].contains(&wanted))
        && filters.labels(&labels::shown(&container.labels))
}

/// Whether the name of a container is meant: Docker's own has a slash before it.
fn is_named(name: &str, wanted: &str) -> bool {
    filters::is_named(name, wanted) || filters::is_named(&format!("/{name}"), wanted)
}

fn seen_network(seen: &Seen) -> String {
    seen.plan
        .as_deref()
        .map(super::create::network_mode)
        .unwrap_or_default()
}

/// Whether a container was made from an image of that name or id.
fn is_of(seen: &Seen, image: &str) -> bool {
    let full = crate::engine::Reference::parse(image).map(|reference| reference.to_string());
    let id = seen
        .front
        .as_ref()
        .map(|front| front.image_id.as_str())
        .unwrap_or_default();
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    full.is_ok_and(|full| full == seen.container.image)
        || id == image
        || (image.len() >= 12 && bare.starts_with(image.strip_prefix("sha256:").unwrap_or(image)))
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_name_is_matched_from_its_beginning_and_to_its_end_if_that_is_asked_for() {
        for wanted in ["we", "^we", "^web$", "^/web$", "/web", "eb$"] {
            assert!(is_named("web", wanted), "{wanted}");
        }
        for wanted in ["^web$", "^/web$", "eb$"] {
            assert!(!is_named("web2", wanted), "{wanted}");
        }
        assert!(!is_named("my-web", "^web") && !is_named("my-web", "/web"));
    }
}
