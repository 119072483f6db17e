//! Gets tokens from a registry's token server, with credentials or anonymously.
//!
//! With a user name or anonymously, the request is a GET (distribution's token specification); with an identity token
//! it is a POST of a refresh grant (its OAuth2 form). The registry names its token server, so the token server must use
//! https like the registry, and is trusted with the same certificates.

use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use serde::Deserialize;

use super::Error;
use super::answer;
use super::header::{encoded, header};
use super::http::{Ask, HostClients, HttpContext};
use super::origin::Origin;
use crate::Context;
use crate::credentials::Credential;

/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 1 << 20;
/// The client id in requests.
const CLIENT: &str = "fnctr";

/// The token to request.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenRequest<'a> {
    pub(super) registry: &'a str,
    pub(super) realm: &'a str,
    pub(super) service: Option<&'a str>,
    /// As in `repository:library/busybox:pull`; several are separated by spaces.
    pub(super) scope: &'a str,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// Gets a token.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn fetch(
    ctx: &Context,
    wire: &HttpContext,
    doors: &HostClients,
    wanted: &TokenRequest<'_>,
    credential: Option<&Credential>,
) -> Result<String, Error> {
    let nonsense = |why: String| Error::Nonsense {
        host: wanted.registry.to_owned(),
        what: "a login".to_owned(),
        why,
    };
    let realm: Uri = wanted
        .realm
        .parse()
        .map_err(|_| nonsense("the URL of its token server is not valid".to_owned()))?;
    let origin = Origin::of(&realm)
        .filter(|_| {
            realm
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
        })
        .ok_or_else(|| nonsense("the URL of its token server is not one of http or https".to_owned()))?;
    let host = origin.shown();
    // A token server without TLS is accepted if its registry is accessed without TLS at the same origin, if both are on
    // this machine, or if the configuration names it.
    let local = origin == doors.origin || (origin.is_loopback() && doors.origin.is_loopback());
    if !origin.is_tls() && !local && !wire.settings.plain_http.contains(&host) {
        return Err(nonsense(format!("its token server {host} has no TLS")));
    }
    let anonymous = credential.is_none();
    let ask = ask(&realm, wanted, credential).map_err(nonsense)?;
    let answered = wire.send(ctx, doors, ask).await?;
    let status = answered.response.status();
    let after = answer::retry_after(answered.response.headers());
    let what = "a token";
    let body = wire.whole(ctx, answered, what, MAX_ANSWER).await?;
    if !status.is_success() {
        let message = answer::message(&body);
        let (what, status) = (what.to_owned(), status.as_u16());
        return Err(match status {
            // Token servers return 400 for an expired refresh token.
            400 | 401 | 403 if !anonymous => Error::Denied {
                host,
                what,
                status: if status == 400 { 401 } else { status },
                message,
                anonymous,
            },
            401 | 403 => Error::Denied {
                host,
                what,
                status,
                message,
                anonymous,
            },
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
                redirected: false,
            },
        });
    }
    // The error of serde would quote the invalid value.
    let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
        nonsense(format!(
            "its token server {host} sent something that is not a token"
        ))
    })?;
    let token = granted.token.filter(|token| !token.is_empty());
    token
        .or(granted.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| nonsense(format!("its token server {host} sent no token")))
}

fn ask<'a>(
    realm: &Uri,
    wanted: &TokenRequest<'_>,
    credential: Option<&Credential>,
) -> Result<Ask<'a>, String> {
    let mut form = Form::default();
    form.add("service", wanted.service);
    let mut public = HeaderMap::new();
    public.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let mut private = HeaderMap::new();
    if let Some(Credential::IdentityToken(token)) = credential {
        form.add("scope", Some(wanted.scope));
        form.add("grant_type", Some("refresh_token"));
        form.add("refresh_token", Some(token));
        form.add("client_id", Some(CLIENT));
        public.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        return Ok(Ask {
            method: Method::POST,
            uri: realm.clone(),
            private,
            public,
            body: Bytes::from(form.0),
            what: "a token",
        });
    }
    for scope in wanted.scope.split_whitespace() {
        form.add("scope", Some(scope));
    }
    if let Some(Credential::Basic { username, password }) = credential {
        form.add("account", Some(username));
        let login = header("Basic", &encoded(username, password))
            .map_err(|()| "the credentials cannot be sent in a header".to_owned())?;
        private.insert(hyper::header::AUTHORIZATION, login);
    }
    let joint = if realm.query().is_some() { '&' } else { '?' };
    let uri = format!("{realm}{joint}{}", form.0);
    Ok(Ask {
        method: Method::GET,
        uri: uri
            .parse()
            .map_err(|_| "the URL of its token server is not valid".to_owned())?,
        private,
        public,
        body: Bytes::new(),
        what: "a token",
    })
}

/// Names and values in the format of web forms.
#[derive(Default)]
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(byte.into());
            } else {
                self.0.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: TokenRequest<'_> = TokenRequest {
        registry: "r.io",
        realm: "https://t.io/token",
        service: Some("r.io & co"),
        scope: "repository:a/b:pull repository:c:pull",
    };

    #[test]
    fn an_anonymous_request_is_a_get() {
        let ask = ask(&"https://t.io/token?x=1".parse().unwrap(), &WANTED, None).unwrap();
        assert_eq!(
            ask.uri.to_string(),
            "https://t.io/token?x=1&service=r.io%20%26%20co&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        );
        assert_eq!((ask.method, ask.private.len()), (Method::GET, 0));
    }

    #[test]
    fn a_password_is_in_a_header_that_is_not_shown_and_left_behind_by_a_redirect() {
        let bob = Credential::Basic {
            username: "bob".into(),
            password: "hunter2".into(),
        };
        let ask = ask(&WANTED.realm.parse().unwrap(), &WANTED, Some(&bob)).unwrap();
        assert!(ask.uri.query().unwrap().contains("account=bob"));
        assert_eq!(ask.private["authorization"], "Basic Ym9iOmh1bnRlcjI=");
        assert!(!format!("{ask:?}").contains("Ym9i"), "{ask:?}");
    }

    #[test]
    fn an_identity_token_is_posted() {
        let token = Credential::IdentityToken("re+fresh".into());
        let ask = ask(&WANTED.realm.parse().unwrap(), &WANTED, Some(&token)).unwrap();
        assert_eq!(
            (ask.method, ask.uri.to_string()),
            (Method::POST, "https://t.io/token".into())
        );
        assert_eq!(
            ask.body,
            "service=r.io%20%26%20co&scope=repository%3Aa%2Fb%3Apull%20repository%3Ac%3Apull&\
             grant_type=refresh_token&refresh_token=re%2Bfresh&client_id=fnctr"
        );
    }
}
