//! The engine of a process that lives for long and looks after every container of the instance: a server.
//!
//! ```text
//! Engine::serve ──► ServerLock: the only server of this instance
//!   │
//!   ├─ restore: subscribe to containerd's events, then read all records and tasks ──► Registry
//!   │
//!   └─ in the background, until the server is closed or killed:
//!        follow     what other processes make, start and remove ──► Registry
//!        supervise  the end of each run is written down at once; deadlines of abandoned containers are kept
//!        restarting what has ended is started again, if its restart policy says so
//!        health     containers that have a health check are probed
//!        names      containers on a network find each other by name
//!        streams    output that no process holds is held, so that no container waits because nobody reads
//! ```
//!
//! Nothing that a server does is lost with it: the next one reads the records. So a server leaves all containers as they
//! are when it ends, however it ends.

mod attach;
mod follow;
mod health;
mod make;
mod name_table;
mod names;
mod registry;
mod restarting;
mod restore;
mod serve;
mod served;
mod served_health;
mod shared;
mod start_run;
mod starter;
mod streams;
mod supervise;
mod wait;

pub(crate) use self::attach::ServedAttachment;
pub(crate) use self::serve::Server;
pub(crate) use self::served::Served;
