//! What a container joins: a network namespace, and the network that the namespace is attached to.
//!
//! ```text
//!            reserve               attach                                 (a container)         remove
//!  Wanted ───────────► Reserved ───────────► Sandbox ─────────────────────────────────────────► nothing left
//!          a name only  │   journal entry · netns pinned · plugins ADD · result into the entry   DEL · unpin · entry
//!                       └── pool: one that is there already
//! ```
//!
//! A namespace is pinned by a mount and needs no process. Everything that plugins create (addresses, rules, a veth
//! pair) is removed by the same plugins, with the configuration that the attachment was made with; the journal keeps
//! it. So any process that finds a journal entry can undo it: the close of the container, the next start after a crash,
//! or another process that removes the container.
//!
//! | file | what |
//! |---|---|
//! | [`netns`], [`netlink`] | the namespace |
//! | [`cni`] | plugins and their configuration |
//! | [`networks`] | the networks that exist, and which of several is used least |
//! | [`journal`] | what must be undone, and which process owns it |
//! | [`forward`] | firewall rules for published ports, which no plugin adds |
//! | [`mod@firewalls`] | what all firewalls do with forwarded packets, for the user |
//! | [`redirects`], [`rules`], [`iptables`] | redirected ports; rules that plugins leave behind; the programs |
//! | [`files`] | `/etc/hosts` and `/etc/resolv.conf` of a container |
//! | [`pool`] | sandboxes made ahead |

mod attach;
mod bridge;
mod cni;
mod configured;
mod error;
mod family;
pub(crate) mod files;
mod firewalls;
mod forward;
mod iptables;
mod journal;
mod known;
mod look;
mod netlink;
mod netns;
mod networks;
pub(crate) mod pool;
mod ports;
mod redirects;
mod rules;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Semaphore;

pub(crate) use self::bridge::NewNetwork;
pub(crate) use self::cni::{Address, Dns};
use self::cni::{List, Plugins};
pub(crate) use self::error::Error;
pub(crate) use self::family::Family;
#[cfg(test)]
pub(crate) use self::firewalls::Other;
pub(crate) use self::firewalls::{Firewalls, firewalls};
use self::journal::Journal;
pub(crate) use self::known::{DEFAULT, Known};
pub(crate) use self::look::{Listed, MadeFor, Standing, standing};
pub(crate) use self::netns::Mark;
use self::networks::Networks;
pub use self::ports::{InvalidPortMapping, PortMapping, Protocol};
pub use self::settings::NetworkSettings;

/// The name of the interface inside the namespace, by convention.
const INTERFACE: &str = "eth0";
/// Begins the name of every sandbox, to distinguish it from the names of other programs.
const PREFIX: &str = "fnctr-";

/// Makes sandboxes and removes them. Clones share the same state.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The directory in which namespaces are pinned.
    pins: PathBuf,
    scope: String,
    plugins: Plugins,
    networks: Networks,
    journal: Journal,
    /// Serialises changes of the firewall, because each change is computed from the rules that exist.
    firewall: Mutex<()>,
    /// Limits how many attachments run plugins at once: plugins are processes that start processes, and more of them
    /// would only wait for each other.
    turns: Semaphore,
}

/// What a sandbox is to be attached to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// The networks to choose from; the least used one is taken. Empty selects the default network.
    pub(crate) networks: Vec<String>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortMapping>,
}

/// A sandbox that is planned but not made: only its name is taken, and it counts as a user of its network.
#[derive(Debug)]
pub(crate) struct Reserved {
    id: String,
    path: PathBuf,
    /// The chosen network, followed by the ones to try if it is full.
    lists: Vec<List>,
    arguments: Map<String, Value>,
    _counts: Counts,
}

/// Counts one future user of a network, until dropped. By then the sandbox either has a journal entry and is counted by
/// that, or will never be attached.
#[derive(Debug)]
struct Counts {
    inner: Arc<Inner>,
    network: String,
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.inner.networks.gave_back(&self.network);
    }
}

impl Reserved {
    /// The name of the sandbox.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The path at which the namespace will be pinned.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A sandbox that has been made.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    /// The name of the sandbox.
    pub(crate) id: String,
    /// The path at which the namespace is pinned.
    pub(crate) path: PathBuf,
    mark: Mark,
    /// The network that it is attached to.
    pub(crate) network: String,
    /// Its addresses.
    pub(crate) addresses: Vec<Address>,
    /// The DNS settings of the network.
    pub(crate) dns: Dns,
    /// How long each plugin took, in the order in which they ran.
    pub(crate) taken: Vec<(String, Duration)>,
}

impl Sandbox {
    /// The device and inode number that identify the namespace (namespaces(7)).
    pub(crate) fn numbers(&self) -> (u64, u64) {
        self.mark.numbers()
    }

    /// Whether the namespace is still pinned. Takes microseconds.
    pub(crate) fn is_there(&self) -> bool {
        netns::is_there(&self.path, self.mark)
    }
}

impl Sandboxes {
    /// `run_dir` does not survive a reboot. `scope` names the containerd and the namespace in it whose containers use
    /// the sandboxes. `token` is a name of this process that no other process has.
    pub(crate) fn open(
        settings: &NetworkSettings,
        run_dir: &Path,
        scope: &str,
        token: &str,
    ) -> Result<Self, Error> {
        let journal = Journal::open(&settings.state_dir, token)?;
        let plugins = Plugins {
            dirs: settings.plugin_dirs.clone(),
            patience: settings.plugin_patience,
        };
        let networks = Networks::new(settings, journal.all()?.iter());
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self(Arc::new(Inner {
            pins: run_dir.join("netns"),
            scope: scope.to_owned(),
            plugins,
            networks,
            journal,
            firewall: Mutex::default(),
            turns: Semaphore::new(cpus * 2),
        })))
    }

    /// The networks of this host.
    pub(crate) fn networks(&self) -> &Networks {
        &self.0.networks
    }

    /// Chooses the network and the name of a sandbox. A missing plugin, a taken port and a broken configuration are
    /// reported here, before anything is made. The first use of the default network writes its configuration.
    pub(crate) fn reserve(&self, wanted: &Wanted) -> Result<Reserved, Error> {
        let mut lists = self.0.networks.choose(&wanted.networks)?;
        let first = lists.remove(0);
        let counts = Counts {
            inner: Arc::clone(&self.0),
            network: first.name.clone(),
        };
        self.0.can_attach(&first, &wanted.ports)?;
        // An error of an alternative network is reported to the caller that asks for that network.
        lists.retain(|list| self.0.can_attach(list, &wanted.ports).is_ok());
        lists.insert(0, first);
        let mut arguments = Map::new();
        if !wanted.ports.is_empty() {
            let ports = wanted.ports.iter().map(PortMapping::argument).collect();
            arguments.insert("portMappings".to_owned(), Value::Array(ports));
        }
        let id = self.name();
        Ok(Reserved {
            path: self.pin(&id),
            id,
            lists,
            arguments,
            _counts: counts,
        })
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}", unique(self.0.journal.token()))
    }

    fn pin(&self, id: &str) -> PathBuf {
        self.0.pins.join(id)
    }

    /// Returns the name and the path for a pin on another container's namespace. The pin is not made yet.
    pub(crate) fn reserve_pin(&self) -> (String, PathBuf) {
        let id = self.name();
        let path = self.pin(&id);
        (id, path)
    }

    /// Returns the path at which a sandbox is pinned, if `id` is the name of a sandbox and it is pinned.
    pub(crate) fn pinned(&self, id: &str) -> Option<PathBuf> {
        let path = self.pin(id);
        (is_name(id) && netns::is_pinned(&path)).then_some(path)
    }
}

impl Inner {
    /// Succeeds if all plugins of the network are installed and it can publish the ports.
    fn can_attach(&self, list: &List, ports: &[PortMapping]) -> Result<(), Error> {
        for plugin in &list.plugins {
            let kind = List::kind(plugin);
            if self.plugins.program(kind).is_none() {
                return Err(Error::NoPlugin {
                    network: list.name.clone(),
                    plugin: kind.to_owned(),
                    dirs: self.plugins.dirs.clone(),
                });
            }
        }
        if ports.is_empty() {
            return Ok(());
        }
        self.networks.may_publish(list, ports, &self.journal.all()?)
    }
}

/// Whether `id` is the name of a sandbox. The check is strict, because files with this name are removed.
fn is_name(id: &str) -> bool {
    id.starts_with(PREFIX)
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns a name that no other process and no other call returns. It is short, because plugins hash it into the names
/// of their chains.
fn unique(token: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{token}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
