//! The event stream, reduced to the events that fnctr acts on.
//!
//! containerd answers a subscription only with its first event, so a silent stream may not be in force yet. A caller
//! that starts a task right after subscribing could then miss its exit. Therefore the subscription also matches a topic
//! of this crate, and events are published on that topic until the stream opens: the echo proves that the subscription
//! is in force.

use std::time::{Duration, SystemTime};

use containerd_client::events as wire;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost_types::Any;
use tonic::Streaming;
use tonic::transport::Channel;

use super::any::{moment, unpack};
use super::session::MAX_MESSAGE;
use super::{Error, Session};
use crate::Context;

const EXIT_TOPIC: &str = "/tasks/exit";
const EXIT_TYPE: &str = "containerd.events.TaskExit";
const OOM_TOPIC: &str = "/tasks/oom";
const OOM_TYPE: &str = "containerd.events.TaskOOM";
#[cfg(feature = "cli")]
/// The topics of what changes a record or makes or starts a task, with the types of their events.
const CHANGES: [(&str, &str); 5] = [
    ("/containers/create", "containerd.events.ContainerCreate"),
    ("/containers/update", "containerd.events.ContainerUpdate"),
    ("/containers/delete", "containerd.events.ContainerDelete"),
    ("/tasks/create", "containerd.events.TaskCreate"),
    ("/tasks/start", "containerd.events.TaskStart"),
];
const ECHO_TOPIC: &str = "/fnctr/subscribed";
/// The interval between the published events. Once the subscription is in force, an event comes back within a
/// millisecond.
const ECHO_EVERY: Duration = Duration::from_millis(5);

/// An event of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskEvent {
    /// A process ended.
    Exit(TaskExit),
    /// The task's shim noticed an out-of-memory kill in the container. On cgroup v2 the count of kills in
    /// `memory.events` rose (since 1.5.11 and 1.6.2; before that, the count of allocations about to fail). On v1 the
    /// kernel sent the notice that precedes a kill. The event may come before or after the exit that it explains
    /// (containerd#12714), or not at all (containerd#8893).
    Oom {
        /// The container.
        container_id: String,
    },
}

/// A process of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskExit {
    /// The container of the process.
    pub(crate) container_id: String,
    /// The id of the process: the container's id for its main process, else the id of an exec.
    pub(crate) id: String,
    /// The pid of the process.
    pub(crate) pid: u32,
    /// The exit code; 128 + N if signal N ended the process.
    pub(crate) code: u32,
    /// When the process ended.
    pub(crate) at: Option<SystemTime>,
}

impl TaskExit {
    /// Whether the process was the container's main process, so that the container has ended.
    pub(crate) fn is_init(&self) -> bool {
        self.id.is_empty() || self.id == self.container_id
    }
}

/// The events service.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    session: Session,
}

impl Events {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Subscribes to the ends of processes, and to memory that runs out, in the session's containerd namespace. When this
    /// returns, the subscription is in force: no later event is missed while the stream lives.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn tasks(&self, ctx: &Context) -> Result<Subscription<TaskEvent>, Error> {
        self.subscribe(ctx, &[EXIT_TOPIC, OOM_TOPIC], task_event).await
    }

    #[cfg(feature = "cli")]
    /// Likewise, to the ids of the containers whose record is made, updated or removed, or whose task is made or started.
    ///
    /// # Errors
    /// Those of every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn changes(&self, ctx: &Context) -> Result<Subscription<String>, Error> {
        self.subscribe(ctx, &CHANGES.map(|(topic, _)| topic), changed)
            .await
    }

    async fn subscribe<T>(
        &self,
        ctx: &Context,
        topics: &[&str],
        decode: Decode<T>,
    ) -> Result<Subscription<T>, Error> {
        let namespace = self.session.namespace().as_str();
        let filter = |topic: &&str| format!("namespace==\"{namespace}\",topic==\"{topic}\"");
        let message = SubscribeRequest {
            filters: topics.iter().chain(&[ECHO_TOPIC]).map(filter).collect(),
        };
        let mut client = self.client();
        let call = self.session.call(ctx, "Events/Subscribe", namespace).lasting();
        let opening = call.read(message, |r| async move { client.subscribe(r).await });
        tokio::pin!(opening);
        loop {
            tokio::select! {
                biased;
                stream = &mut opening => {
                    let (session, stream) = (self.session.clone(), stream?);
                    return Ok(Subscription { session, stream, decode });
                }
                () = tokio::time::sleep(ECHO_EVERY) => self.echo(ctx).await?,
            }
        }
    }

    async fn echo(&self, ctx: &Context) -> Result<(), Error> {
        let mut client = self.client();
        // Any registered type works, because the content is not read.
        let event = Any {
            type_url: "containerd.events.NamespaceUpdate".to_owned(),
            value: Vec::new(),
        };
        let message = PublishRequest {
            topic: ECHO_TOPIC.to_owned(),
            event: Some(event),
        };
        self.session
            .call(ctx, "Events/Publish", ECHO_TOPIC)
            .read(message, |r| async move { client.publish(r).await })
            .await?;
        Ok(())
    }

    fn client(&self) -> EventsClient<Channel> {
        EventsClient::new(self.session.channel()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// How an event is read; `None` for one that the subscription is not about.
type Decode<T> = fn(&Envelope) -> Option<Result<T, prost::DecodeError>>;

/// A subscription in force.
#[derive(Debug)]
pub(crate) struct Subscription<T> {
    session: Session,
    stream: Streaming<Envelope>,
    decode: Decode<T>,
}

impl<T> Subscription<T> {
    /// Returns the next event.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] when the stream has ended. Events may have been missed then: subscribe again, and
    /// check what they are about.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self, ctx: &Context) -> Result<T, Error> {
        let namespace = self.session.namespace().as_str();
        let call = self
            .session
            .call(ctx, "Events/Subscribe", namespace)
            .ceiling(None);
        loop {
            let Some(envelope) = call.step(self.stream.message()).await? else {
                return Err(call.fail(tonic::Status::unavailable("the event stream ended")));
            };
            match (self.decode)(&envelope) {
                Some(Ok(event)) => return Ok(event),
                Some(Err(why)) => return Err(call.malformed(why.to_string())),
                None => {}
            }
        }
    }
}

#[cfg(feature = "cli")]
/// The container that an event of [`CHANGES`] is about.
fn changed(envelope: &Envelope) -> Option<Result<String, prost::DecodeError>> {
    let event = envelope.event.as_ref()?;
    let [create, update, delete, task, start] = CHANGES.map(|(_, kind)| kind);
    let created = || Some(unpack(event, create)?.map(|e: wire::ContainerCreate| e.id));
    let updated = || Some(unpack(event, update)?.map(|e: wire::ContainerUpdate| e.id));
    let deleted = || Some(unpack(event, delete)?.map(|e: wire::ContainerDelete| e.id));
    let made = || Some(unpack(event, task)?.map(|e: wire::TaskCreate| e.container_id));
    let started = || Some(unpack(event, start)?.map(|e: wire::TaskStart| e.container_id));
    created()
        .or_else(updated)
        .or_else(deleted)
        .or_else(made)
        .or_else(started)
}

fn task_event(envelope: &Envelope) -> Option<Result<TaskEvent, prost::DecodeError>> {
    let event = envelope.event.as_ref()?;
    let exit = || {
        let exit: Result<wire::TaskExit, _> = unpack(event, EXIT_TYPE)?;
        Some(exit.map(|exit| {
            TaskEvent::Exit(TaskExit {
                container_id: exit.container_id,
                id: exit.id,
                pid: exit.pid,
                code: exit.exit_status,
                at: moment(exit.exited_at),
            })
        }))
    };
    let oom = || {
        let oom: Result<wire::TaskOom, _> = unpack(event, OOM_TYPE)?;
        Some(oom.map(|oom| TaskEvent::Oom {
            container_id: oom.container_id,
        }))
    };
    exit().or_else(oom)
}
