//! Keys typed while a screen is shown, without waiting for the end of a line.

use std::io::{self, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::io::AsyncReadExt as _;

/// The terminal on standard input, whose keys come one by one and unseen. Dropped, it is as it was before.
#[derive(Debug)]
pub(super) struct Keys {
    before: Termios,
}

impl Keys {
    /// `None` where nobody types: no terminal on standard input and output, or this process is in its background, where the
    /// kernel would stop it for asking.
    pub(super) fn listen() -> Option<Self> {
        let input = io::stdin();
        if !input.is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        if tcgetpgrp(&input).ok()? != rustix::process::getpgrp() {
            return None;
        }
        let before = tcgetattr(&input).ok()?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Now, &now).ok()?;
        Some(Self { before })
    }

    /// Waits for a `q`.
    ///
    /// # Cancellation
    /// Safe to drop: a key that was typed meanwhile is read at the next call.
    pub(super) async fn quit(&self) {
        let mut input = tokio::io::stdin();
        loop {
            match input.read_u8().await {
                Ok(b'q' | b'Q') => return,
                Ok(_) => {}
                // Nobody can type any more.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
