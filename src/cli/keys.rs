//! Reads keys while a screen is shown, without waiting for the end of a line.

use std::io::{self, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::io::AsyncReadExt as _;

/// The terminal on standard input, set to deliver keys one by one and not to display them. Drop restores its previous
/// settings.
#[derive(Debug)]
pub(super) struct Keys {
    before: Termios,
}

impl Keys {
    /// Returns `None` if standard input or output is not a terminal, or if this process is in the background, where the
    /// kernel would stop it for changing the terminal.
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
    /// Safe to drop, but the read that was under way takes the next key, so that key is lost.
    pub(super) async fn quit(&self) {
        let mut input = tokio::io::stdin();
        loop {
            match input.read_u8().await {
                Ok(b'q' | b'Q') => return,
                Ok(_) => {}
                // Standard input has failed or ended, so no key can follow.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Ignore an error: the terminal may have disappeared.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
