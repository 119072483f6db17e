//! Runs one plugin once: an environment and JSON go in, JSON or an error comes out, within a time limit.

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

/// The maximum output of a plugin, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// The path on which plugins find the programs that they run (iptables). The path of this process is not passed on,
/// because the work of a plugin must not depend on how this process was started.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The directories of plugins, and how long one plugin may take.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Plugins {
    pub(in crate::sandbox) dirs: Vec<PathBuf>,
    pub(in crate::sandbox) patience: Duration,
}

/// The namespace and the interface that plugins work on.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct Attachment<'a> {
    /// The name by which plugins identify the namespace.
    pub(in crate::sandbox) id: &'a str,
    /// The path of the namespace; empty if it no longer exists.
    pub(in crate::sandbox) netns: &'a str,
    pub(in crate::sandbox) interface: &'a str,
}

/// The operation that a plugin performs.
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

/// The error that a plugin prints when it fails.
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

    /// Runs a plugin and returns its result, if it prints one.
    ///
    /// # Cancellation
    /// If the future is dropped, the program and all processes that it has started are killed. A DEL must undo what
    /// they did by then.
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
            // A group, so that its children are killed with it: iptables may wait for a lock.
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

/// A process and all that it has started. Killed on drop unless the process ended by itself.
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
            // The number is not reused while the group has a member; tokio reaps the leader.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn talk(mut child: Child, stdin: &Value) -> std::io::Result<Output> {
    let input = serde_json::to_vec(stdin)?;
    let (mut to, from, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(to) = &mut to {
            // A plugin that ends without reading its input fails for its own reasons, and reports them.
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
            None => format!("it wrote no message, and ended with {}", output.status),
        },
    })
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
