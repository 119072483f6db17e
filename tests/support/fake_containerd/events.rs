//! The Events service. Events cross containerd namespaces; a subscriber filters for its own.
//!
//! As with a server in Go, a subscriber gets nothing at all, not even the headers of the reply, before its first event:
//! who waits for the reply to `Subscribe` before causing an event waits for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use containerd_client::services::v1 as api;
use containerd_client::types::Envelope;
use prost::{Message, Name};
use prost_types::Any;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::{StreamExt, iter};

use super::Fake;
use super::filter;
use super::grpc::{Call, Replies, Service};
use super::state::now;

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.events.v1.Events")
        .plain("Publish", publish)
        .streaming("Subscribe", subscribe)
        .routes()
}

impl Fake {
    /// Tells the subscribers, if there are any.
    pub(super) fn publish<E: Message + Name>(&self, namespace: &str, topic: &str, event: &E) {
        self.send(namespace, topic, Some(containerd_client::to_any(event)));
    }

    fn send(&self, namespace: &str, topic: &str, event: Option<Any>) {
        let told = self.events.send(Envelope {
            timestamp: now(),
            namespace: namespace.into(),
            topic: topic.into(),
            event,
        });
        // Nobody listens: then nobody missed anything.
        drop(told);
    }
}

fn publish(fake: &Fake, call: &Call, request: api::PublishRequest) -> Result<(), Status> {
    fake.send(call.namespace()?, &request.topic, request.event);
    Ok(())
}

async fn subscribe(
    fake: Arc<Fake>,
    call: Call,
    request: api::SubscribeRequest,
) -> Result<Replies<Envelope>, Status> {
    if call.timeout.is_some() {
        fake.bounded_subscriptions.fetch_add(1, Ordering::AcqRel);
    }
    let mut events = fake.events.subscribe();
    filter::matches(&request.filters, |_| None)?;
    let (replies, mut stream) = mpsc::channel(16);
    let stop = fake.stop.clone();
    let mut broken = fake.subscriptions.subscribe();
    fake.tracker.spawn(async move {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                _ = broken.changed() => return,
                () = replies.closed() => return,
                event = events.recv() => event,
            };
            let event = match event {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            let field = |path: &str| match path {
                "topic" => Some(event.topic.clone()),
                "namespace" => Some(event.namespace.clone()),
                _ => None,
            };
            if filter::matches(&request.filters, field).unwrap_or(false)
                && replies.send(Ok(event)).await.is_err()
            {
                return;
            }
        }
    });
    let first = stream.recv().await;
    Ok(Box::pin(iter(first).chain(ReceiverStream::new(stream))))
}
