//! The driver contract on the engine: translates the inputs, calls the engine, translates the results. Never calls
//! containerd itself.

mod adopt;
mod command_pull;
mod cookie;
mod draft;
mod driver;
mod error;
mod held;
mod logs;
mod options;
mod plan;
mod pool;
mod pool_state;
mod pull;
mod register;
mod registries;
mod sampler;
mod settings;
mod shared;
mod stats;
mod streams;
mod wait;

pub use self::adopt::{Adoptable, Adopted, ContainerState};
pub(crate) use self::command_pull::ImageToPull;
pub(crate) use self::cookie::ContainerdCookie;
pub use self::driver::ContainerdDriver;
pub(crate) use self::error::{not_connected, translate};
pub use self::options::ContainerOptions;
pub use self::register::register;
pub use self::registries::Registries;
pub use self::settings::Settings;
pub(crate) use self::stats::stat;
pub use crate::driver::PoolState;
pub use crate::engine::{CgroupDriver, Network, UnknownDriver};
pub use crate::sandbox::{InvalidPortMapping, NetworkSettings, PortMapping, Protocol};
