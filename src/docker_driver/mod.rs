//! The driver contract on any Docker Engine API: translates the inputs, calls the engine, translates the results. Never
//! knows what answers: dockerd, or this project's own server.
//!
//! ```text
//! driver ─► cookie ─► create ─► container ─► run ─► wait
//!    │         │        │           │         ├─► streams
//!    │         │        └ networks  │         └─► sampler ─► stats
//!    ├─► pool ─┴─► pull ─► flight   └─► removal
//!    ├─► images                                      all of them ─► daemon ─HTTP─► the engine
//!    └─► orphans
//! ```

mod container;
mod cookie;
mod create;
mod daemon;
mod draft;
mod driver;
mod error;
mod flight;
mod freezer;
mod image_name;
mod images;
mod networks;
mod options;
mod orphans;
mod phase;
mod plan;
mod pool;
mod pull;
mod register;
mod removal;
mod run;
mod sampler;
mod settings;
mod shared;
mod slot;
mod start;
mod stats;
mod streams;
mod wait;

/// The types of Docker's API that the options of a container consist of.
pub use bollard::models as docker_models;

pub use self::driver::DockerDriver;
pub use self::options::DockerOptions;
pub use self::register::register;
pub use self::settings::DockerSettings;
