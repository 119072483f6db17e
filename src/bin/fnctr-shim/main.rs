//! `fnctr-shim` stands before `containerd-shim-runc-v2` and before `runc` on containerd's `PATH`, under their names, and does
//! itself what they would need some 5 ms of Go's start for, each:
//!
//! - `start` of the shim (`start`): makes the socket and starts the shim's server;
//! - `delete` of the shim (`deletion`), which containerd executes after every container: finds that nothing is left;
//! - `start` of the OCI runtime (`oci`): opens the fifo that the container's first process waits at;
//! - `delete` of the OCI runtime: removes the cgroups and the state of a container that has ended.
//!
//! Everything else, and each of these as soon as anything is not as expected, is done by the real program, by which this
//! one replaces itself (`real`). Nothing is changed before that is decided.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use call::{Action, Call};
use real::{RUNC, SHIM};

mod call;
mod deletion;
mod learned;
mod oci;
mod real;
mod start;

fn main() -> ExitCode {
    let mut args = env::args_os();
    let name = args.next().unwrap_or_default();
    let args: Vec<_> = args.collect();
    let ended = match Path::new(&name).file_name() {
        Some(name) if name == RUNC.name => as_runtime(&args),
        _ => as_shim(&args),
    };
    ended.unwrap_or_else(|error| {
        // containerd and the shim show what these programs print.
        drop(writeln!(io::stderr(), "fnctr-shim: {error}"));
        ExitCode::FAILURE
    })
}

fn as_shim(args: &[OsString]) -> io::Result<ExitCode> {
    match Call::parse(args) {
        Some(Call {
            id,
            namespace,
            action: Action::Delete { bundle },
            ..
        }) => {
            let deleted = deletion::Deletion {
                namespace,
                id,
                bundle,
            };
            if deleted.has_left_nothing() && io::stdout().write_all(&deleted.answer()).is_ok() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        Some(Call {
            id,
            namespace,
            address,
            action: Action::Start,
        }) => {
            return start::Start {
                namespace,
                id,
                address,
            }
            .run(args);
        }
        None => {}
    }
    Err(SHIM.become_it(args, None))
}

fn as_runtime(args: &[OsString]) -> io::Result<ExitCode> {
    if oci::is_done(args) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(RUNC.become_it(args, None))
}
