//! This process's terminal, while it stands for that of a container.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use crate::engine::{Error, Kind};

/// The terminal on standard input, in raw mode: every key goes to the container, whose terminal shows it and acts on it.
/// Drop restores the previous settings.
#[derive(Debug)]
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Returns `None` if it is not wanted, or standard input is no terminal.
    ///
    /// # Errors
    /// If the terminal does not take the settings.
    pub(super) fn enter_if(is_wanted: bool) -> Result<Option<Self>, Failure> {
        let input = io::stdin();
        if !is_wanted || !input.is_terminal() {
            return Ok(None);
        }
        let entered = || {
            let before = tcgetattr(&input)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&input, OptionalActions::Drain, &raw)?;
            Ok(Self { before })
        };
        let entered: io::Result<Self> = entered().map_err(|error: rustix::io::Errno| error.into());
        entered.map(Some).map_err(|error| Failure::host(&error))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Ignore an error: the terminal may have disappeared.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The height and width of this process's terminal, in characters; `None` if it has none.
pub(super) fn size() -> Option<(u16, u16)> {
    let of_stdin = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout()));
    let size = of_stdin.ok().map(|size| (size.ws_row, size.ws_col));
    size.filter(|size| *size != (0, 0))
}

/// Calls `resize` with the size of this process's terminal, now and after each change. Never returns: the caller races it
/// with the container's end.
pub(super) async fn follow_size(resize: impl AsyncFn((u16, u16))) -> Infallible {
    // Without the signal, the size stays as it is.
    let mut changes = signal(SignalKind::window_change()).ok();
    loop {
        if let Some(size) = size() {
            resize(size).await;
        }
        let changed = match &mut changes {
            Some(changes) => changes.recv().await,
            None => None,
        };
        if changed.is_none() {
            return std::future::pending().await;
        }
    }
}

/// Logs that a terminal did not take a size. That it has ended is no failure.
pub(super) fn resized(resized: Result<(), Error>) {
    if let Err(error) = resized
        && error.kind() != Kind::NotFound
    {
        tracing::debug!(error = %crate::chain(&error), "the terminal keeps its size");
    }
}

/// Refuses an input that is to be a terminal's and is none.
///
/// # Errors
/// [`Failure::usage`], which names the options.
pub(super) fn check(interactive: bool, tty: bool) -> Result<(), Failure> {
    match interactive && tty && !io::stdin().is_terminal() {
        true => Err(Failure::usage(
            "-i with --tty (-t) needs a terminal on standard input, which is none; leave out --tty where no person types",
        )),
        false => Ok(()),
    }
}
