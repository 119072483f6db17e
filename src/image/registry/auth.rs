//! The login at one host: a challenge is answered once, and the result is used for all requests to the host.
//!
//! ```text
//! 401 + WWW-Authenticate ─► challenge ─┬─ Bearer ─► token server (credentials or anonymous) ─► Bearer TOKEN
//!                                      └─ Basic  ─► credentials                             ─► Basic  …
//! ```
//!
//! Credentials are looked up only when a host asks for them. They are sent to that host, and to the token server that
//! it names; to the token server only over https, on this machine, or where the configuration allows plain http.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;
use tokio::sync::{Mutex as Turn, OnceCell};

use super::challenge::Challenge;
use super::header::{encoded, header};
use super::http::{HostClients, HttpContext};
use super::{Error, token};
use crate::Context;
use crate::credentials::{self, Credential, Logins};

/// The login at one host.
#[derive(Debug)]
pub(super) struct Auth {
    /// The host for which the credentials are, as in `r.io:5000`.
    host: String,
    /// The credentials of the request, which take precedence.
    own: Option<Credential>,
    logins: Logins,
    found: OnceCell<Option<Credential>>,
    /// Why there are no credentials, if a helper that may have some failed.
    missed: Mutex<Option<credentials::Error>>,
    /// The header to send with each request; it is marked as sensitive, so it is never shown.
    grant: Mutex<Option<HeaderValue>>,
    /// Whether the host has accepted this header before, so that a refusal may be an error of the host.
    proven: AtomicBool,
    /// Ensures that one challenge is answered at a time.
    turn: Turn<()>,
}

/// The result of answering a challenge.
#[derive(Debug)]
pub(super) enum Answered {
    /// There is another grant, so the request should be repeated.
    Yes,
    /// There is nothing else to try.
    No,
}

/// A request that was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused<'a> {
    /// The header that it carried.
    pub(super) sent: Option<&'a HeaderValue>,
    /// Whether this is its first refusal.
    pub(super) first: bool,
    /// The scope that it needs.
    pub(super) scope: &'a str,
}

impl Auth {
    pub(super) fn new(host: String, own: Option<Credential>, logins: Logins) -> Self {
        Self {
            host,
            own,
            logins,
            found: OnceCell::new(),
            missed: Mutex::new(None),
            grant: Mutex::new(None),
            proven: AtomicBool::new(false),
            turn: Turn::new(()),
        }
    }

    /// The header to send with a request.
    pub(super) fn grant(&self) -> Option<HeaderValue> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that a request with the header was accepted.
    pub(super) fn proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether there are no credentials, as far as they have been looked up.
    pub(super) fn is_anonymous(&self) -> bool {
        self.own.is_none() && self.found.get().is_none_or(Option::is_none)
    }

    /// Why there are no credentials, if a helper failed; the error is returned only once.
    pub(super) fn missed(&self) -> Option<credentials::Error> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Answers the challenges that a request has received.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn answer(
        &self,
        ctx: &Context,
        wire: &HttpContext,
        doors: &HostClients,
        challenges: &[Challenge],
        refused: Refused<'_>,
    ) -> Result<Answered, Error> {
        let Refused { sent, first, scope } = refused;
        let turn = ctx.run(self.turn.lock()).await;
        let _turn = turn.map_err(|source| Error::Interrupted {
            what: format!("the login at {}", self.host),
            source,
        })?;
        let now = self.grant();
        if let Some(now) = now
            && Some(&now) != sent
        {
            // Another task has answered the challenge in the meantime.
            return Ok(Answered::Yes);
        }
        let credential = self.credential(ctx).await?;
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope: theirs,
            } => Some(token::TokenRequest {
                registry: &self.host,
                realm,
                service: service.as_deref(),
                scope: theirs.as_deref().unwrap_or(scope),
            }),
            Challenge::Basic => None,
        });
        let basic = challenges.contains(&Challenge::Basic);
        let grant = match (bearer, credential) {
            // Refused once, the token would be refused again.
            (_, Some(Credential::RegistryToken(_))) if sent.is_some() => None,
            (Some(_), Some(Credential::RegistryToken(token))) => Some(header("Bearer", token)),
            (Some(wanted), credential) => Some(header(
                "Bearer",
                &token::fetch(ctx, wire, doors, &wanted, credential).await?,
            )),
            (None, Some(Credential::Basic { username, password }))
                if basic && (sent.is_none() || (first && self.proven.load(Ordering::Relaxed))) =>
            {
                Some(header("Basic", &encoded(username, password)))
            }
            _ => None,
        };
        let Some(grant) = grant.transpose().map_err(|()| self.unusable())? else {
            return Ok(Answered::No);
        };
        *self.grant.lock().unwrap_or_else(PoisonError::into_inner) = Some(grant);
        Ok(Answered::Yes)
    }

    async fn credential(&self, ctx: &Context) -> Result<Option<&Credential>, Error> {
        if let Some(own) = &self.own {
            return Ok(Some(own));
        }
        let finding = self
            .found
            .get_or_try_init(async || match self.logins.find(ctx, &self.host).await {
                // Most images are public, so as in docker the request is sent without credentials. The error is
                // returned if that is refused.
                Err(why) if why.is_of_a_helper() => {
                    tracing::warn!(host = self.host, %why, "cannot get credentials; continuing without them");
                    *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    Ok(None)
                }
                found => found,
            });
        match finding.await {
            Ok(found) => Ok(found.as_ref()),
            Err(source) => Err(self.login(source)),
        }
    }

    pub(super) fn login(&self, source: credentials::Error) -> Error {
        Error::Login {
            host: self.host.clone(),
            source,
        }
    }

    fn unusable(&self) -> Error {
        Error::Nonsense {
            host: self.host.clone(),
            what: "a login".to_owned(),
            why: "the token or the credentials cannot be sent in a header".to_owned(),
        }
    }
}
