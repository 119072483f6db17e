//! `attach`, and `start --attach`: shows the output of a container that other processes may read too, passes this
//! process's input on to it, and ends with its exit code.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::Invocation;
use super::args::containers::AttachArgs;
use super::connect::with;
use super::container_ref::ContainerRef;
use super::failure::Failure;
use super::interrupt::{Wish, Wishes};
use super::moment::reached;
use super::output::{Print, line, note};
use super::standard::{LineEnd, Standard};
use crate::Context;
use crate::engine::{Attachment, Container, InputWriter, Over, Run, Step, Stream, Wants};

const SIGKILL: u32 = 9;
/// How long to wait for more output of a container that has ended.
const DELIVERY: Duration = Duration::from_secs(2);

/// Attaches to a container that runs.
pub(super) async fn attach(
    invocation: Invocation<'_>,
    args: &AttachArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let ctx = Context::new();
        let container = engine.adopt(&ctx, &args.container.id(engine).await?).await?;
        let attachment = container.attach(&ctx, Wants::ALL).await?;
        let run = container.run_for(Step::Attach)?;
        let signals = args.sig_proxy.then(|| invocation.interrupt.pass_on());
        let watched = Watched {
            invocation,
            container: &container,
            run: &run,
            forwards_stdin: !args.no_stdin,
            print,
        };
        let code = watched.follow_attached(attachment, signals).await?;
        watched.report_exit(code)
    })
    .await
}

/// A container that this process is attached to.
pub(super) struct Watched<'a> {
    pub(super) invocation: Invocation<'a>,
    pub(super) container: &'a Container,
    pub(super) run: &'a Run,
    /// Whether this process's input is passed on.
    pub(super) forwards_stdin: bool,
    pub(super) print: &'a Print,
}

impl Watched<'_> {
    /// Copies output, input and signals until the container has ended. Returns the container's exit code, or `None` if
    /// it is lost.
    pub(super) async fn follow_attached(
        &self,
        mut attachment: Attachment,
        mut signals: Option<Wishes>,
    ) -> Result<Option<u32>, Failure> {
        let input = attachment.take_input().filter(|_| self.forwards_stdin);
        let over = tokio::select! {
            over = self.show(attachment, &mut signals) => over?,
            never = feed(input) => match never {},
        };
        let id = self.container.id();
        match over {
            Over::CutOff => {
                return Err(Failure::usage(format!(
                    "the output of {id} was not read for some seconds, so this command was cut off; the container runs on"
                )));
            }
            Over::HolderGone if self.run.exit_now().is_none() => note(&format!(
                "fnctr: the process that held the streams of {id} has ended; run `fnctr attach {id}` to take the \
                 streams over"
            )),
            Over::Ended | Over::HolderGone => {}
        }
        let ctx = &Context::new();
        // Wait on the container, not on the run: another process may have removed the run, but the record keeps the end.
        let mut code = std::pin::pin!(self.container.wait(ctx));
        loop {
            tokio::select! {
                code = &mut code => return Ok(code?),
                wish = next_signal(&mut signals) => self.pass_on(wish).await,
            }
        }
    }

    /// Shows the output, and returns why there is no more. Once the container has ended, more output is awaited for a
    /// moment only, because possibly no process holds it any more.
    async fn show(&self, mut attachment: Attachment, signals: &mut Option<Wishes>) -> Result<Over, Failure> {
        let line_end = LineEnd::new();
        let mut stdout = Standard::new(tokio::io::stdout(), &line_end, self.invocation.interrupt);
        let mut stderr = tokio::io::stderr();
        let mut exit = std::pin::pin!(self.run.wait_exit());
        let (mut has_ended, mut give_up_at) = (false, None);
        loop {
            // The future is kept across signals: dropping it would lose a partly read frame.
            let mut next = std::pin::pin!(attachment.next());
            let next = loop {
                tokio::select! {
                    next = &mut next => break next,
                    wish = next_signal(signals) => self.pass_on(wish).await,
                    _ = &mut exit, if !has_ended => {
                        has_ended = true;
                        give_up_at = Some(Instant::now() + DELIVERY);
                    }
                    () = reached(give_up_at) => break Err(Over::Ended),
                }
            };
            match next {
                Ok(chunk) if chunk.stream == Stream::Stderr => write(&mut stderr, &chunk.bytes).await?,
                Ok(chunk) => write(&mut stdout, &chunk.bytes).await?,
                Err(over) => {
                    self.end_line(&line_end);
                    return Ok(over);
                }
            }
            give_up_at = give_up_at.map(|_| Instant::now() + DELIVERY);
        }
    }

    /// Passes input and signals on until the container has ended. Its output goes directly to this process's streams.
    /// Returns the container's exit code, or `None` if it is lost.
    pub(super) async fn follow_owned(
        &self,
        input: Option<InputWriter>,
        line_end: &LineEnd,
        mut signals: Wishes,
    ) -> Result<Option<u32>, Failure> {
        let ctx = &Context::new();
        let input = input.map(|input| Box::new(input) as _);
        let ended = async {
            let mut waited = std::pin::pin!(self.run.wait(ctx));
            loop {
                tokio::select! {
                    outcome = &mut waited => return outcome,
                    wish = signals.next() => self.pass_on(wish).await,
                }
            }
        };
        let outcome = tokio::select! {
            outcome = ended => outcome?,
            never = feed(input) => match never {},
        };
        self.end_line(line_end);
        let Some(outcome) = outcome else { return Ok(None) };
        if let Some(error) = outcome.streams {
            let error = crate::chain(&*error);
            note(&format!(
                "fnctr: not all output of container {} could be delivered: {error}",
                self.container.id()
            ));
        }
        Ok(outcome.exit.code)
    }

    /// Ends the container's last line, if a JSON value is to follow it.
    fn end_line(&self, line_end: &LineEnd) {
        if self.print.is_json() && !line_end.is_clean() {
            line("");
        }
    }

    /// Sends the container the signal that `wish` asks for.
    async fn pass_on(&self, wish: Wish) {
        let number = match wish {
            Wish::Forward(number) | Wish::End(number) => number.into(),
            Wish::Kill => SIGKILL,
        };
        if let Err(error) = self.run.signal(&Context::new(), number).await {
            note(&format!("fnctr: {}", crate::chain(&error)));
        }
    }

    /// Prints the result in JSON mode, and returns the exit code for this process. Fails if the container's exit code is
    /// lost.
    pub(super) fn report_exit(&self, code: Option<u32>) -> Result<ExitCode, Failure> {
        let id = self.container.id();
        let Some(code) = code else {
            return Err(Failure::lost(format!(
                "container {id} has ended, and its exit code is lost"
            )));
        };
        if self.print.is_json() {
            let value = serde_json::json!({ "id": id.as_str(), "exit_code": code });
            self.print.result(&value, String::new);
        }
        // Codes above 255 become 255.
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }
}

/// Waits for the next signal to this process that is to be passed on; without a receiver, for ever.
async fn next_signal(signals: &mut Option<Wishes>) -> Wish {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Passes this process's input and its end on to a process, if that has an input. Never returns: the caller races it
/// with the container's end.
pub(super) async fn feed(input: Option<Box<dyn AsyncWrite + Send + Unpin>>) -> Infallible {
    if let Some(mut input) = input
        && tokio::io::copy(&mut tokio::io::stdin(), &mut input).await.is_ok()
    {
        // Fails if the container has closed its input, which is no error.
        drop(input.shutdown().await);
    }
    std::future::pending().await
}

pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Failure> {
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    written.await.map_err(|error| Failure::host(&error))
}

/// The one container whose output is to be shown.
pub(super) fn only_one(containers: &[ContainerRef]) -> Result<&ContainerRef, Failure> {
    match containers {
        [container] => Ok(container),
        _ => Err(Failure::usage(
            "--attach shows the output of one container: start the others without it",
        )),
    }
}
