//! `attach`, and `start --attach`: shows the output of a container that other processes may read too, passes this
//! process's input on to it, and ends with its exit code.

use std::convert::Infallible;
use std::io::{ErrorKind, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
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
use super::terminal::{self, RawTerminal};
use crate::detach_keys::DetachKeys;
use crate::engine::{Attachment, Container, InputWriter, Over, Run, Step, Stream, Wants};
use crate::{ContainerId, Context};

const SIGKILL: u32 = 9;
/// How long to wait for more output of a container that has ended.
const DELIVERY: Duration = Duration::from_secs(2);

/// The pause before a terminal that had nothing to read is read again.
const AGAIN: Duration = Duration::from_millis(20);
/// How much of what is typed is read at once.
const TYPED: usize = 4096;

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
        let signals = signals_for(invocation, &run, args.sig_proxy);
        let watched = Watched {
            invocation,
            container: &container,
            run: &run,
            forwards_stdin: !args.no_stdin,
            print,
        };
        let keys = args.detach_keys.clone();
        watched.follow_attached(attachment, signals, keys).await
    })
    .await
}

/// The signals that are passed on to a container: none to one with a terminal, which a user leaves by closing the window.
pub(super) fn signals_for(invocation: Invocation<'_>, run: &Run, is_asked: bool) -> Option<Wishes> {
    (is_asked && !run.has_terminal()).then(|| invocation.interrupt.pass_on())
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
    /// Copies output, input and signals until the container has ended, or the user has pressed the keys to detach, which
    /// count for a terminal. Returns the exit code for this process.
    pub(super) async fn follow_attached(
        &self,
        mut attachment: Attachment,
        mut signals: Option<Wishes>,
        keys: DetachKeys,
    ) -> Result<ExitCode, Failure> {
        let input = attachment.take_input().filter(|_| self.forwards_stdin);
        // Without an input, keys that lead nowhere stay this process's.
        let is_wanted = input.is_some() && self.run.has_terminal();
        let raw_terminal = RawTerminal::enter_if(is_wanted)?;
        let (interrupted, signals_are_ours) = (self.invocation.interrupt.ctx(), signals.is_none());
        let type_in = async {
            match raw_terminal.is_some() {
                true => type_in(input, keys).await,
                false => match feed(input).await {},
            }
        };
        let over = tokio::select! {
            over = self.show(attachment, &mut signals) => Some(over?),
            () = type_in => None,
            _ = interrupted.cancelled(), if signals_are_ours => return Err(Failure::interrupted()),
            never = self.follow_size(true) => match never {},
        };
        drop(raw_terminal);
        let id = self.container.id();
        match over {
            None => {
                note(&format!("fnctr: detached from {id}, which runs on"));
                return Ok(ExitCode::SUCCESS);
            }
            Some(Over::CutOff) => {
                return Err(Failure::usage(format!(
                    "the output of {id} was not read for some seconds, so this command was cut off; the container runs on"
                )));
            }
            Some(Over::HolderGone) if self.run.exit_now().is_none() => note(&format!(
                "fnctr: the process that held the streams of {id} has ended; run `fnctr attach {id}` to take the \
                 streams over"
            )),
            Some(Over::Ended | Over::HolderGone) => {}
        }
        let ctx = &Context::new();
        // Wait on the container, not on the run: another process may have removed the run, but the record keeps the end.
        let mut code = std::pin::pin!(self.container.wait(ctx));
        loop {
            tokio::select! {
                code = &mut code => return self.report_exit(code?),
                wish = next_signal(&mut signals) => self.pass_on(wish).await,
            }
        }
    }

    /// Gives the container's terminal the size of this process's. A program that runs already is made to draw its screen
    /// anew, by another size before. Never returns.
    async fn follow_size(&self, is_drawn_anew: bool) -> Infallible {
        // One that only looks on, with its output elsewhere, has no say.
        if !self.run.has_terminal() || !std::io::stdout().is_terminal() {
            return std::future::pending().await;
        }
        let ctx = &Context::new();
        let resize = async |size| terminal::resized(self.run.resize(ctx, size).await);
        if let Some((height, width)) = terminal::size().filter(|_| is_drawn_anew) {
            resize((height.saturating_add(1), width.saturating_add(1))).await;
        }
        terminal::follow_size(resize).await
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
        mut signals: Option<Wishes>,
        raw_terminal: Option<RawTerminal>,
    ) -> Result<Option<u32>, Failure> {
        let ctx = &Context::new();
        let input = input.map(|input| Box::new(input) as _);
        let (interrupted, signals_are_ours) = (self.invocation.interrupt.ctx(), signals.is_none());
        let ended = async {
            let mut waited = std::pin::pin!(self.run.wait(ctx));
            loop {
                tokio::select! {
                    outcome = &mut waited => return outcome,
                    wish = next_signal(&mut signals) => self.pass_on(wish).await,
                }
            }
        };
        let outcome = tokio::select! {
            outcome = ended => outcome?,
            never = feed(input) => match never {},
            _ = interrupted.cancelled(), if signals_are_ours => return Err(Failure::interrupted()),
            never = self.follow_size(false) => match never {},
        };
        drop(raw_terminal);
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

    /// See [`report_exit`].
    pub(super) fn report_exit(&self, code: Option<u32>) -> Result<ExitCode, Failure> {
        let id = self.container.id();
        report_exit(id, &format!("container {id}"), code, self.print)
    }
}

/// Prints, in JSON mode, how `what` has ended, and returns the exit code for this process. Fails if the code is lost.
pub(super) fn report_exit(
    id: &ContainerId,
    what: &str,
    code: Option<u32>,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let Some(code) = code else {
        return Err(Failure::lost(format!(
            "{what} has ended, and its exit code is lost"
        )));
    };
    if print.is_json() {
        let value = serde_json::json!({ "id": id.as_str(), "exit_code": code });
        print.result(&value, String::new);
    }
    // Codes above 255 become 255.
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
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

/// Passes on what is typed at this process's terminal. Returns when the keys to detach were pressed, or the terminal is gone.
async fn type_in(input: Option<Box<dyn AsyncWrite + Send + Unpin>>, mut keys: DetachKeys) {
    let (mut input, mut buffer) = (input, [0; TYPED]);
    loop {
        let read = match tokio::io::stdin().read(&mut buffer).await {
            Ok(read) => read,
            // Another program has left the terminal so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            // It is gone, and this command with it.
            Err(_) => return,
        };
        let typed = keys.feed(buffer.get(..read).unwrap_or_default());
        if let Some(to) = &mut input
            && write(to, &typed.bytes).await.is_err()
        {
            // The container reads no more; the user can still detach.
            input = None;
        }
        if typed.is_detached {
            return;
        }
        if read == 0 {
            return;
        }
    }
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
