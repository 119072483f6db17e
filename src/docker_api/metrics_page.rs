//! `GET /metrics` on a TCP port of its own, for Prometheus. It shows numbers, and serves nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::Context;
use crate::engine::Engine;

/// How many scrapers may be connected at once; more wait.
const CONNECTIONS: usize = 16;
/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(60);
/// The pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(100);
/// The version of Prometheus' text format.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A listener for scrapers.
#[derive(Debug)]
pub(crate) struct MetricsPage(TcpListener);

impl MetricsPage {
    /// Listens on an address. Port 0 is one that is free.
    ///
    /// # Errors
    /// Those of bind(2).
    pub(crate) async fn bind(at: SocketAddr) -> std::io::Result<Self> {
        TcpListener::bind(at).await.map(Self)
    }

    /// The address, with the port that was chosen.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves the numbers of an engine until `ctx` is cancelled.
    pub(crate) async fn serve(self, ctx: &Context, engine: &Engine) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let (tracker, life) = (TaskTracker::new(), ctx.child());
        let accept = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                match self.0.accept().await {
                    Ok((stream, _)) => {
                        let (engine, life) = (engine.clone(), life.clone());
                        let serve = async move {
                            // A scraper that leaves, or the end of the server.
                            drop(life.run(scraped(TokioIo::new(stream), engine)).await);
                            drop(place);
                        };
                        tracker.spawn(serve.in_current_span());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection for metrics; trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        };
        // The only way out is the caller's.
        let _ = ctx.run(accept).await;
        life.cancel();
        tracker.close();
        tracker.wait().await;
    }
}

async fn scraped(stream: TokioIo<tokio::net::TcpStream>, engine: Engine) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let answer = answer(&request, &engine);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(stream, service)
        .await
}

fn answer(request: &Request<Incoming>, engine: &Engine) -> Response<Full<Bytes>> {
    let with = |status, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut response = with(StatusCode::OK, engine.metrics());
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
            response
        }
        (_, "/metrics") => with(StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => with(StatusCode::NOT_FOUND, "the numbers are at /metrics\n".to_owned()),
    }
}
