//! What a container joins: a network namespace, and the network that it is attached to.
//!
//! ```text
//!            reserve               attach                                 (a container)         remove
//!  Wanted ───────────► Reserved ───────────► Sandbox ─────────────────────────────────────────► nothing left
//!          a name only  │   journal entry · netns pinned · plugins ADD · result into the entry   DEL · unpin · entry
//!                       └── pool: one that is there already
//! ```
//!
//! A namespace is pinned by a mount and needs no process. What plugins have made (addresses, rules, a veth pair) is undone by
//! the same plugins with the configuration of then, which the journal keeps. So whoever finds an entry can undo it: the
//! container's close, the next start after a crash, another process that removes the container.
//!
//! | file | what |
//! |---|---|
//! | [`netns`], [`netlink`] | the namespace |
//! | [`cni`] | plugins and their configuration |
//! | [`networks`] | which networks there are, and which of several is used least |
//! | [`journal`] | what must be undone, by whom |
//! | [`forward`] | what the firewall is to let through, as no plugin has it do |
//! | [`mod@firewalls`] | what all of them do with what is forwarded, for a person |
//! | [`redirects`], [`rules`], [`iptables`] | ports that rules of others lead elsewhere; rules that plugins forget; the programs |
//! | [`files`] | `/etc/hosts` and `/etc/resolv.conf` for it |
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

/// The interface inside, as everybody calls it.
const INTERFACE: &str = "eth0";
/// What keeps a sandbox's name from being anybody else's.
const PREFIX: &str = "fnctr-";

/// Makes sandboxes and undoes them; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where namespaces are pinned.
    pins: PathBuf,
    scope: String,
    plugins: Plugins,
    networks: Networks,
    journal: Journal,
    /// One change of the firewall after the other: each is worked out from what is there.
    firewall: Mutex<()>,
    /// Plugins are processes that start processes: more at once than this only wait for each other.
    turns: Semaphore,
}

/// What a sandbox shall be attached to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// The network of these that is used least; none is the default one.
    pub(crate) networks: Vec<String>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortMapping>,
}

/// A sandbox that is decided and not made: its name is taken, it counts among the users of its network, and nothing else.
#[derive(Debug)]
pub(crate) struct Reserved {
    id: String,
    path: PathBuf,
    /// The network, and those that will do if it is full.
    lists: Vec<List>,
    arguments: Map<String, Value>,
    _counts: Counts,
}

/// One that is about to use a network. Dropped, it is not any more: it has an entry by then, which counts, or never will.
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
    /// Its name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where its namespace will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A sandbox that is there.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    /// Its name.
    pub(crate) id: String,
    /// Where its namespace is pinned.
    pub(crate) path: PathBuf,
    mark: Mark,
    /// The network that it is attached to.
    pub(crate) network: String,
    /// Its addresses.
    pub(crate) addresses: Vec<Address>,
    /// What the network says about names.
    pub(crate) dns: Dns,
    /// How long each plugin took, in the order in which they ran.
    pub(crate) taken: Vec<(String, Duration)>,
}

impl Sandbox {
    /// The numbers that tell its namespace from others (namespaces(7)).
    pub(crate) fn numbers(&self) -> (u64, u64) {
        self.mark.numbers()
    }

    /// Whether its namespace is still where it was. Microseconds.
    pub(crate) fn is_there(&self) -> bool {
        netns::is_there(&self.path, self.mark)
    }
}

impl Sandboxes {
    /// `run_dir` dies with the host; `scope` says whose containers will use them; `token` is a name of this process that no
    /// other has.
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

    /// Which networks there are.
    pub(crate) fn networks(&self) -> &Networks {
        &self.0.networks
    }

    /// Decides which network it will be and how the sandbox will be called. A plugin that is missing, a port that is taken and
    /// a configuration that is broken show here, before anything is made. On first use of the default network its
    /// configuration is written.
    pub(crate) fn reserve(&self, wanted: &Wanted) -> Result<Reserved, Error> {
        let mut lists = self.0.networks.choose(&wanted.networks)?;
        let first = lists.remove(0);
        let counts = Counts {
            inner: Arc::clone(&self.0),
            network: first.name.clone(),
        };
        self.0.can_attach(&first, &wanted.ports)?;
        // What is wrong with another one is told to whoever asks for it.
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

    /// The name and the place of a pin on another container's namespace, which is not made yet.
    pub(crate) fn reserve_pin(&self) -> (String, PathBuf) {
        let id = self.name();
        let path = self.pin(&id);
        (id, path)
    }

    /// Where a sandbox of ours is pinned, if it is.
    pub(crate) fn pinned(&self, id: &str) -> Option<PathBuf> {
        let path = self.pin(id);
        (is_name(id) && netns::is_pinned(&path)).then_some(path)
    }
}

impl Inner {
    /// Whether all that a network needs is here.
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

/// Whether a name is that of a sandbox, and of nothing else: it becomes the name of files that are removed.
fn is_name(id: &str) -> bool {
    id.starts_with(PREFIX)
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A name that no other process, and no other call of this one, makes. Short: plugins hash it into the names of their chains.
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
