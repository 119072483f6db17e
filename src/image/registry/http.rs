//! HTTP requests to registries, including their redirects.
//!
//! HTTP/1.1 is used on purpose: each layer then has a connection of its own, so a slow transfer does not delay others.
//!
//! A redirect to another origin (see [`origin`](super::origin)) is followed without the credentials, the extra headers
//! and the client certificate. A redirect to plain http is followed only from this machine to itself, and to hosts that
//! the configuration names.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::origin::{Origin, resolve};
use super::{Error, RegistrySettings, tls, trust};
use crate::Context;
use crate::metrics::Metrics;

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 10;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_PER_HOST: usize = 8;

/// A pool of connections with the same TLS configuration.
#[derive(Debug, Clone)]
pub(super) struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    pub(super) fn new(trust: ClientConfig, connect: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect));
        tcp.set_keepalive(Some(IDLE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Self(pool)
    }
}

/// The clients for hosts without a special configuration, created when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Clients {
    ordinary: OnceLock<Client>,
    plain: OnceLock<Client>,
}

impl Clients {
    /// The client for a host without a special configuration. Loading this machine's root certificates takes a while,
    /// so a client without TLS is created without them.
    pub(super) fn of(&self, tls_wanted: bool, connect: Duration) -> Result<Client, Error> {
        let kept = if tls_wanted { &self.ordinary } else { &self.plain };
        if let Some(client) = kept.get() {
            return Ok(client.clone());
        }
        let trust = if tls_wanted { tls::ordinary() } else { tls::none() }?;
        Ok(kept.get_or_init(|| Client::new(trust, connect)).clone())
    }
}

/// The clients for one host, and for the hosts to which it refers: its token server, or a store of blobs.
#[derive(Debug)]
pub(super) struct HostClients {
    pub(super) origin: Origin,
    pub(super) own: Client,
    /// For all other hosts: trusts the same certificates as `own`, but presents no client certificate. `None` means the
    /// client for hosts without a special configuration.
    pub(super) away: Option<Client>,
}

/// The state that all requests need.
#[derive(Debug, Clone)]
pub(super) struct HttpContext {
    pub(super) clients: Arc<Clients>,
    pub(super) settings: Arc<RegistrySettings>,
    pub(super) metrics: Arc<Metrics>,
}

/// A request that may be sent more than once. Like the private headers, the body is only sent to the first origin.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Headers only for the first origin: credentials, and those from the host's description.
    pub(super) private: HeaderMap,
    /// Headers for every origin, also after redirects.
    pub(super) public: HeaderMap,
    pub(super) body: Bytes,
    /// The description of the request.
    pub(super) what: &'a str,
}

impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask")
            .field("method", &self.method)
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

/// An answer, and the host that sent it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    /// The host, as it is shown to users.
    pub(super) host: String,
    /// Whether the answer came from another host than the requested one.
    pub(super) redirected: bool,
}

impl HttpContext {
    /// Sends a request and follows its redirects.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn send(
        &self,
        ctx: &Context,
        doors: &HostClients,
        ask: Ask<'_>,
    ) -> Result<Answer, Error> {
        let what = ask.what;
        let interrupted = |source| Error::Interrupted {
            what: what.to_owned(),
            source,
        };
        ctx.run(self.follow(doors, ask)).await.map_err(interrupted)?
    }

    async fn follow(&self, doors: &HostClients, ask: Ask<'_>) -> Result<Answer, Error> {
        let nowhere = |host: &str, why: String| Error::Redirect {
            host: host.to_owned(),
            what: ask.what.to_owned(),
            why,
        };
        let first = Origin::of(&ask.uri).ok_or_else(|| nowhere("", "it is not a URL".to_owned()))?;
        let (mut client, mut uri, mut at) = (self.client(doors, &first)?, ask.uri.clone(), first.clone());
        let mut private = Some(&ask.private);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.one(&client, &uri, &ask, private, &at).await?;
            let Some(location) = location(&response) else {
                return Ok(Answer {
                    response,
                    host: at.shown(),
                    redirected: at != first,
                });
            };
            let next = resolve(&uri, &location).map_err(|why| nowhere(&at.shown(), why))?;
            let origin = Origin::of(&next)
                .ok_or_else(|| nowhere(&at.shown(), "it is neither http nor https".to_owned()))?;
            if origin != at {
                if !ask.body.is_empty() {
                    return Err(nowhere(
                        &at.shown(),
                        format!("what was posted is for no other host than {}", first.shown()),
                    ));
                }
                self.may_go(&at, &origin)
                    .map_err(|why| nowhere(&at.shown(), why))?;
                // Not sent again, even if a later redirect leads back to the first origin.
                private = None;
                client = self.client(doors, &origin)?;
            }
            (uri, at) = (next, origin);
        }
        Err(nowhere(
            &first.shown(),
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    fn client(&self, doors: &HostClients, to: &Origin) -> Result<Client, Error> {
        match &doors.away {
            _ if *to == doors.origin => Ok(doors.own.clone()),
            Some(away) => Ok(away.clone()),
            None => self.clients.of(to.is_tls(), self.settings.connect),
        }
    }

    fn may_go(&self, from: &Origin, to: &Origin) -> Result<(), String> {
        let host = to.shown();
        // Only a registry on this machine may redirect to another server on this machine.
        let plain = (from.is_loopback() && to.is_loopback()) || self.settings.plain_http.contains(&host);
        if to.is_tls() || plain {
            return Ok(());
        }
        let from = if from.is_tls() {
            "from https"
        } else {
            "away from this machine"
        };
        Err(format!("{from} to plain http at {host}"))
    }

    async fn one(
        &self,
        client: &Client,
        uri: &Uri,
        ask: &Ask<'_>,
        private: Option<&HeaderMap>,
        at: &Origin,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("fnctr/", env!("CARGO_PKG_VERSION"))),
        );
        // A layer is compressed already, and its digest is computed over the unencoded bytes.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in ask.public.iter().chain(private.into_iter().flatten()) {
            headers.append(name, value.clone());
        }
        let host = at.shown();
        match tokio::time::timeout(self.settings.stall, client.0.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(why)) if why.is_connect() => Err(Error::Unreachable {
                host,
                source: inner(why),
            }),
            Ok(Err(why)) => Err(Error::Broken {
                host,
                what: ask.what.to_owned(),
                source: inner(why),
            }),
            Err(_) => Err(Error::Stalled {
                host,
                what: ask.what.to_owned(),
                limit: self.settings.stall,
            }),
        }
    }

    /// The whole body of an answer, up to `max` bytes.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn whole(
        &self,
        ctx: &Context,
        answer: Answer,
        what: &str,
        max: u64,
    ) -> Result<Vec<u8>, Error> {
        let mut body = Body::new(answer, what, self.settings.stall);
        let mut bytes = Vec::new();
        while let Some(part) = body.chunk(ctx).await? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > max {
                return Err(Error::TooLarge {
                    host: body.host,
                    what: body.what,
                    max,
                });
            }
        }
        Ok(bytes)
    }
}

/// The bytes of an answer, as a stream.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    host: String,
    what: String,
    stall: Duration,
}

impl Body {
    pub(super) fn new(answer: Answer, what: &str, stall: Duration) -> Self {
        Self {
            incoming: answer.response.into_body(),
            host: answer.host,
            what: what.to_owned(),
            stall,
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Broken`] and [`Error::Stalled`]; the bytes before the error are valid.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn chunk(&mut self, ctx: &Context) -> Result<Option<Bytes>, Error> {
        loop {
            let next = tokio::time::timeout(self.stall, self.incoming.frame());
            let next = ctx.run(next).await.map_err(|source| Error::Interrupted {
                what: self.what.clone(),
                source,
            })?;
            match next {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
                Ok(Some(Err(why))) => {
                    return Err(Error::Broken {
                        host: self.host.clone(),
                        what: self.what.clone(),
                        source: why.into(),
                    });
                }
                Err(_) => {
                    return Err(Error::Stalled {
                        host: self.host.clone(),
                        what: self.what.clone(),
                        limit: self.stall,
                    });
                }
            }
        }
    }
}

fn location(response: &Response<Incoming>) -> Option<String> {
    let redirects = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    redirects.then(|| location.to_owned())
}

/// The causes of an error, without the client library's own wrapping, which contains no information.
fn inner(why: hyper_util::client::legacy::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut text = Vec::new();
    let mut at = std::error::Error::source(&why);
    while let Some(cause) = at {
        let said = trust::explained(cause).unwrap_or_else(|| cause.to_string());
        if text.last().is_none_or(|last: &String| !last.contains(&said)) {
            text.push(said);
        }
        at = cause.source();
    }
    if text.is_empty() {
        return why.into();
    }
    text.join(": ").into()
}
