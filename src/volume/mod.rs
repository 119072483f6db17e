//! Volumes: directories of the host that outlive the containers that use them.
//!
//! ```text
//! DIR                    locked by whoever makes or removes a volume, or begins to use one
//! DIR/NAME/volume.json   what the volume is
//! DIR/NAME/_data/        its files
//! DIR/NAME/.filling      they are being copied from an image, or that was interrupted
//! DIR/.new-*, DIR/.old-* one that is being made or removed; what a killed process has left goes with the next change
//! ```
//!
//! Who uses a volume is not known here: the records of the containers state that.

mod error;
mod filling;
mod held;
mod name;
mod options;
mod store;
mod what;

pub(crate) use self::error::Error;
pub(crate) use self::filling::Filling;
pub(crate) use self::held::Held;
pub(crate) use self::name::{InvalidVolumeName, VolumeName};
pub(crate) use self::options::VolumeOptions;
pub(crate) use self::store::VolumeStore;
pub(crate) use self::what::{NewVolume, Volume};
