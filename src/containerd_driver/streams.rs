//! The streams of a task, taken when they are needed and passed to the engine.

use std::sync::Arc;

use crate::Context;
use crate::driver::guarded::Guarded;
use crate::driver::host::{self, HostError};
use crate::driver::{ContainerTask, Input, Output};
use crate::stdio::{Sink, Source, Streams};

/// The streams that the task hands over.
///
/// # Cancellation
/// Safe to drop, but the task may have handed them over by then.
pub(super) async fn of(task: &Arc<dyn ContainerTask>, ctx: &Context) -> Result<Streams, HostError> {
    let asked = Arc::clone(task);
    let (stdout, stderr) = host::call(ctx, "ContainerTask::logger", move || asked.logger()).await?;
    let asked = Arc::clone(task);
    let stdin = host::call(ctx, "ContainerTask::input", move || asked.input()).await?;
    Ok(Streams {
        stdin: match stdin {
            Input::Null => Source::Null,
            Input::Stream(reader) => Source::Reader(Box::new(Guarded::new("the standard input", reader))),
        },
        stdout: sink("the standard output", stdout),
        stderr: sink("the standard error", stderr),
    })
}

fn sink(code: &'static str, output: Output) -> Sink {
    match output {
        Output::Null => Sink::Null,
        Output::Stream(writer) => Sink::Writer(Box::new(Guarded::new(code, writer))),
    }
}
