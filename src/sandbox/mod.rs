//! What a container joins: a network namespace, and the network that the namespace is attached to.
//!
//! ```text
//!            reserve               attach                                 (a container)         remove
//!  NetworkRequest ───► Reserved ───────────► Sandbox ─────────────────────────────────────────► nothing left
//!          a name only  │   journal entry · netns pinned · plugins ADD · result into the entry   DEL · unpin · entry
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

mod attach;
mod blocking;
mod bridge;
mod cni;
mod configured;
mod error;
mod family;
pub(crate) mod files;
mod firewalls;
mod fit_ports;
mod forward;
mod inner;
mod iptables;
mod journal;
mod known;
mod listing;
mod name_sockets;
mod names;
mod netlink;
mod netns;
mod network_request;
mod networks;
mod ports;
mod redirects;
mod reserved;
mod rules;
#[expect(
    clippy::module_inception,
    reason = "the file of the noun that the folder is about"
)]
mod sandbox;
mod sandboxes;
mod settings;

pub(crate) use self::bridge::NewNetwork;
pub(crate) use self::cni::{Address, Dns};
pub(crate) use self::error::Error;
pub(crate) use self::family::Family;
#[cfg(test)]
pub(crate) use self::firewalls::Other;
pub(crate) use self::firewalls::{Firewalls, firewalls};
pub(crate) use self::known::{ConfiguredNetwork, DEFAULT, NetworkAbout};
pub(crate) use self::listing::{Listed, MadeFor, SandboxCounts, count_sandboxes};
pub(crate) use self::name_sockets::RESOLVER;
pub(crate) use self::network_request::NetworkRequest;
pub use self::ports::{InvalidPortMapping, PortMapping, Protocol};
pub(crate) use self::reserved::Reserved;
pub(crate) use self::sandbox::Sandbox;
pub(crate) use self::sandboxes::Sandboxes;
pub use self::settings::NetworkSettings;
