//! Asks for confirmation before things are removed that the user has not named one by one.

use std::io::{self, BufRead as _, Write as _};

use super::Invocation;
use super::failure::Failure;

/// Asks on standard error, and reads the answer from standard input. Any answer other than yes is a failure, and so is
/// a signal.
pub(super) async fn confirm(invocation: Invocation<'_>, question: String) -> Result<(), Failure> {
    let asked = tokio::task::spawn_blocking(move || -> io::Result<String> {
        let mut out = io::stderr().lock();
        write!(out, "{question} [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 {
            writeln!(out)?;
        }
        Ok(answer)
    });
    let answer = match invocation.interrupt.ctx().run(asked).await {
        Ok(answer) => answer.map_err(|error| Failure::host(&error))?,
        Err(_) => return Err(Failure::interrupted()),
    };
    let answer = answer.map_err(|error| Failure::usage(format!("cannot ask: {error}; --force does not")))?;
    if is_yes(&answer) {
        return Ok(());
    }
    Err(Failure::usage(
        "nothing was removed, because the answer was not yes; --force does not ask",
    ))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes(" YES\r\n"));
        assert!(!is_yes("") && !is_yes("no\n") && !is_yes("yesterday\n"));
    }
}
