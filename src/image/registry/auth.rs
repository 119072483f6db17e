//! How one host lets us in: what it challenged us with, answered once and remembered for all requests to it.
//!
//! ```text
//! 401 + WWW-Authenticate ─► challenge ─┬─ Bearer ─► token server (credentials, or nobody's) ─► Bearer TOKEN
//!                                      └─ Basic  ─► credentials                             ─► Basic  …
//! ```
//!
//! Credentials are looked up when a host asks for them and not before. They go to that host, and to the token server that it
//! names; to that one over https or on this machine only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;
use tokio::sync::{Mutex as Turn, OnceCell};

use super::challenge::Challenge;
use super::header::{encoded, header};
use super::http::{Doors, Wire};
use super::{Error, token};
use crate::Context;
use crate::image::credentials::{self, Credential, Logins};

/// The way into one host.
#[derive(Debug)]
pub(super) struct Auth {
    /// Whom the credentials are for, as in `r.io:5000`.
    host: String,
    /// The task's own, which come first.
    own: Option<Credential>,
    logins: Logins,
    found: OnceCell<Option<Credential>>,
    /// Why there are none, if something that could have had them failed.
    missed: Mutex<Option<credentials::Error>>,
    /// What is sent with each request: sensitive, so never shown.
    grant: Mutex<Option<HeaderValue>>,
    /// It has let us in with the grant before, so a refusal may be a slip of its own.
    proven: AtomicBool,
    /// One challenge is answered at a time.
    turn: Turn<()>,
}

/// What could be done about a challenge.
#[derive(Debug)]
pub(super) enum Answered {
    /// There is another grant: ask again.
    Yes,
    /// There is nothing else to try.
    No,
}

/// A request that was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused<'a> {
    /// What it carried.
    pub(super) sent: Option<&'a HeaderValue>,
    /// It was its first refusal.
    pub(super) first: bool,
    /// What it wanted to be allowed.
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

    /// What to send with a request.
    pub(super) fn grant(&self) -> Option<HeaderValue> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request with the grant was let in.
    pub(super) fn proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether there are no credentials, as far as it has been asked for any.
    pub(super) fn is_anonymous(&self) -> bool {
        self.own.is_none() && self.found.get().is_none_or(Option::is_none)
    }

    /// Why there are no credentials, where that is somebody's fault; told once.
    pub(super) fn missed(&self) -> Option<credentials::Error> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Answers the challenges that a request has met.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn answer(
        &self,
        ctx: &Context,
        wire: &Wire,
        doors: &Doors,
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
            // Somebody else has answered meanwhile.
            return Ok(Answered::Yes);
        }
        let credential = self.credential(ctx).await?;
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope: theirs,
            } => Some(token::Wanted {
                registry: &self.host,
                realm,
                service: service.as_deref(),
                scope: theirs.as_deref().unwrap_or(scope),
            }),
            Challenge::Basic => None,
        });
        let basic = challenges.contains(&Challenge::Basic);
        let grant = match (bearer, credential) {
            // Refused once, it would be refused again.
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
                // Most images are anybody's: as docker does, it is tried without, and told if that is refused.
                Err(why) if why.is_of_a_helper() => {
                    tracing::warn!(host = self.host, %why, "going on without credentials");
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
