//! Checks whether this host has what functions need, and names a remedy for what is missing.
//!
//! Each check is a pure function over text that the kernel or a program provided; the files group checks by subject.
//! [`checks()`] collects the text and runs them all. A check never changes the host, and reports it if it cannot be made.

mod cgroup;
mod check;
mod checks;
mod driver;
mod host;
mod kernel;
mod network;
mod options;
mod outer_cgroup;
mod privileges;
mod programs;
mod remedies;
mod room;
mod runtime;
mod scope;
mod space;
mod storage;

pub use self::check::{Check, Status};
pub use self::checks::checks;
pub use self::options::Options;
