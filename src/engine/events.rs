//! Which events the engine records, and how.

use std::path::Path;

use super::run::Run;
use super::wait::Exit;
use super::{Deps, Engine, Plan};
use crate::events::{Action, Event, EventLog, Follower, Kind};
use crate::image::{Loaded, Removed};
use crate::{ContainerId, Namespace};

/// The log's directory below that of the containerd namespace; a container's name never begins with a dot.
const DIR: &str = ".events";

/// The log of the instance that has this directory and containerd namespace.
pub(crate) fn event_log(run_dir: &Path, namespace: &Namespace) -> EventLog {
    EventLog::new(run_dir.join(namespace.as_str()).join(DIR))
}

impl Deps {
    /// Records an event.
    pub(super) fn record(&self, event: Event) {
        if !self.events.record(event) {
            self.metrics().lost_event();
        }
    }

    /// Records that something has happened to a container.
    pub(super) fn tell(&self, action: Action, id: &ContainerId) {
        self.record(Event::new(Kind::Container, action, id.as_str()));
    }

    /// Records that a container was made.
    pub(super) fn tell_created(&self, plan: &Plan) {
        let event = Event::new(Kind::Container, Action::Create, plan.id.as_str());
        let mut event = event.with("image", plan.image.to_string());
        event.attributes.extend(plan.labels.clone());
        if let Some(name) = &plan.name {
            event.attributes.insert("name".to_owned(), name.to_string());
        }
        self.record(event);
    }

    /// Records that a container's process has ended, and before that whether memory ran out.
    pub(super) fn tell_end(&self, id: &ContainerId, exit: &Exit) {
        if exit.oom.as_ref().is_some_and(|oom| oom.kills > 0) {
            self.tell(Action::Oom, id);
        }
        let event = Event::new(Kind::Container, Action::Die, id.as_str());
        self.record(match exit.code {
            Some(code) => event.with("exitCode", code.to_string()),
            None => event,
        });
    }

    /// Records that images were loaded.
    pub(super) fn tell_loaded(&self, loaded: &Loaded) {
        for image in &loaded.images {
            self.record(Event::new(Kind::Image, Action::Load, &image.record));
        }
    }

    /// Records that names of images were removed, and with them images.
    pub(super) fn tell_removed(&self, removed: &Removed) {
        for name in &removed.names {
            self.record(Event::new(Kind::Image, Action::Untag, name));
        }
        for id in &removed.ids {
            self.record(Event::new(Kind::Image, Action::Delete, id.as_str()));
        }
    }
}

impl Run {
    /// Records that the container was frozen or thawed on request. A function's own freezes, which take microseconds,
    /// are not recorded.
    pub(crate) fn tell(&self, action: Action) {
        self.deps().tell(action, self.id());
    }
}

impl Engine {
    /// The events of this instance: those since a time, if one is given, and then each new one.
    ///
    /// # Errors
    /// The log's directory cannot be made or watched.
    pub(crate) fn events(&self, since: Option<std::time::SystemTime>) -> std::io::Result<Follower> {
        self.0.events.follow(since)
    }
}
