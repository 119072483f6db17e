//! `events`: shows past and new events.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use super::Invocation;
use super::args::containers::EventsArgs;
use super::connect::Connection;
use super::failure::Failure;
use super::filter::Filters;
use super::interrupt::Interrupt;
use super::output::{Print, note};
use super::template::{Fields, Template};
use crate::clock;
use crate::engine::{Event, EventKind, Follower, Next, Reference};

/// The keys by which events can be filtered.
const KEYS: [&str; 7] = [
    "type",
    "event",
    "container",
    "image",
    "network",
    "volume",
    "label",
];

/// The fields of a template.
const FIELDS: [(&str, &str); 6] = [
    ("Time", "TIME"),
    ("Type", "TYPE"),
    ("Action", "ACTION"),
    ("ID", "ID"),
    ("ExitCode", "EXIT CODE"),
    ("Image", "IMAGE"),
];

/// Shows events until a signal, or until the time that the user gave.
pub(super) async fn events(
    invocation: Invocation<'_>,
    args: &EventsArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let filters = Filters::parse(&args.filter, &KEYS).map_err(Failure::usage)?;
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let template = args.format.as_deref().map(|text| Template::parse(text, &names));
    let show = Show {
        filters,
        template: template.transpose().map_err(Failure::usage)?,
        print,
        interrupt: invocation.interrupt,
    };
    // With an engine, which notices the end of a container that no other process looks after.
    let connection = Connection::open(invocation, |_| {}).await?;
    let shown = async {
        let mut follower = connection
            .engine
            .events(args.since)
            .map_err(|error| Failure::host(&error))?;
        // A signal is how this command ends.
        let mut wishes = invocation.interrupt.pass_on();
        tokio::select! {
            shown = show.until(&mut follower, args.until) => shown,
            _ = wishes.next() => Ok(()),
        }
    };
    let shown = shown.await;
    connection.close().await;
    shown.map(|()| ExitCode::SUCCESS)
}

struct Show<'a> {
    filters: Filters,
    template: Option<Template>,
    print: &'a Print,
    interrupt: &'a Interrupt,
}

impl Show<'_> {
    /// Shows the events in the log, and then each new one, until a moment if one is given.
    async fn until(&self, follower: &mut Follower, until: Option<SystemTime>) -> Result<(), Failure> {
        loop {
            let next = match until {
                None => follower.next().await.map(Some),
                Some(until) => {
                    let left = until.duration_since(clock::now()).unwrap_or_default();
                    match tokio::time::timeout(left, follower.next()).await {
                        Ok(next) => next.map(Some),
                        // Events that were written before the moment and are not read yet.
                        Err(_) => follower.next_now(),
                    }
                }
            };
            match next.map_err(|error| Failure::host(&error))? {
                None => return Ok(()),
                // The clock was set back meanwhile; later events in the log may have earlier times.
                Some(Next::Event(event)) if until.is_some() && event.at > clock::now() => {}
                Some(Next::Event(event)) if until.is_some_and(|until| event.at > until) => return Ok(()),
                Some(Next::Event(event)) => {
                    if self.show(&event).is_err() {
                        self.interrupt.nobody_reads();
                        return Ok(());
                    }
                }
                Some(Next::Gap) => {
                    note("fnctr: some events are missing here: more happened than the log holds")
                }
            }
        }
    }

    fn show(&self, event: &Event) -> io::Result<()> {
        if !self.wants(event) {
            return Ok(());
        }
        let lines = match &self.template {
            None if !self.print.is_json() => vec![text(event)],
            None | Some(Template::Json) => vec![value(event).to_string()],
            Some(template) => template.render(&[fields(event)], &FIELDS.into_iter().collect()),
        };
        let mut out = io::stdout().lock();
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    fn wants(&self, event: &Event) -> bool {
        let of_kind = |key: &str, kind: EventKind| {
            let is = |wanted: &str| event.kind == kind && event.id == wanted;
            self.filters.any(key, is)
        };
        let image = |wanted: &str| {
            let of = match event.kind {
                EventKind::Image => Some(&event.id),
                _ => event.attributes.get("image"),
            };
            of.is_some_and(|of| {
                of == wanted || Reference::parse(wanted).is_ok_and(|name| name.to_string() == *of)
            })
        };
        self.filters.any("type", |kind| event.kind.to_string() == kind)
            && self
                .filters
                .any("event", |action| event.action.to_string() == action)
            && of_kind("container", EventKind::Container)
            && of_kind("network", EventKind::Network)
            && of_kind("volume", EventKind::Volume)
            && self.filters.any("image", image)
            && self.filters.labels(&event.attributes)
    }
}

/// The line of an event, as in docker.
fn text(event: &Event) -> String {
    let attributes: Vec<_> = event
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let attributes = match attributes.is_empty() {
        true => String::new(),
        false => format!(" ({})", attributes.join(", ")),
    };
    format!(
        "{} {} {} {}{attributes}",
        time(event),
        event.kind,
        event.action,
        event.id
    )
}

fn value(event: &Event) -> serde_json::Value {
    serde_json::json!({
        "time": time(event),
        "type": event.kind.to_string(),
        "action": event.action.to_string(),
        "id": event.id,
        "attributes": event.attributes,
    })
}

fn fields(event: &Event) -> Fields {
    let attribute = |name: &str| event.attributes.get(name).cloned().unwrap_or_default();
    Fields {
        values: BTreeMap::from([
            ("Time", time(event)),
            ("Type", event.kind.to_string()),
            ("Action", event.action.to_string()),
            ("ID", event.id.clone()),
            ("ExitCode", attribute("exitCode")),
            ("Image", attribute("image")),
        ]),
        labels: event.attributes.clone(),
    }
}

/// The event's time in UTC, to the microsecond.
fn time(event: &Event) -> String {
    let mut at = prost_types::Timestamp::from(event.at);
    at.nanos -= at.nanos % 1000;
    at.to_string()
}
