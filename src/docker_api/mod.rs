//! Docker's Engine API on the engine: an unmodified Docker client works on a host that runs only containerd.
//!
//! A translator, and nothing else: a handler reads a request, translates it, calls the engine once, and shows the
//! result. It stands beside the function driver, and neither knows the other.
//!
//! ```text
//! socket ─► server ─► connection (hyper; an attach takes it over) ─► request ─► router ─► one handler
//!                                                                                          │ plan (pure)
//!                                                                                          ▼
//!   client ◄── answer (head, headers, body) ◄── view (pure) ◄────────────────────── engine::Server
//!                   ▲
//!                   └── refused: the one table of errors and statuses
//! ```
//!
//! What a client asks for and the engine does not have is refused by name, never ignored: the list is in
//! `containers/unsupported.rs`. The versions served are in [`version`].

mod answer;
mod carry;
mod client;
mod connection;
mod containers;
mod default_log;
mod door;
mod events;
mod exec_registry;
mod execs;
mod filters;
mod frames;
mod image_names;
mod images;
mod json;
mod limits;
mod metrics_page;
mod networks;
mod query;
mod refused;
mod replay;
mod request;
mod router;
mod server;
mod socket;
mod system;
mod terminal;
mod time;
mod version;
mod volume_names;
mod volumes;

pub(crate) use self::containers::default_log;
pub(crate) use self::default_log::DefaultLog;
pub(crate) use self::limits::Limits;
pub(crate) use self::metrics_page::MetricsPage;
pub(crate) use self::server::DockerApi;
pub(crate) use self::socket::{Access, INHERITED, SocketError, inherited, listen};
