//! `fnctr bench`: measures this host, with the compared variants side by side in one run.

mod attach;
mod batches;
mod calls;
mod figures;
mod freeze;
mod idle;
mod lifecycle;
mod network;
mod server;
mod usage;

use std::process::ExitCode;
use std::sync::Arc;

use super::Invocation;
use super::args::bench::Bench;
use super::failure::Failure;
use super::output::Print;
use crate::ContainerdDriver;
use crate::containerd_driver::ContainerdCookie;
use crate::driver::Task;
use crate::engine::Custody;

/// Runs the benchmark that the user chose.
pub(super) async fn bench(
    invocation: Invocation<'_>,
    what: Bench,
    print: &Print,
) -> Result<ExitCode, Failure> {
    match what {
        Bench::Attach {
            readers,
            bytes,
            rounds,
            image,
        } => {
            let plan = attach::Plan {
                readers,
                bytes: bytes.0,
                rounds,
                image,
            };
            attach::bench(invocation, &plan, print).await
        }
        Bench::Freeze { procs, rounds, image } => {
            freeze::bench(invocation, procs, rounds, &image, print).await
        }
        Bench::Idle {
            containers,
            seconds,
            image,
        } => {
            let plan = idle::Plan {
                containers,
                seconds,
                image,
            };
            idle::bench(invocation, &plan, print).await
        }
        Bench::Lifecycle {
            rounds,
            parallel,
            network,
            pool,
            holder,
            image,
        } => {
            let plan = lifecycle::Plan {
                rounds,
                parallel,
                network,
                pool,
                holder,
                image,
            };
            lifecycle::bench(invocation, &plan, print).await
        }
        Bench::Server {
            stopped,
            running,
            seconds,
            image,
        } => {
            let plan = server::Plan {
                stopped,
                running,
                seconds,
                image,
            };
            server::bench(invocation, &plan, print).await
        }
        Bench::Network {
            network,
            rounds,
            takers,
        } => network::bench(invocation, &network, rounds, takers, print).await,
    }
}

/// A cookie whose container is owned by this process, so that `fnctr ps` marks the container if it is left behind.
fn cookie(driver: &ContainerdDriver, task: Task) -> Result<ContainerdCookie, Failure> {
    Ok(driver
        .cookie(Arc::new(task))?
        .looked_after(Custody::WAITED, false))
}
