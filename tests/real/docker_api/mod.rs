//! Docker's Engine API, asked in raw HTTP as clients ask it.

mod copies;
mod corpus;
mod docker_py;
mod execs;
mod faults;
mod health;
mod lives;
mod logs;
mod names;
mod pages;
mod restarts;
mod serving;
mod streams;
mod swagger;
mod terminals;
mod updates;
mod volumes;
mod wire;

pub(crate) use wire::Docker;
