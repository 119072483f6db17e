//! Whether a container runs, and how signals to it are named.

use crate::docker_api::refused::Refused;
use crate::docker_syntax;
use crate::engine::{Run, Served};

/// The run of a container that was started and has not ended.
pub(super) fn alive(served: &Served) -> Option<Run> {
    served
        .container()
        .run()
        .filter(|run| !run.is_ready() && run.exit_now().is_none())
}

/// The same, for a request that needs one.
pub(super) fn running(served: &Served) -> Result<Run, Refused> {
    alive(served).ok_or_else(|| not_running(served))
}

pub(super) fn not_running(served: &Served) -> Refused {
    Refused::conflict(format!("container {} is not running", served.id()))
}

/// The number of a signal.
pub(super) fn signal(text: &str) -> Result<u32, Refused> {
    docker_syntax::signal(text).map_err(|_| match text.parse::<i64>() {
        Ok(number) if number != 0 => {
            Refused::bad(format!("the linux daemon does not support signal {number}"))
        }
        _ => Refused::bad(format!("invalid signal: {text}")),
    })
}
