//! The life of a container: plan → resolve → create → start → wait → close.
//!
//! Three lifetimes are nested: a [`container`] (its record and its writable layer) has a [`run`] (network, cgroup,
//! streams), which has a [`process`]. The container and the run have one undo list each; see [`undo`].
//!
//! ```text
//!            resolve            create             start
//!   Plan ───────────► Image ───────────► Created ─────────► Running ──► (exit, all output) ──► Outcome
//!     │                  │                  │                 │ ▲ │                               │
//!     │ not there: None  │ anything fails:  │           freeze│ │ │thaw                           │
//!     ▼                  ▼ undo, last first ▼                 ▼ │ │                               ▼
//!   (pulled first)     nothing is left    close             Frozen                             close
//!                                           └──────────────────┴───────► nothing is left ◄────────┘
//! ```
//!
//! The life of a container takes nine containerd calls, and each is needed:
//!
//! | call | why |
//! |---|---|
//! | Images/Get | the name may refer to another image by now; the image itself is cached by its digest |
//! | Containers/Create | reserves the id and protects the snapshot from the garbage collector (see [`record`]) |
//! | Snapshots/Prepare | the writable layer |
//! | Tasks/Create | makes shim, cgroup, namespaces, and the process, which waits behind its start gate |
//! | Tasks/Wait | answered at the end; sent beside the start, so it costs no time; cancelled if it lasts ([`wait`]) |
//! | Tasks/Start | opens the gate |
//! | Tasks/Delete | ends the shim, removes the cgroup |
//! | Containers/Delete, Snapshots/Remove | undo Containers/Create and Snapshots/Prepare |
//!
//! A container that is [`kept`] outlives its run: its record has the plan and how the last run went.
//!
//! ```text
//!              start                       settle
//!   Never ───────────────► Started ─────────────────────► Ended ──► start again, or remove
//!   (record and layer)     (a run, with its own undo list)  (record and layer)
//! ```
//!
//! The record is updated once before each further run (with the network of that run) and once after each run. One
//! process at a time does so ([`turn`]). The process that made a run writes its end; if that process has left the run
//! or has ended, the next engine that finds the container does ([`abandoned`]).
//!
//! [`Engine`] is in [`deps`]; its methods are in the files of their subjects. This module depends on no driver contract,
//! no HTTP and no command line. Driver and command both pass it a [`Plan`].

mod abandoned;
mod adopt;
mod again;
mod archive;
mod attach;
mod bundle;
mod checks;
mod close;
mod config;
mod connect;
mod container;
mod create;
mod custody;
mod declared_volumes;
mod deps;
mod disk;
mod error;
mod etc;
mod events;
mod exec;
mod exits;
mod facts;
mod files;
mod find;
mod first_records;
mod fit;
mod health;
mod host;
mod idle;
mod images;
mod init_layer;
mod input;
mod kept;
pub(crate) mod label;
mod limits;
mod log_plan;
mod logs;
mod mount_points;
mod name_index;
mod names;
mod network;
mod networks;
mod oom;
mod orphans;
mod owned;
mod pause;
mod pidfd;
mod placement;
mod plan;
mod pool;
mod process;
mod process_table;
mod prune;
mod pull;
mod read_log;
mod reclaim;
mod reconcile;
mod record;
mod remains;
mod removal;
mod removal_turn;
mod rename;
mod resize;
mod resolve;
mod respec;
mod restart;
mod rlimits;
mod rootfs;
mod run;
mod run_parts;
mod runtime;
mod sandboxes;
#[cfg(feature = "cli")]
mod server;
mod server_lock;
mod settle;
mod shim;
mod shim_socket;
mod signal;
mod slot;
mod spec;
mod stage;
mod stats;
mod stop;
mod stray_files;
mod stray_networks;
mod sweep;
mod task;
mod traffic;
mod turn;
mod undo;
mod unfinished;
mod until;
mod update;
mod volume_mounts;
mod volume_use;
mod volumes;
mod wait;

pub(crate) use self::again::{NotStarted, StartedBy};
pub(crate) use self::archive::{ArchiveReader, ArchiveWriter};
pub(crate) use self::attach::{Attachment, NotAttached, SharedStreams};
pub(crate) use self::config::{Config, PoolConfig, Role};
pub(crate) use self::container::Container;
pub(crate) use self::custody::Custody;
use self::deps::Deps;
pub(crate) use self::deps::Engine;
pub(crate) use self::disk::Unlimited;
pub(crate) use self::error::{Error, Kind, Step};
pub(crate) use self::events::event_log;
pub(crate) use self::exec::{Exec, ExecPlan};
pub(crate) use self::files::FileAccess;
pub(crate) use self::find::{ListedContainer, State};
pub(crate) use self::health::{Health, HealthCheck};
pub(crate) use self::images::{Format, ImageError, Removed, StoredImage, StoredImages};
pub(crate) use self::kept::{LastRun, NoPlan, RunEnd};
pub(crate) use self::log_plan::LogPlan;
pub(crate) use self::names::NotOne;
pub(crate) use self::owned::Owned;
pub use self::plan::Network;
pub(crate) use self::plan::Plan;
pub(crate) use self::process::Outcome;
pub(crate) use self::process_table::NoTable;
pub(crate) use self::pull::{Credential, LayerProgress, LayerState, Platform, Progress, Pulling, Request};
pub(crate) use self::restart::{RestartPolicy, is_stop};
pub(crate) use self::run::{Run, WeakRun};
pub(crate) use self::runtime::{Runtime, RuntimeFailed};
#[cfg(feature = "cli")]
pub(crate) use self::server::{Served, ServedAttachment, Server};
pub(crate) use self::server_lock::AlreadyServed;
pub(crate) use self::stats::{Usage, still_frozen};
pub(crate) use self::stop::Stop;
pub(crate) use self::until::Until;
pub(crate) use self::update::Update;
pub(crate) use self::volume_use::VolumeUse;
pub(crate) use self::volumes::{ListedVolume, VolumeInUse};
pub use crate::cgroup::{CgroupDriver, UnknownDriver};
pub(crate) use crate::cgroup::{DEFAULT_PARENT, LimitOwner, OomCount, ThawCount, is_slice};
pub(crate) use crate::events::{Action, Event, Follower, Kind as EventKind, Next};
pub(crate) use crate::files::{ContainerPath, Error as FilesError, FileStat, Unpacking};
pub(crate) use crate::image::{Image, ImageHealth, Reference, refers};
pub(crate) use crate::pool::Bounds;
pub(crate) use crate::sandbox::{
    ConfiguredNetwork, DEFAULT as DEFAULT_NETWORK, Error as NetworkError, NetworkAbout, NewNetwork,
};
pub(crate) use crate::stdio::{
    Chunk, Endpoint, InputWriter, Listener, LogEntry, LogOptions, LogQuery, LogReader, NoSyslog, Over,
    Stream, Streams, Syslog, Wants,
};
pub(crate) use crate::volume::{InvalidVolumeName, NewVolume, Volume, VolumeName, VolumeOptions};
