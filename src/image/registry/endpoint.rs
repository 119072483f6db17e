//! One host of a registry. Its requests are authenticated where necessary.

use std::sync::atomic::AtomicBool;

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};

use super::auth::{Answered, Auth, Refused};
use super::hosts::Host;
use super::http::{Answer, Ask, Client, HostClients, HttpContext};
use super::origin::Origin;
use super::{Error, answer, challenge, origin, tls};
use crate::Context;
use crate::credentials::{Credential, Logins};

/// How often one request may be challenged: once without a token, and once with an expired one.
const CHALLENGES: u32 = 2;

/// A host, with the clients and the login for it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    doors: HostClients,
    headers: HeaderMap,
    auth: Auth,
    pub(super) unreachable: AtomicBool,
}

/// A request to a host.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The path below the base of the host's URLs.
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    /// The description of the request.
    pub(super) what: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a str, headers: HeaderMap, what: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            headers,
            what,
        }
    }
}

impl Endpoint {
    pub(super) fn new(
        wire: &HttpContext,
        host: Host,
        own: Option<&Credential>,
        logins: &Logins,
    ) -> Result<Self, Error> {
        let shown = host.place.authority.clone();
        let described = &host.described;
        let special = described.skip_verify
            || !described.ca.is_empty()
            || !described.client.is_empty()
            || described.dial_timeout.is_some();
        let base = origin::uri(host.place.tls, &host.place.authority, "/");
        let origin = base.and_then(|base| Origin::of(&base).ok_or_else(|| "it is not a URL".to_owned()));
        let origin = origin.map_err(|why| Error::Nonsense {
            host: shown.clone(),
            what: "its address".to_owned(),
            why,
        })?;
        let doors = if special {
            let connect = described.dial_timeout.unwrap_or(wire.settings.connect);
            let away = described.without_client();
            HostClients {
                origin,
                own: Client::new(tls::described(&shown, described)?, connect),
                away: Some(Client::new(tls::described(&shown, &away)?, connect)),
            }
        } else {
            HostClients {
                origin,
                own: wire.clients.of(host.place.tls, wire.settings.connect)?,
                away: None,
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &described.headers {
            let parsed = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::try_from(value.as_str()).ok());
            let Some((name, mut value)) = parsed else {
                return Err(Error::Nonsense {
                    host: shown,
                    what: "its hosts.toml".to_owned(),
                    why: format!("{name:?} with its value cannot be a header"),
                });
            };
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let own = own.filter(|_| host.is_registry).cloned();
        // The credentials of Docker Hub are stored under the name that images use.
        let known_as = if host.is_registry && host.of.is_none() && shown == "registry-1.docker.io" {
            "docker.io".to_owned()
        } else {
            shown
        };
        Ok(Self {
            auth: Auth::new(known_as, own, logins.clone()),
            doors,
            headers,
            host,
            unreachable: AtomicBool::new(false),
        })
    }

    fn uri(&self, path: &str) -> Result<hyper::Uri, String> {
        let place = &self.host.place;
        let query = self
            .host
            .of
            .as_ref()
            .map_or_else(String::new, |of| format!("?ns={of}"));
        origin::uri(
            place.tls,
            &place.authority,
            &format!("{}/{path}{query}", place.path),
        )
    }

    fn private(&self, grant: Option<&HeaderValue>) -> HeaderMap {
        let mut private = self.headers.clone();
        if let Some(grant) = grant {
            private.insert(AUTHORIZATION, grant.clone());
        }
        private
    }

    fn nonsense(&self, what: &str, why: String) -> Error {
        Error::Nonsense {
            host: self.host.place.authority.clone(),
            what: what.to_owned(),
            why,
        }
    }

    /// Sends one request to one host, authenticated where necessary. A failed request is not repeated: the owner of the
    /// retry policy decides whether and when to repeat it, and the repository decides whether to ask another host.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn ask(
        &self,
        ctx: &Context,
        wire: &HttpContext,
        repository: &str,
        request: Request<'_>,
    ) -> Result<Answer, Error> {
        let what = request.what;
        let mut challenged = 0;
        loop {
            let grant = self.auth.grant();
            let ask = Ask {
                method: request.method.clone(),
                uri: self.uri(request.path).map_err(|why| self.nonsense(what, why))?,
                private: self.private(grant.as_ref()),
                public: request.headers.clone(),
                body: Bytes::new(),
                what,
            };
            let answer = wire.send(ctx, &self.doors, ask).await?;
            if answer.response.status().is_success() {
                self.auth.proven();
                return Ok(answer);
            }
            let unauthorized = answer.response.status() == StatusCode::UNAUTHORIZED;
            if unauthorized && !answer.redirected && challenged < CHALLENGES {
                let refused = Refused {
                    sent: grant.as_ref(),
                    first: challenged == 0,
                    scope: &format!("repository:{repository}:pull"),
                };
                challenged += 1;
                if let Answered::Yes = self.challenged(ctx, wire, &answer, refused).await? {
                    continue;
                }
            }
            return Err(self.refused(ctx, wire, answer, what).await);
        }
    }

    async fn challenged(
        &self,
        ctx: &Context,
        wire: &HttpContext,
        answer: &Answer,
        refused: Refused<'_>,
    ) -> Result<Answered, Error> {
        let values = answer.response.headers().get_all(WWW_AUTHENTICATE);
        let values: Vec<_> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges = challenge::parse(values);
        self.auth
            .answer(ctx, wire, &self.doors, &challenges, refused)
            .await
    }

    /// The error for an answer that is not a success, with the registry's own message.
    async fn refused(&self, ctx: &Context, wire: &HttpContext, answer: Answer, what: &str) -> Error {
        let Answer { host, redirected, .. } = &answer;
        let (host, redirected) = (host.clone(), *redirected);
        let status = answer.response.status().as_u16();
        let after = answer::retry_after(answer.response.headers());
        let body = match wire.whole(ctx, answer, what, answer::MAX_ERROR).await {
            Err(why) if why.interrupted().is_some() => return why,
            body => body.unwrap_or_default(),
        };
        let message = answer::message(&body);
        let what = what.to_owned();
        match status {
            401 | 403 if !redirected => {
                let anonymous = self.auth.is_anonymous();
                match self.auth.missed().filter(|_| anonymous) {
                    Some(missed) => self.auth.login(missed),
                    None => Error::Denied {
                        host,
                        what,
                        status,
                        message,
                        anonymous,
                    },
                }
            }
            429 => Error::RateLimited {
                host,
                what,
                after,
                message,
            },
            _ => Error::Refused {
                host,
                what,
                status,
                message,
                after,
                redirected,
            },
        }
    }
}
