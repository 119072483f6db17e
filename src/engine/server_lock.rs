//! One server per instance: a file lock, which the kernel releases when its process ends, however it ends. The file
//! names the process for those that are refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::deps::Deps;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::host;
use crate::Context;
use crate::file_lock::FileLock;
use crate::process_identity::{Life, ProcessIdentity};
use crate::stdio::Streams;

/// No container has this name: names begin with a letter or a digit.
const FILE: &str = ".server";
/// How often the lock is tried before another process counts as the server: one that was just killed may still have it.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// The right to be the server of an instance. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct ServerLock(FileLock);

impl Drop for ServerLock {
    fn drop(&mut self) {
        // A process that lives on is not the server any more.
        drop(self.0.file().set_len(0));
    }
}

/// Another process is the server.
#[derive(Debug, thiserror::Error)]
#[error(
    "process {pid} is its server; an instance, which is a containerd namespace with its run directory, has one server"
)]
pub(crate) struct AlreadyServed {
    /// The process, in the pid namespace of that process; a question mark if it has not written its id yet.
    pid: String,
}

impl ServerLock {
    /// Takes the lock.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn take(deps: &Deps, ctx: &Context) -> Result<Self> {
        let path = path(deps);
        let shown = path.parent().unwrap_or(&path).display().to_string();
        let failed = |error: io::Error| {
            let why = format!("its lock {} cannot be taken: {error}", path.display());
            Error::new(
                Step::Serve,
                &shown,
                Kind::Internal,
                io::Error::new(error.kind(), why),
            )
        };
        for _ in 0..TRIES {
            if let Some(lock) = attempt(&path).map_err(failed)? {
                return Ok(lock);
            }
            ctx.run(tokio::time::sleep(PAUSE)).await.at(Step::Serve, &shown)?;
        }
        let pid = holder(&path).map_or_else(|| "?".to_owned(), |holder| holder.pid().to_string());
        Err(Error::new(
            Step::Serve,
            &shown,
            Kind::Conflict,
            AlreadyServed { pid },
        ))
    }
}

/// The streams of a container that this process leaves running: its output is left to the server of the instance, or
/// discarded if there is none. It has no input.
pub(super) fn streams_of_detached(deps: &Deps) -> Streams {
    match is_served(deps) {
        true => Streams::left(),
        false => Streams::default(),
    }
}

/// Whether a process is the server of the instance.
pub(super) fn is_served(deps: &Deps) -> bool {
    // Does not touch the lock itself: a server that is just starting would be refused.
    let server = holder(&path(deps));
    server.is_some_and(|server| server.life() == Life::Lives)
}

fn path(deps: &Deps) -> PathBuf {
    deps.config
        .run_dir
        .join(deps.config.namespace.as_str())
        .join(FILE)
}

/// The process that a lock file names.
fn holder(path: &PathBuf) -> Option<ProcessIdentity> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    ProcessIdentity::parse(&text)
}

/// Takes the lock and writes this process into its file; `None` if another process has it.
fn attempt(path: &PathBuf) -> io::Result<Option<ServerLock>> {
    if let Some(dir) = path.parent() {
        host::make_private(dir)?;
    }
    let mut options = OpenOptions::new();
    options
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600);
    let Some(mut lock) = FileLock::exclusive(options.open(path)?)? else {
        return Ok(None);
    };
    let file = lock.file();
    file.set_len(0)?;
    file.rewind()?;
    if let Some(this) = ProcessIdentity::this() {
        file.write_all(this.to_string().as_bytes())?;
    }
    Ok(Some(ServerLock(lock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_it_and_is_named_until_it_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns").join(FILE);
        assert!(holder(&path).is_none());
        let first = attempt(&path).unwrap().unwrap();
        assert!(attempt(&path).unwrap().is_none());
        assert_eq!(holder(&path).as_ref(), ProcessIdentity::this());
        drop(first);
        assert!(attempt(&path).unwrap().is_some());
    }
}
