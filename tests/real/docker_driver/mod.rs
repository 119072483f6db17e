//! The driver `docker`, on this project's own server of Docker's API.

mod laws;
mod parts;
mod rig;
mod theirs;
