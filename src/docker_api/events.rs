//! `GET /events`: what has happened since a time, and then what happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, line};
use super::containers::{Front, shown};
use super::door::Door;
use super::filters::Filters;
use super::refused::Refused;
use super::request::Request;
use super::time::{moment, unix_nanos, unix_seconds};
use crate::clock;
use crate::engine::{Action, Event, EventKind, Follower, Next, Reference, label};

const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The events that pass the filters. The head of the answer comes at once.
pub(super) fn events(door: &Arc<Door>, request: &Request) -> Result<Answer, Refused> {
    let filters = Filters::of(&request.query, &FILTERS)?;
    let time = |name: &str| {
        let given = request.query.get(name);
        given
            .map(|text| {
                moment(text).ok_or_else(|| {
                    Refused::failed(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
                })
            })
            .transpose()
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(after), Some(before)) = (request.query.get("since"), request.query.get("until"))
        && since > until
    {
        return Err(Refused::bad(format!(
            "`since` time ({after}) cannot be after `until` time ({before})"
        )));
    }
    let follower = door
        .engine
        .events(since)
        .map_err(|error| Refused::failed(crate::chain(&error)))?;
    let told = Told {
        door: Arc::clone(door),
        follower,
        filters,
        until,
        ends_at: until.map(|until| Instant::now() + until.duration_since(clock::now()).unwrap_or_default()),
        client: request.client.clone(),
        known: BTreeMap::new(),
    };
    let lines = stream::unfold(told, |mut told| async move {
        let line = told.next().await?;
        Some((line, told))
    });
    Ok(Answer::json_stream(lines))
}

/// Events as one client hears of them.
struct Told {
    door: Arc<Door>,
    follower: Follower,
    filters: Filters,
    until: Option<SystemTime>,
    ends_at: Option<Instant>,
    client: crate::Context,
    /// The names, images and labels of containers, which may be removed by the time of a later event.
    known: BTreeMap<String, BTreeMap<String, String>>,
}

impl Told {
    /// The next line; `None` if there is none any more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let now = self.follower.next_now().ok()?;
            let next = match (now, self.ends_at) {
                (Some(next), _) => next,
                (None, Some(at)) => {
                    let (client, follower) = (self.client.clone(), &mut self.follower);
                    tokio::select! {
                        next = client.run(follower.next()) => next.ok()?.ok()?,
                        () = sleep_until(at) => return None,
                    }
                }
                (None, None) => self.client.clone().run(self.follower.next()).await.ok()?.ok()?,
            };
            let Next::Event(event) = next else {
                tracing::info!("events were dropped before a client had read them");
                continue;
            };
            if self.until.is_some_and(|until| event.at > until) {
                return None;
            }
            let attributes = self.attributes(&event);
            if passes(&self.filters, &event, &attributes) {
                return Some(line(&shape(&event, &attributes)));
            }
        }
    }

    fn attributes(&mut self, event: &Event) -> BTreeMap<String, String> {
        let mut attributes: BTreeMap<String, String> = match event.kind {
            EventKind::Container => self.of_container(event),
            EventKind::Image => [("name".to_owned(), familiar(&event.id))].into(),
            EventKind::Volume => [("driver".to_owned(), "local".to_owned())].into(),
            EventKind::Network => [
                ("name".to_owned(), event.id.clone()),
                ("type".to_owned(), "bridge".to_owned()),
            ]
            .into(),
        };
        attributes.extend(shown(&event.attributes));
        if event.action == Action::Rename
            && let Some(old) = attributes.get_mut("oldName")
        {
            old.insert(0, '/');
        }
        if let Some(image) = attributes.get_mut("image") {
            *image = familiar(image);
        }
        attributes
    }

    /// What later events of a container repeat.
    fn of_container(&mut self, event: &Event) -> BTreeMap<String, String> {
        if let Ok(served) = self.door.server.find(&event.id) {
            let container = served.look();
            let mut known = shown(&container.labels);
            let image = Front::of(&served)
                .map_or_else(|| familiar(&container.image), |front| front.image().to_owned());
            known.insert("image".to_owned(), image);
            known.insert(
                "name".to_owned(),
                container.name.unwrap_or_else(|| container.id.to_string()),
            );
            self.known.insert(event.id.clone(), known);
        } else if event.action == Action::Create {
            let mut known = shown(&event.attributes);
            known.entry("name".to_owned()).or_insert_with(|| event.id.clone());
            self.known.insert(event.id.clone(), known);
        }
        let known = match event.action {
            Action::Destroy => self.known.remove(&event.id),
            _ => self.known.get(&event.id).cloned(),
        };
        known.unwrap_or_else(|| {
            [
                ("name".to_owned(), event.id.clone()),
                ("image".to_owned(), String::new()),
            ]
            .into()
        })
    }
}

/// The name of an image as users write it.
fn familiar(name: &str) -> String {
    let short = Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar());
    short.strip_suffix(":latest").unwrap_or(&short).to_owned()
}

fn passes(filters: &Filters, event: &Event, attributes: &BTreeMap<String, String>) -> bool {
    let (kind, kind_of_action, action) = (event.kind.to_string(), event.action.to_string(), action(event));
    let is = |of: EventKind, wanted: &str| {
        let name = attributes.get("name").map(String::as_str).unwrap_or_default();
        event.kind == of && (event.id.starts_with(wanted) || name == wanted)
    };
    let is_image = |wanted: &str| {
        let image = attributes
            .get("image")
            .or_else(|| attributes.get("name"))
            .map(String::as_str)
            .unwrap_or_default();
        familiar(wanted) == image || is(EventKind::Image, wanted)
    };
    filters.any("type", |wanted| wanted == kind)
        && filters.any("event", |wanted| wanted == kind_of_action || wanted == action)
        && filters.any("container", |wanted| is(EventKind::Container, wanted))
        && filters.any("network", |wanted| is(EventKind::Network, wanted))
        && filters.any("volume", |wanted| is(EventKind::Volume, wanted))
        && filters.any("image", is_image)
        && filters.any("scope", |wanted| wanted == "local")
        && ["config", "daemon", "node", "plugin", "secret", "service"]
            .iter()
            .all(|name| filters.any(name, |_| false))
        && filters.labels(attributes)
}

/// The action as Docker names it: that of an exec with the command.
fn action(event: &Event) -> String {
    match event.attributes.get(label::COMMAND) {
        Some(command) if matches!(event.action, Action::ExecCreate | Action::ExecStart) => {
            format!("{}: {command}", event.action)
        }
        _ => match event.attributes.get(label::HEALTH) {
            Some(health) => format!("{}: {health}", event.action),
            None => event.action.to_string(),
        },
    }
}

/// An event in Docker's form.
fn shape(event: &Event, attributes: &BTreeMap<String, String>) -> Value {
    let action = action(event);
    let mut shape = json!({
        "Type": event.kind.to_string(), "Action": action,
        "Actor": { "ID": event.id, "Attributes": attributes },
        "scope": "local", "time": unix_seconds(event.at), "timeNano": unix_nanos(event.at),
    });
    let from = match event.kind {
        EventKind::Container => attributes.get("image"),
        EventKind::Image => None,
        EventKind::Network | EventKind::Volume => return shape,
    };
    if let Some(shape) = shape.as_object_mut() {
        shape.insert("status".to_owned(), json!(action));
        shape.insert("id".to_owned(), json!(event.id));
        if let Some(from) = from {
            shape.insert("from".to_owned(), json!(from));
        }
    }
    shape
}
