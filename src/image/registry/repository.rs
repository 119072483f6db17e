//! A repository of a registry, accessed through one of the registry's hosts.
//!
//! Hosts are tried in their order. A host that does not have the content, refuses the request or cannot be reached is
//! skipped. The error of the last host is returned, because that is the registry itself. A host that could not be
//! reached is tried last as long as the repository is used.

use std::sync::atomic::Ordering;

use hyper::Method;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue, RANGE};

use super::endpoint::{Endpoint, Request};
use super::http::{Answer, Body, HttpContext};
use super::{Error, answer, hosts};
use crate::containerd::Descriptor;
use crate::credentials::{Credential, Logins};
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::{MAX_JSON, Reference};
use crate::metrics::RetryReason;
use crate::{Context, Digest};

/// A manifest or an index as the registry stores it.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Its descriptor.
    pub(crate) descriptor: Descriptor,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// The result of resolving a tag.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// The registry has returned the descriptor only.
    Described(Descriptor),
    /// The registry has returned the document itself.
    Sent(Document),
}

/// The bytes of a blob, starting at an offset.
#[derive(Debug)]
pub(crate) struct Blob {
    /// The stream of bytes.
    pub(crate) body: Body,
    /// The offset of the first byte: 0 if the host cannot start anywhere else.
    pub(crate) offset: u64,
    /// The index of the host that sends them.
    pub(crate) from: usize,
}

/// A repository, and the hosts that serve it.
#[derive(Debug)]
pub(crate) struct Repository {
    registry: String,
    path: String,
    endpoints: Vec<Endpoint>,
    wire: HttpContext,
}

impl Repository {
    pub(super) fn new(
        wire: &HttpContext,
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

    /// The name of the registry.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The path of the repository within the registry.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// How many hosts may serve blobs.
    pub(crate) fn hosts(&self) -> usize {
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.host.described.capabilities.pull)
            .count()
    }

    /// Resolves a tag. Each host is asked with a HEAD, which does not count towards the rate limit of any registry. If
    /// the HEAD fails or does not return a descriptor, a GET decides: some hosts do not support HEAD, and the answer to
    /// a HEAD has no body that could contain the reason.
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
                tracing::debug!(why = %crate::chain(&why), "a HEAD failed; trying a GET");
            }
            Err(why) => return Err(why),
        }
        let document = self.manifest_at(ctx, endpoint, (tag, None)).await?;
        Ok(Meaning::Sent(document))
    }

    /// Resolves a tag with a GET, and returns the document.
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

    /// A manifest or an index by its digest. The content is verified.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a document of more than 4 MiB.
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

    /// A blob of at most 4 MiB. The content is verified.
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

    /// A complete document without a content encoding: some hosts compress it, although the request excludes that.
    async fn document(&self, ctx: &Context, answer: Answer, what: &str) -> Result<Vec<u8>, Error> {
        let (host, encoding) = (answer.host.clone(), answer::encoding(answer.response.headers()));
        let bytes = self.wire.whole(ctx, answer, what, MAX_JSON).await?;
        answer::decoded(bytes, encoding.as_deref(), MAX_JSON).map_err(|why| Error::Nonsense {
            host,
            what: what.to_owned(),
            why,
        })
    }

    /// A blob, starting at `offset`. The caller must verify the digest. `without` are hosts that sent wrong content
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
                // The host cannot start in the middle, and its answer is invalid, so the whole blob is requested.
                Err(why) if offset > 0 && why.is_of_range() => {
                    tracing::debug!(why = %crate::chain(&why), "a host cannot handle a range; fetching the whole blob");
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

    /// Moves a host that broke off without sending anything to the end of the order.
    pub(crate) fn avoid(&self, from: usize) {
        if let Some(endpoint) = self.endpoints.get(from) {
            endpoint.unreachable.store(true, Ordering::Relaxed);
        }
    }

    /// The hosts that may be asked, in order. Each after the first is counted as a retry when it is its turn.
    fn able(&self, trust: Trust, without: &[usize]) -> impl Iterator<Item = Able<'_>> {
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
        able.into_iter().enumerate().map(|(tried, able)| {
            if tried > 0 {
                self.wire.metrics.retry(RetryReason::RegistryHost);
            }
            able
        })
    }

    fn manifest_of(&self, version: &str) -> String {
        format!("manifest {version} of {}", self.path)
    }

    /// The path of a blob, and its description.
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

/// The kind of request to a host: content by its digest, or the meaning of a tag, which requires trust in the host.
#[derive(Debug, Clone, Copy)]
enum Trust {
    Pull,
    Resolve,
}

/// The errors of the hosts that were tried.
#[derive(Debug, Default)]
struct Tried {
    last: Option<Error>,
}

impl Tried {
    /// Records why a host cannot serve. The error of an interruption is returned, because it ends all attempts.
    fn pass_over(&mut self, endpoint: &Endpoint, why: Error) -> Result<(), Error> {
        if !why.is_of_one_host() {
            return Err(why);
        }
        if matches!(why, Error::Unreachable { .. } | Error::Stalled { .. }) {
            endpoint.unreachable.store(true, Ordering::Relaxed);
        }
        tracing::debug!(why = %crate::chain(&why), "a host of the registry cannot serve the request; trying the next");
        // The registry's own error is more important than a mirror's.
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
