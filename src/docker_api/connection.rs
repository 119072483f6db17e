//! One connection: requests one after another, until the client leaves or a handler takes the connection over.
//!
//! hyper's own upgrade needs the status 101; Docker also hands a connection over after 200, and to clients of HTTP/1.0.
//! So the connection is taken apart (`Connection::into_parts`) as soon as a handler asks for it.
//!
//! A client may close its side right after an attach, which is the end of the container's input and nothing else. So
//! hyper keeps serving a half-closed connection, and a second descriptor of the socket tells handlers that wait for
//! long that the client is gone.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::answer::{Answer, Taken};
use super::client::{second, watch};
use super::door::Door;
use super::limits::Limits;
use super::router;
use crate::Context;

/// Serves a connection until it ends.
pub(super) async fn serve(stream: UnixStream, door: Arc<Door>, limits: Limits, life: Context) {
    let client = life.child();
    let _over = client.cancel_on_drop();
    let watched = match second(&stream) {
        Ok(second) => watch(second, client.clone()),
        Err(error) => {
            tracing::warn!(%error, "cannot watch a connection");
            return;
        }
    };
    let hand_over = Arc::new(HandOver::default());
    let service = {
        let (hand_over, client) = (Arc::clone(&hand_over), client.clone());
        service_fn(move |request| {
            Box::pin(answer(
                request,
                Arc::clone(&door),
                Arc::clone(&hand_over),
                client.clone(),
            ))
        })
    };
    let mut connection = http1::Builder::new()
        .half_close(true)
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(limits.headers)
        .max_buf_size(limits.buffer)
        .serve_connection(TokioIo::new(stream), service);
    let served = {
        let mut watched = pin!(watched);
        let mut asked = pin!(hand_over.asked.notified());
        let (mut is_watched, mut is_ending) = (true, false);
        loop {
            tokio::select! {
                biased;
                () = &mut asked => break Ok(()),
                served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
                () = &mut watched, if is_watched => is_watched = false,
                () = life.cancelled(), if !is_ending => {
                    is_ending = true;
                    // A request that has begun comes to its end, and no other one is taken.
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection has ended");
    }
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let Some(Taken { head, then }) = hand_over.take() else {
        drop(stream.shutdown().await);
        return;
    };
    if stream.write_all(head.as_bytes()).await.is_ok() {
        then(stream, parts.read_buf).await;
    }
}

/// Answers one request. A handler that takes the connection over ends it here: this future is dropped then.
async fn answer(
    request: hyper::Request<Incoming>,
    door: Arc<Door>,
    hand_over: Arc<HandOver>,
    client: Context,
) -> Result<hyper::Response<super::answer::Body>, Infallible> {
    match router::route(request, door, client).await {
        Answer::Http(response) => Ok(response),
        Answer::Taken(taken) => {
            hand_over.give(taken);
            std::future::pending().await
        }
    }
}

/// The way from a handler to its connection.
#[derive(Default)]
struct HandOver {
    taken: Mutex<Option<Taken>>,
    asked: Notify,
}

impl HandOver {
    fn give(&self, taken: Taken) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        self.asked.notify_one();
    }

    fn take(&self) -> Option<Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
