//! The `fnctr` command.

fn main() {}
