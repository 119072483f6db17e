//! The event stream, reduced to what is needed of it: the exits of tasks.
//!
//! containerd answers a subscription only with its first event, so a stream that says nothing may not be in force yet.
//! Whoever starts a task right after subscribing could then miss its exit. The subscription therefore also matches a
//! topic of our own, on which we publish until the stream opens: the echo proves that it is in force.

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
const ECHO_TOPIC: &str = "/fnctr/subscribed";
/// A published event comes back within a millisecond once the subscription is in force.
const ECHO_EVERY: Duration = Duration::from_millis(5);

/// A process of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskExit {
    /// Whose process.
    pub(crate) container_id: String,
    /// Which one: the container's id again for its main process, else the id of an exec.
    pub(crate) id: String,
    /// Its pid.
    pub(crate) pid: u32,
    /// Its exit code; 128 + N if signal N ended it.
    pub(crate) code: u32,
    /// When.
    pub(crate) at: Option<SystemTime>,
}

impl TaskExit {
    /// It was the container's main process: the container has ended.
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

    /// Subscribes to the exits in the session's containerd namespace. When this returns, the subscription is in force:
    /// no exit from now on is missed while the stream lives.
    ///
    /// # Errors
    /// As every call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn exits(&self, ctx: &Context) -> Result<Exits, Error> {
        let namespace = self.session.namespace().as_str();
        let filter = |topic| format!("namespace==\"{namespace}\",topic==\"{topic}\"");
        let message = SubscribeRequest {
            filters: vec![filter(EXIT_TOPIC), filter(ECHO_TOPIC)],
        };
        let mut client = self.client();
        let call = self
            .session
            .call(ctx, "Events/Subscribe", namespace)
            .ceiling(None);
        let opening = call.read(message, |r| async move { client.subscribe(r).await });
        tokio::pin!(opening);
        loop {
            tokio::select! {
                biased;
                stream = &mut opening => {
                    return Ok(Exits { session: self.session.clone(), stream: stream? });
                }
                () = tokio::time::sleep(ECHO_EVERY) => self.echo(ctx).await?,
            }
        }
    }

    async fn echo(&self, ctx: &Context) -> Result<(), Error> {
        let mut client = self.client();
        // Any registered type will do; nobody looks inside.
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

/// A subscription in force.
#[derive(Debug)]
pub(crate) struct Exits {
    session: Session,
    stream: Streaming<Envelope>,
}

impl Exits {
    /// The next exit.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] when the stream has ended: subscribe again, and look at every task, since exits may
    /// have been missed in between.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self, ctx: &Context) -> Result<TaskExit, Error> {
        let namespace = self.session.namespace().as_str();
        let call = self
            .session
            .call(ctx, "Events/Subscribe", namespace)
            .ceiling(None);
        loop {
            let Some(envelope) = call.step(self.stream.message()).await? else {
                return Err(call.fail(tonic::Status::unavailable("the event stream ended")));
            };
            match exit_in(&envelope) {
                Some(Ok(exit)) => return Ok(exit),
                Some(Err(why)) => return Err(call.malformed(why.to_string())),
                None => {}
            }
        }
    }
}

fn exit_in(envelope: &Envelope) -> Option<Result<TaskExit, prost::DecodeError>> {
    let event: Result<wire::TaskExit, _> = unpack(envelope.event.as_ref()?, EXIT_TYPE)?;
    Some(event.map(|event| TaskExit {
        container_id: event.container_id,
        id: event.id,
        pid: event.pid,
        code: event.exit_status,
        at: moment(event.exited_at),
    }))
}
