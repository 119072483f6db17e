//! One call to containerd: stamped, bounded in time, and with errors that name the call and its target.
//!
//! A change never races with a cancellation, because its effect would be unknown. It is checked, sent, and its reply
//! awaited up to the deadline. containerd receives the deadline too (`grpc-timeout`), so that it gives up at the same
//! time. The exception is a call that containerd cannot give up without leaving something behind, see
//! [`Call::to_the_end`]. A read or a wait may be dropped half-way.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument as _, Span, field};

use super::Session;
use super::error::{Cause, Error, cause_of};
use crate::{Context, Interrupted};

/// How long a call may take if its caller sets no deadline: far longer than any call needs.
const CEILING: Duration = Duration::from_secs(2 * 60);
/// The ceiling for calls that move or unpack a layer.
pub(super) const LONG: Duration = Duration::from_secs(30 * 60);
/// How long past the deadline to wait for the reply of a server that should have given up by itself.
const MARGIN: Duration = Duration::from_secs(1);

/// A call about to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    session: &'a Session,
    ctx: &'a Context,
    name: &'static str,
    target: &'a str,
    ceiling: Option<Duration>,
    /// How long past the deadline the reply is awaited.
    margin: Duration,
    /// Whether the deadline is sent to the server.
    told: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(session: &'a Session, ctx: &'a Context, name: &'static str, target: &'a str) -> Self {
        Self {
            session,
            ctx,
            name,
            target,
            ceiling: Some(CEILING),
            margin: MARGIN,
            told: true,
        }
    }

    /// The same call, but the deadline is not sent to the server, because the server leaves something behind if it
    /// gives up half-way. The reply is awaited for `margin` past the deadline.
    pub(super) fn to_the_end(self, margin: Duration) -> Self {
        Self {
            margin,
            told: false,
            ..self
        }
    }

    /// The same call with another ceiling; `None` waits for as long as the context allows.
    pub(super) fn ceiling(self, ceiling: Option<Duration>) -> Self {
        Self { ceiling, ..self }
    }

    /// The same call for a stream that outlives its opening: the context limits the opening, and the server learns of no
    /// deadline, at which it would end the stream.
    pub(super) fn lasting(self) -> Self {
        Self {
            ceiling: None,
            told: false,
            ..self
        }
    }

    /// The time that is left for this call, if it is limited at all.
    fn limit(&self) -> Option<Duration> {
        match (self.ctx.remaining(), self.ceiling) {
            (Some(left), Some(ceiling)) => Some(left.min(ceiling)),
            (left, ceiling) => left.or(ceiling),
        }
    }

    /// The request with the session's stamp and the deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.session.stamp(request.metadata_mut());
        if let Some(limit) = self.limit().filter(|_| self.told) {
            request.set_timeout(limit);
        }
        request
    }

    /// Makes a change. Fails at once if the context has ended; once sent, the change is awaited to its reply.
    ///
    /// # Cancellation
    /// If dropped half-way, the effect is unknown: call this where it runs to its end.
    pub(super) async fn change<T, R, F>(
        &self,
        message: T,
        send: impl FnOnce(Request<T>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.check()?;
        let running = self.session.meter().begin(self.name);
        let (began, span) = (Instant::now(), self.span());
        let reply = self.sent(send(self.request(message)), &span).await;
        self.count(began, &reply, &span);
        drop(running);
        if let Some(Err(status)) = &reply
            && status.code() == Code::Cancelled
            && made_here(status)
        {
            // The client library gave up at the moment at which the server's deadline passed too. The server now undoes
            // its work, which must be over before the caller undoes it from here.
            tokio::time::sleep(MARGIN).await;
        }
        self.settle(reply)
    }

    /// Makes a read, raced against the context.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn read<T, R, F>(
        &self,
        message: T,
        send: impl FnOnce(Request<T>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.check()?;
        let running = self.session.meter().begin(self.name);
        let (began, span) = (Instant::now(), self.span());
        let reply = self.sent(send(self.request(message)), &span);
        let reply = self.ctx.run(reply).await;
        let reply = reply.map_err(|why| self.interrupted(why))?;
        self.count(began, &reply, &span);
        drop(running);
        self.settle(reply)
    }

    /// Makes one step of a stream (its opening, its next message), raced against the context and bounded like a call.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn step<R>(&self, step: impl Future<Output = Result<R, Status>>) -> Result<R, Error> {
        self.check()?;
        let reply = self.ctx.run(self.bounded(step)).await;
        match reply.map_err(|why| self.interrupted(why))? {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(status)) => Err(self.fail(status)),
            None => Err(self.silent()),
        }
    }

    /// Makes a step of a stream that changes something: like [`Call::change`], bounded but not raced.
    ///
    /// # Cancellation
    /// If dropped half-way, the effect is unknown.
    pub(super) async fn exchange<R>(
        &self,
        step: impl Future<Output = Result<R, Status>>,
    ) -> Result<R, Error> {
        self.check()?;
        match self.bounded(step).await {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(status)) => Err(self.fail(status)),
            None => Err(self.silent()),
        }
    }

    /// Runs local work that belongs to the call, raced against the context.
    ///
    /// # Cancellation
    /// Safe to drop if `work` is.
    pub(super) async fn run<R>(&self, work: impl Future<Output = R>) -> Result<R, Error> {
        self.ctx.run(work).await.map_err(|why| self.interrupted(why))
    }

    /// Fails if the context has ended.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.ctx.check().map_err(|why| self.interrupted(why))
    }

    /// The error for an answer that cannot be understood.
    pub(super) fn malformed(&self, what: impl Into<String>) -> Error {
        self.error(Cause::Malformed(what.into()))
    }

    /// The error of this call for `cause`.
    pub(super) fn error(&self, cause: Cause) -> Error {
        Error::new(self.name, self.target, cause)
    }

    /// The error of this call for a gRPC status.
    pub(super) fn fail(&self, status: Status) -> Error {
        // At the deadline the server, the client library and a shim behind the server each return a different code.
        let late = matches!(
            status.code(),
            Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
        );
        match self.ctx.interrupted() {
            Some(why @ Interrupted::DeadlineExceeded) if late => self.interrupted(why),
            _ if status.code() == Code::Cancelled && self.limit().is_some() && made_here(&status) => {
                self.silent()
            }
            _ => self.error(cause_of(status)),
        }
    }

    /// The reply, waited for in the span of the call. Boxed, because every operation has such futures innermost, and
    /// would be nested deeper than the compiler follows.
    fn sent<R>(
        &self,
        reply: impl Future<Output = R>,
        span: &Span,
    ) -> Pin<Box<impl Future<Output = Option<R>>>> {
        Box::pin(self.bounded(reply).instrument(span.clone()))
    }

    async fn bounded<R>(&self, reply: impl Future<Output = R>) -> Option<R> {
        match self.limit() {
            Some(limit) => tokio::time::timeout(limit.saturating_add(self.margin), reply)
                .await
                .ok(),
            None => Some(reply.await),
        }
    }

    fn settle<R>(&self, reply: Option<Result<Response<R>, Status>>) -> Result<R, Error> {
        match reply {
            Some(Ok(reply)) => Ok(reply.into_inner()),
            Some(Err(status)) => Err(self.fail(status)),
            None => Err(self.silent()),
        }
    }

    /// The span of one call, inside the phase that it is made in.
    fn span(&self) -> Span {
        tracing::debug_span!(
            "call",
            otel.name = self.name,
            otel.kind = "client",
            object = self.target,
            answer = field::Empty,
            otel.status_description = field::Empty
        )
    }

    fn count<R>(&self, began: Instant, reply: &Option<Result<R, Status>>, span: &Span) {
        let answer = match reply {
            Some(Ok(_)) => "ok",
            Some(Err(status)) => name_of(status.code()),
            None => "none",
        };
        span.record("answer", answer);
        // Whether something is there is what a call is often made for.
        if let Some(Err(status)) = reply
            && !matches!(status.code(), Code::NotFound | Code::AlreadyExists)
        {
            span.record("otel.status_description", status.message());
        }
        self.session.metrics().call(self.name, answer, began.elapsed());
    }

    fn silent(&self) -> Error {
        match self.ctx.interrupted() {
            Some(why @ Interrupted::DeadlineExceeded) => self.interrupted(why),
            _ => self.error(Cause::Silent(self.ceiling.unwrap_or(CEILING))),
        }
    }

    fn interrupted(&self, why: Interrupted) -> Error {
        self.error(Cause::Interrupted(why))
    }
}

/// The name of a status, as gRPC's documentation writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn made_here(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
