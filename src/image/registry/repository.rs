//! One repository of one registry, through whichever of its hosts serves.
//!
//! Hosts are asked in their order. One that does not have a thing, refuses it or cannot be reached is passed over; what
//! the last one says is the error, because that is the registry itself. A host that could not be reached goes to the end
//! for as long as the repository is used.

use std::sync::atomic::Ordering;

use hyper::Method;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue, RANGE};

use super::endpoint::{Endpoint, Request};
use super::http::{Answer, Body, Wire};
use super::{Error, answer, hosts};
use crate::containerd::Descriptor;
use crate::image::credentials::{Credential, Logins};
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::{MAX_JSON, Reference};
use crate::{Context, Digest};

/// A manifest or an index as the registry keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// What it is called.
    pub(crate) descriptor: Descriptor,
    /// It.
    pub(crate) bytes: Vec<u8>,
}

/// What a tag stands for.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// The registry has said so without sending it.
    Described(Descriptor),
    /// It was sent at once.
    Sent(Document),
}

/// The bytes of a blob from an offset on.
#[derive(Debug)]
pub(crate) struct Blob {
    /// They.
    pub(crate) body: Body,
    /// Where they begin: 0 if the host cannot begin anywhere else.
    pub(crate) offset: u64,
    /// Which of the hosts sends them.
    pub(crate) from: usize,
}

/// A repository, and the ways to it.
#[derive(Debug)]
pub(crate) struct Repository {
    registry: String,
    path: String,
    endpoints: Vec<Endpoint>,
    wire: Wire,
}

impl Repository {
    pub(super) fn new(
        wire: &Wire,
        reference: &Reference,
        own: Option<&Credential>,
        logins: &Logins,
    ) -> Result<Self, Error> {
        let registry = reference.domain().to_owned();
        let endpoints = hosts::of(&registry, &wire.settings)?
            .into_iter()
            .map(|host| Endpoint::new(wire, host, own, logins))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            registry,
            path: reference.path().to_owned(),
            endpoints,
            wire: wire.clone(),
        })
    }

    /// The registry's name.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// How many hosts may be asked for blobs.
    pub(crate) fn hosts(&self) -> usize {
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.host.described.capabilities.pull)
            .count()
    }

    /// What a tag stands for. Each host is asked with a HEAD, which no registry counts. Where that fails, or does not say, a
    /// GET decides: some serve no HEAD, and the answer to one has no body in which a registry could say why.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn resolve(&self, ctx: &Context, tag: &str) -> Result<Meaning, Error> {
        let mut tried = Tried::default();
        for Able { endpoint, .. } in self.able(Trust::Resolve, &[]) {
            match self.resolve_at(ctx, endpoint, tag).await {
                Ok(found) => return Ok(found),
                Err(why) => tried.pass_over(endpoint, why)?,
            }
        }
        Err(tried.why(self, Trust::Resolve))
    }

    async fn resolve_at(&self, ctx: &Context, endpoint: &Endpoint, tag: &str) -> Result<Meaning, Error> {
        let what = self.manifest_of(tag);
        let request = Request {
            method: Method::HEAD,
            path: &format!("{}/manifests/{tag}", self.path),
            headers: accept_manifests(),
            what: &what,
        };
        match endpoint.ask(ctx, &self.wire, &self.path, request).await {
            Ok(answer) => {
                if let Some(described) = answer::described(answer.response.headers()) {
                    return Ok(Meaning::Described(described));
                }
            }
            Err(why) if why.is_refusal_of(&what) => {
                tracing::debug!(why = %crate::chain(&why), "a HEAD failed; a GET decides");
            }
            Err(why) => return Err(why),
        }
        let document = self.manifest_at(ctx, endpoint, (tag, None)).await?;
        Ok(Meaning::Sent(document))
    }

    /// What a tag stands for, as it is sent.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn sent(&self, ctx: &Context, tag: &str) -> Result<Document, Error> {
        let mut tried = Tried::default();
        for Able { endpoint, .. } in self.able(Trust::Resolve, &[]) {
            match self.manifest_at(ctx, endpoint, (tag, None)).await {
                Ok(document) => return Ok(document),
                Err(why) => tried.pass_over(endpoint, why)?,
            }
        }
        Err(tried.why(self, Trust::Resolve))
    }

    /// A manifest or an index by its digest, which is verified.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for one of more than 4 MiB.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn manifest(&self, ctx: &Context, digest: &Digest) -> Result<Document, Error> {
        let mut tried = Tried::default();
        for Able { endpoint, .. } in self.able(Trust::Pull, &[]) {
            let sent = self.manifest_at(ctx, endpoint, (digest.as_str(), Some(digest)));
            match sent.await {
                Ok(document) => return Ok(document),
                Err(why) => tried.pass_over(endpoint, why)?,
            }
        }
        Err(tried.why(self, Trust::Pull))
    }

    async fn manifest_at(
        &self,
        ctx: &Context,
        endpoint: &Endpoint,
        (version, expected): (&str, Option<&Digest>),
    ) -> Result<Document, Error> {
        let (path, what) = (
            format!("{}/manifests/{version}", self.path),
            self.manifest_of(version),
        );
        let request = Request::get(&path, accept_manifests(), &what);
        let answer = endpoint.ask(ctx, &self.wire, &self.path, request).await?;
        let (host, headers) = (answer.host.clone(), answer.response.headers().clone());
        let bytes = self.document(ctx, answer, &what).await?;
        let named = expected.cloned().or_else(|| answer::content_digest(&headers));
        let digest = answer::verified(&host, &what, &bytes, named.as_ref())?;
        let descriptor = Descriptor {
            media_type: answer::media_type(&headers),
            digest,
            size: bytes.len() as u64,
        };
        Ok(Document { descriptor, bytes })
    }

    /// A blob of at most 4 MiB, verified.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn small(&self, ctx: &Context, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let mut tried = Tried::default();
        for Able { endpoint, .. } in self.able(Trust::Pull, &[]) {
            match self.small_at(ctx, endpoint, blob).await {
                Ok(bytes) => return Ok(bytes),
                Err(why) => tried.pass_over(endpoint, why)?,
            }
        }
        Err(tried.why(self, Trust::Pull))
    }

    async fn small_at(
        &self,
        ctx: &Context,
        endpoint: &Endpoint,
        blob: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        let (path, what) = self.blob_of(blob);
        let request = Request::get(&path, HeaderMap::new(), &what);
        let answer = endpoint.ask(ctx, &self.wire, &self.path, request).await?;
        let host = answer.host.clone();
        let bytes = self.document(ctx, answer, &what).await?;
        answer::verified(&host, &what, &bytes, Some(&blob.digest))?;
        Ok(bytes)
    }

    /// A document as a whole, and as it is: some compress what they send, although it is asked for without.
    async fn document(&self, ctx: &Context, answer: Answer, what: &str) -> Result<Vec<u8>, Error> {
        let (host, encoding) = (answer.host.clone(), answer::encoding(answer.response.headers()));
        let bytes = self.wire.whole(ctx, answer, what, MAX_JSON).await?;
        answer::decoded(bytes, encoding.as_deref(), MAX_JSON).map_err(|why| Error::Nonsense {
            host,
            what: what.to_owned(),
            why,
        })
    }

    /// A blob from `offset` on. Its digest is for whoever keeps it to verify. `without` are hosts that sent something else
    /// before.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn blob(
        &self,
        ctx: &Context,
        blob: &Descriptor,
        offset: u64,
        without: &[usize],
    ) -> Result<Blob, Error> {
        let mut tried = Tried::default();
        for Able { from, endpoint } in self.able(Trust::Pull, without) {
            let sent = match self.blob_at(ctx, endpoint, blob, offset).await {
                // It cannot begin in the middle, and says so badly: all of it, then.
                Err(why) if offset > 0 && why.is_of_range() => {
                    tracing::debug!(why = %crate::chain(&why), "a host does not understand a range; fetching the whole blob");
                    self.blob_at(ctx, endpoint, blob, 0).await
                }
                sent => sent,
            };
            match sent {
                Ok((body, offset)) => return Ok(Blob { body, offset, from }),
                Err(why) => tried.pass_over(endpoint, why)?,
            }
        }
        Err(tried.why(self, Trust::Pull))
    }

    async fn blob_at(
        &self,
        ctx: &Context,
        endpoint: &Endpoint,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<(Body, u64), Error> {
        let (path, what) = self.blob_of(blob);
        let mut headers = HeaderMap::new();
        if offset > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={offset}-"))
        {
            headers.insert(RANGE, range);
        }
        let request = Request::get(&path, headers, &what);
        let answer = endpoint.ask(ctx, &self.wire, &self.path, request).await?;
        let begins = answer::begins(&answer.response, offset)
            .and_then(|begins| {
                answer::check_length(answer.response.headers(), blob.size.saturating_sub(begins))?;
                Ok(begins)
            })
            .map_err(|why| Error::Nonsense {
                host: answer.host.clone(),
                what: what.clone(),
                why,
            })?;
        Ok((Body::new(answer, &what, self.wire.settings.stall), begins))
    }

    /// A host that broke off without sending anything goes to the end.
    pub(crate) fn avoid(&self, from: usize) {
        if let Some(endpoint) = self.endpoints.get(from) {
            endpoint.unreachable.store(true, Ordering::Relaxed);
        }
    }

    /// The hosts that may be asked, in order.
    fn able(&self, trust: Trust, without: &[usize]) -> Vec<Able<'_>> {
        let may = |endpoint: &Endpoint| {
            let may = endpoint.host.described.capabilities;
            match trust {
                Trust::Pull => may.pull,
                Trust::Resolve => may.resolve,
            }
        };
        let mut able: Vec<_> = self
            .endpoints
            .iter()
            .enumerate()
            .filter(|(at, endpoint)| may(endpoint) && !without.contains(at))
            .map(|(from, endpoint)| Able { from, endpoint })
            .collect();
        able.sort_by_key(|able| able.endpoint.unreachable.load(Ordering::Relaxed));
        able
    }

    fn manifest_of(&self, version: &str) -> String {
        format!("manifest {version} of {}", self.path)
    }

    /// Its path, and what it is called.
    fn blob_of(&self, blob: &Descriptor) -> (String, String) {
        let Descriptor { digest, .. } = blob;
        (
            format!("{}/blobs/{digest}", self.path),
            format!("blob {digest} of {}", self.path),
        )
    }
}

/// A host that may be asked.
struct Able<'a> {
    from: usize,
    endpoint: &'a Endpoint,
}

/// What a host is asked for: content by its digest, or the meaning of a tag, in which it must be trusted.
#[derive(Debug, Clone, Copy)]
enum Trust {
    Pull,
    Resolve,
}

/// What hosts have said that did not serve.
#[derive(Debug, Default)]
struct Tried {
    last: Option<Error>,
}

impl Tried {
    /// Notes why a host does not serve. The error of an interruption is nobody's, and ends it all.
    fn pass_over(&mut self, endpoint: &Endpoint, why: Error) -> Result<(), Error> {
        if !why.is_of_one_host() {
            return Err(why);
        }
        if matches!(why, Error::Unreachable { .. } | Error::Stalled { .. }) {
            endpoint.unreachable.store(true, Ordering::Relaxed);
        }
        tracing::debug!(why = %crate::chain(&why), "a host of the registry cannot serve the request; trying the next");
        // The registry's own word counts for more than a mirror's.
        if self.last.is_none() || endpoint.host.is_final {
            self.last = Some(why);
        }
        Ok(())
    }

    fn why(self, repository: &Repository, trust: Trust) -> Error {
        self.last.unwrap_or_else(|| Error::NoHost {
            host: repository.registry.clone(),
            what: match trust {
                Trust::Pull => "pull",
                Trust::Resolve => "resolve",
            },
        })
    }
}

fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for kind in [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"] {
        headers.append(ACCEPT, HeaderValue::from_static(kind));
    }
    headers
}
