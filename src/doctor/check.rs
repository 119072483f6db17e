//! The result of a check.

use std::fmt;

use serde::Serialize;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// Functions run, but something is slower, or a setting cannot be enforced.
    Warn,
    /// Functions do not run.
    Bad,
}

/// The result of one check of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked, in a word or two.
    pub name: &'static str,
    /// The outcome.
    pub status: Status,
    /// What was found, and what that means, as a sentence without a full stop.
    pub found: String,
    /// The remedy, if the outcome is not ok: a command, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    pub(super) fn new(name: &'static str, status: Status, found: impl Into<String>) -> Self {
        Self {
            name,
            status,
            found: found.into(),
            mend: None,
        }
    }

    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, found)
    }

    /// Every warning has a remedy, because a warning without one does not help.
    pub(super) fn warn(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, found).mend(mend)
    }

    pub(super) fn bad(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(name, Status::Bad, found).mend(mend)
    }

    pub(super) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "BAD",
        })
    }
}

impl fmt::Display for Check {
    /// Writes one line, which ends with the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<12}  {}", self.status, self.name, self.found)?;
        match &self.mend {
            Some(command) => write!(f, "  →  {command}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_that_ends_with_what_mends_it() {
        let check = Check::bad("init", "there is none", "apt-get install -y tini");
        assert_eq!(
            check.to_string(),
            "BAD   init          there is none  →  apt-get install -y tini"
        );
    }
}
