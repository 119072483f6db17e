//! Docker's Engine API, asked in raw HTTP as clients ask it.

mod faults;
mod lives;
mod pages;
mod wire;
