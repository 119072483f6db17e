//! One plugin, run once: an environment and JSON in, JSON or an error out, within a time.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::Context;
use crate::sandbox::Error;

/// The most that one may say.
const MAX_OUTPUT: u64 = 1 << 20;
/// Where plugins find the programs that they run (iptables). Ours is not passed on: what a plugin does must not depend on who
/// started us.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where plugins are, and how long one may take.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Plugins {
    pub(in crate::sandbox) dirs: Vec<PathBuf>,
    pub(in crate::sandbox) patience: Duration,
}

/// What is attached to what.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct Attachment<'a> {
    /// What the plugins know the namespace by.
    pub(in crate::sandbox) id: &'a str,
    /// Where it is; empty if it is gone.
    pub(in crate::sandbox) netns: &'a str,
    pub(in crate::sandbox) interface: &'a str,
}

/// What a plugin is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
        }
    }
}

/// What a plugin says when it fails.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Plugins {
    /// The program of a plugin, if it is installed.
    pub(in crate::sandbox) fn program(&self, kind: &str) -> Option<PathBuf> {
        let mut candidates = self.dirs.iter().map(|dir| dir.join(kind));
        candidates.find(|path| path.is_file())
    }

    /// Runs a plugin; what it says, if anything.
    ///
    /// # Cancellation
    /// Dropped, the program is killed, with what it has started; what it did by then is for a DEL to undo.
    pub(super) async fn run(
        &self,
        ctx: &Context,
        network: &str,
        kind: &str,
        verb: Verb,
        at: Attachment<'_>,
        stdin: &Value,
    ) -> Result<Option<Value>, Error> {
        let (owned, command) = ((network.to_owned(), kind.to_owned()), verb.name());
        let named = move || owned.clone();
        let program = self.program(kind).ok_or_else(|| Error::NoPlugin {
            network: network.to_owned(),
            plugin: kind.to_owned(),
            dirs: self.dirs.clone(),
        })?;
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        let child = Command::new(program)
            .env_clear()
            .env("PATH", PATH)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", at.id)
            .env("CNI_NETNS", at.netns)
            .env("CNI_IFNAME", at.interface)
            .env("CNI_PATH", dirs.join(":"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its children end with it: iptables may wait for a lock.
            .process_group(0)
            .spawn()
            .map_err(|source| {
                let (network, plugin) = named();
                Error::Spawn {
                    network,
                    plugin,
                    source,
                }
            })?;
        let group = Group::of(&child);
        let said = ctx
            .run(tokio::time::timeout(self.patience, talk(child, stdin)))
            .await;
        let output = match said {
            Ok(Ok(output)) => {
                group.ended();
                output.map_err(|source| {
                    let (network, plugin) = named();
                    Error::Spawn {
                        network,
                        plugin,
                        source,
                    }
                })?
            }
            Ok(Err(_)) => {
                let (network, plugin) = named();
                let after = self.patience;
                return Err(Error::Hangs {
                    network,
                    plugin,
                    command,
                    after,
                });
            }
            Err(why) => return Err(why.into()),
        };
        read(&output).map_err(|unread| {
            let (network, plugin) = named();
            match unread {
                Unread::Failed { code, what } => Error::Plugin {
                    network,
                    plugin,
                    command,
                    code,
                    what,
                },
                Unread::Nonsense(why) => Error::Answer { network, plugin, why },
            }
        })
    }
}

/// A process and all that it has started, killed unless it ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.map(Pid::from_raw))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The leader is not reaped yet, so the number is still its own; tokio reaps it afterwards.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn talk(mut child: Child, stdin: &Value) -> std::io::Result<Output> {
    let input = serde_json::to_vec(stdin)?;
    let (mut to, from, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(to) = &mut to {
            // One that does not read its input fails for its own reasons, which it tells.
            drop(to.write_all(&input).await);
        }
        drop(to.take());
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let read_out = async {
        match from {
            Some(from) => from.take(MAX_OUTPUT).read_to_end(&mut stdout).await,
            None => Ok(0),
        }
    };
    let read_err = async {
        match errors {
            Some(errors) => errors.take(MAX_OUTPUT).read_to_end(&mut stderr).await,
            None => Ok(0),
        }
    };
    let ((), out, err) = tokio::join!(write, read_out, read_err);
    out?;
    err?;
    let status = child.wait().await?;
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

enum Unread {
    Failed { code: u64, what: String },
    Nonsense(String),
}

fn read(output: &Output) -> Result<Option<Value>, Unread> {
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.trim();
    if output.status.success() {
        if text.is_empty() {
            return Ok(None);
        }
        return match serde_json::from_str(text) {
            Ok(said) => Ok(Some(said)),
            Err(why) => Err(Unread::Nonsense(why.to_string())),
        };
    }
    let words = |text: &str| -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(600).collect()
    };
    if let Ok(Failure { code, msg, details }) = serde_json::from_str(text)
        && !(msg.is_empty() && details.is_empty())
    {
        let all = [msg, details].join("; ");
        return Err(Unread::Failed {
            code,
            what: words(all.trim_matches([';', ' '])),
        });
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = [text, stderr.trim()].into_iter().find(|said| !said.is_empty());
    Err(Unread::Failed {
        code: 0,
        what: match said {
            Some(said) => words(said),
            None => format!("it said nothing, and ended with {}", output.status),
        },
    })
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
