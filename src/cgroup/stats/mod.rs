//! One sample of a container's resource usage, read from the hierarchy that holds each controller.

mod parse;
mod sample;

#[cfg(test)]
pub(crate) use self::parse::Pressure;
pub(crate) use self::parse::{Cpu, Sample, Stall};
#[cfg(all(test, feature = "cli"))]
pub(crate) use self::parse::{Memory, Throttling};
pub(crate) use self::sample::{processor_time, sample};
