//! The record on disk of what is attached to what: written before the first plugin runs, and removed after the last
//! plugin has undone its work.
//!
//! ```text
//! STATE/ID.json            one sandbox: its namespace, its network's configuration as it was, the plugins' result
//! STATE/owners/TOKEN       one process that makes sandboxes; locked for as long as it lives
//! ```
//!
//! Plugins may keep addresses in files that survive a reboot, so the journal survives it too: after a power cut it
//! shows which addresses must be given back. It also is the cache of results that the specification asks for, and
//! contains everything that a DEL needs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::names::PREFIX;
use super::{Error, PortMapping};

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The name of the sandbox, on this host and for the plugins.
    pub(crate) id: String,
    /// The containerd, and the namespace in it, that has the container which uses the sandbox.
    pub(crate) scope: String,
    /// The token of the process that made the sandbox, and that maintains it while no container uses it.
    pub(crate) owner: String,
    /// Where its network namespace is pinned.
    pub(crate) netns: PathBuf,
    /// The container that the sandbox was made for; `None` if it was made ahead, for any container.
    pub(crate) container: Option<String>,
    /// The network that the sandbox is attached to; `None` if it has only its loopback, or pins the namespace of
    /// another container.
    pub(crate) attached: Option<Attached>,
}

/// A network that a sandbox is attached to, or was about to be attached to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// The network's name.
    pub(crate) network: String,
    /// The name of the interface inside the namespace.
    pub(crate) interface: String,
    /// The configuration at the time of the attachment. Later changes of the file do not affect sandboxes that are
    /// attached already.
    pub(crate) config: Value,
    /// The arguments that the runtime passed to the plugins.
    pub(crate) arguments: Map<String, Value>,
    /// The result of the last plugin; `None` until one has returned a result.
    pub(crate) result: Option<Value>,
    /// The plugin that refused to attach, and its message. If the plugin refuses to detach with the same message, it
    /// rejects the configuration as a whole and has changed nothing.
    #[serde(default)]
    pub(crate) refused: Option<Refused>,
}

/// A plugin that refused to attach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) plugin: String,
    pub(crate) what: String,
}

impl Entry {
    /// Describes the user of the sandbox, for error messages.
    pub(super) fn holder(&self) -> String {
        match &self.container {
            Some(container) => format!("container {container}"),
            None => format!("a prepared network namespace ({})", self.id),
        }
    }

    /// The ports that the sandbox publishes.
    pub(super) fn ports(&self) -> impl Iterator<Item = PortMapping> {
        let arguments = self.attached.as_ref().map(|attached| &attached.arguments);
        let ports = arguments.and_then(|all| all.get("portMappings")?.as_array());
        ports.into_iter().flatten().filter_map(PortMapping::of_argument)
    }

    /// Replaces the ports that the sandbox publishes.
    pub(super) fn set_ports(&mut self, ports: &[PortMapping]) {
        if let Some(attached) = &mut self.attached {
            let ports = ports.iter().map(PortMapping::argument).collect();
            attached
                .arguments
                .insert("portMappings".to_owned(), Value::Array(ports));
        }
    }
}

/// The directory of the journal, and the registration of this process in it.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    token: String,
    /// Held until the journal is dropped; the kernel releases the lock of a process that is killed. Without the lock,
    /// entries can be read and removed but not written, because other processes would take a new entry for one of a
    /// process that has ended.
    lock: Result<Flock<File>, NoRoom>,
}

/// Why a process is not registered in the journal.
#[derive(Debug)]
struct NoRoom {
    file: PathBuf,
    why: Errno,
}

impl NoRoom {
    /// Converts the error of a file system that takes no new file. Any other error is returned unchanged, for the
    /// caller to report at once.
    fn of(error: Error) -> Result<Self, Error> {
        match &error {
            Error::Journal { path, source, .. } => {
                let full = [Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS];
                let why = source.raw_os_error().map(Errno::from_raw);
                let why = why.filter(|why| full.contains(why)).ok_or(());
                why.map(|why| Self {
                    file: path.clone(),
                    why,
                })
                .map_err(|()| error)
            }
            _ => Err(error),
        }
    }

    fn error(&self) -> Error {
        failed("made", &self.file)(self.why.into())
    }
}

impl Journal {
    /// Opens the journal for the process with this token. If the file system takes no new file, existing entries can
    /// still be undone.
    pub(super) fn open(dir: &Path, token: &str) -> Result<Self, Error> {
        let lock = match Self::take_place(dir, token) {
            Ok(lock) => Ok(lock),
            Err(error) => Err(NoRoom::of(error)?),
        };
        Ok(Self {
            dir: dir.to_owned(),
            token: token.to_owned(),
            lock,
        })
    }

    fn take_place(dir: &Path, token: &str) -> Result<Flock<File>, Error> {
        let owners = dir.join("owners");
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&owners).map_err(failed("made", &owners))?;
        // The file is locked before it gets the name under which other processes test the lock.
        let (path, named) = (owners.join(format!(".{token}")), owners.join(token));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("made", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, why)| failed("locked", &path)(why.into()))?;
        fs::rename(&path, &named).map_err(failed("named", &path))?;
        Ok(lock)
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Writes an entry atomically: after a power cut it exists as a whole, or not at all.
    pub(super) fn write(&self, entry: &Entry) -> Result<(), Error> {
        self.lock.as_ref().map_err(NoRoom::error)?;
        let path = self.path(&entry.id);
        let failed = failed("written", &path);
        let json = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        write_whole(&path, &json).map_err(failed)
    }

    /// Writes an entry that `fitted` has changed to fit beside the existing entries. Only one process at a time does this.
    pub(super) fn write_alone(
        &self,
        entry: &mut Entry,
        fitted: impl FnOnce(&mut Entry, &[Entry]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = self.dir.join("owners").join(".ports");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(failed("made", &path))?;
        let _held = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, why)| failed("locked", &path)(why.into()))?;
        fitted(entry, &self.all()?)?;
        self.write(entry)
    }

    /// Removes an entry. Succeeds if there is none.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removed", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Returns one entry, if it exists.
    pub(super) fn read(&self, id: &str) -> Result<Option<Entry>, Error> {
        read(&self.path(id))
    }

    /// Returns all entries. An entry that cannot be read is logged and skipped.
    pub(super) fn all(&self) -> Result<Vec<Entry>, Error> {
        all(&self.dir)
    }

    /// Whether the process with this token is alive.
    pub(super) fn lives(&self, token: &str) -> bool {
        token == self.token || lives(&self.dir, token)
    }

    /// Removes the registrations of processes that have ended, and their unfinished files.
    pub(super) fn forget_the_dead(&self) {
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok())
        };
        let owners = self.dir.join("owners");
        let named = names(&owners).filter(|token| !token.starts_with('.'));
        for token in named.filter(|token| !self.lives(token)) {
            drop(fs::remove_file(owners.join(token)));
        }
        for name in names(&self.dir).filter(|name| name.ends_with(".new")) {
            let token = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('-'));
            if token.is_some_and(|(token, _)| !self.lives(token)) {
                drop(fs::remove_file(self.dir.join(name)));
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(fs::remove_file(self.dir.join("owners").join(&self.token)));
    }
}

/// Returns all entries of a journal, without registering in it.
pub(super) fn all(dir: &Path) -> Result<Vec<Entry>, Error> {
    let mut all = Vec::new();
    for file in fs::read_dir(dir).map_err(failed("read", dir))? {
        let path = file.map_err(failed("read", dir))?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        match read(&path) {
            Ok(entry) => all.extend(entry),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "skipped an unreadable journal entry of a network namespace")
            }
        }
    }
    all.sort_by(|a: &Entry, b| a.id.cmp(&b.id));
    Ok(all)
}

/// Whether the process with this token in the journal is alive.
pub(super) fn lives(dir: &Path, token: &str) -> bool {
    let Ok(file) = File::open(dir.join("owners").join(token)) else {
        return false;
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => false,
        Err((_, why)) => why == Errno::EWOULDBLOCK,
    }
}

fn read(path: &Path) -> Result<Option<Entry>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(failed("read", path))?,
    };
    let entry = serde_json::from_slice(&bytes).map_err(|error| failed("read", path)(error.into()))?;
    Ok(Some(entry))
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Journal {
        path: path.clone(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.into(),
            scope: "s".into(),
            owner: "o".into(),
            netns: "/n".into(),
            container: None,
            attached: None,
        }
    }

    #[test]
    fn entries_are_there_until_they_are_removed_and_a_broken_one_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), "t1").unwrap();
        let mut one = entry("s1");
        journal.write(&one).unwrap();
        one.attached = Some(Attached {
            network: "a".into(),
            interface: "eth0".into(),
            config: serde_json::json!({ "name": "a" }),
            arguments: Map::new(),
            result: None,
            refused: None,
        });
        journal.write(&one).unwrap();
        journal.write(&entry("s2")).unwrap();
        fs::write(dir.path().join("s3.json"), "{").unwrap();
        assert_eq!(journal.all().unwrap(), [one.clone(), entry("s2")]);
        assert_eq!(journal.read("s1").unwrap(), Some(one));
        assert_eq!(journal.read("s9").unwrap(), None);
        journal.read("s3").unwrap_err();
        journal.remove("s1").unwrap();
        journal.remove("s1").unwrap();
        assert_eq!(journal.all().unwrap(), [entry("s2")]);
    }

    #[test]
    fn an_owner_lives_for_as_long_as_it_holds_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            Journal::open(dir.path(), "t1").unwrap(),
            Journal::open(dir.path(), "t2").unwrap(),
        );
        assert!(one.lives("t1") && one.lives("t2") && two.lives("t1"));
        assert!(!one.lives("t3"));
        // What a killed process leaves behind.
        fs::write(dir.path().join("owners/t3"), "").unwrap();
        fs::write(dir.path().join("fnctr-t3-0.new"), "{").unwrap();
        fs::write(dir.path().join("fnctr-t2-0.new"), "{").unwrap();
        assert!(!one.lives("t3"));
        one.forget_the_dead();
        assert!(!dir.path().join("fnctr-t3-0.new").exists() && dir.path().join("fnctr-t2-0.new").exists());
        assert!(!dir.path().join("owners/t3").exists() && dir.path().join("owners/t2").exists());
        drop(two);
        assert!(!one.lives("t2") && !dir.path().join("owners/t2").exists());
    }
}
