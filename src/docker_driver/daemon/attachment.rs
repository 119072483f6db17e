//! The streams of a container, over a connection that the engine has given up for them.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use futures_util::{Stream, StreamExt as _};
use tokio::io::AsyncWrite;

use super::Daemon;
use super::failed::{Cause, Failed};
use crate::Context;

/// The streams to attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::docker_driver) struct Wants {
    pub(in crate::docker_driver) stdin: bool,
    pub(in crate::docker_driver) stdout: bool,
    pub(in crate::docker_driver) stderr: bool,
}

impl Wants {
    /// Whether there is nothing to attach.
    pub(in crate::docker_driver) fn is_nothing(self) -> bool {
        !self.stdin && !self.has_output()
    }

    /// Whether there is output to read.
    pub(in crate::docker_driver) fn has_output(self) -> bool {
        self.stdout || self.stderr
    }
}

/// The output of a container, in order as far as there is one.
pub(in crate::docker_driver) type Output = Pin<Box<dyn Stream<Item = Result<Frame, Failed>> + Send>>;

/// The two directions of an attachment. Dropping both closes it, and leaves the container as it is.
pub(in crate::docker_driver) struct Attached {
    /// Ends when the container does.
    pub(in crate::docker_driver) output: Output,
    /// Shutting it down ends the container's input.
    pub(in crate::docker_driver) input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// A piece of output.
#[derive(Debug)]
pub(in crate::docker_driver) struct Frame(LogOutput);

impl Frame {
    /// Whether it is standard error's, not standard output's.
    pub(in crate::docker_driver) fn is_stderr(&self) -> bool {
        matches!(self.0, LogOutput::StdErr { .. })
    }

    pub(in crate::docker_driver) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

#[cfg(test)]
impl Frame {
    /// A piece of standard output, or of standard error.
    pub(in crate::docker_driver) fn of(is_stderr: bool, text: &'static str) -> Self {
        let message = text.into();
        Self(match is_stderr {
            true => LogOutput::StdErr { message },
            false => LogOutput::StdOut { message },
        })
    }
}

impl Daemon {
    /// Attaches to a container, also to one that was not started yet.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn attach(
        &self,
        ctx: &Context,
        id: &str,
        wants: Wants,
    ) -> Result<Attached, Failed> {
        let call = "attach to container";
        let options = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(wants.stdin)
            .stdout(wants.stdout)
            .stderr(wants.stderr)
            .build();
        let attaching = ctx.run(self.calls.attach_container(id, Some(options))).await;
        let attached = attaching.map_err(|why| Failed::new(call, id, why.into()))?;
        let attached = attached.map_err(|error| Failed::of(call, id, error))?;
        let target = id.to_owned();
        let output = attached.output.map(move |frame| {
            let call = "read the output of container";
            match frame {
                // The client returns bytes without the head of a frame in this form: the rest of one that broke off.
                Ok(LogOutput::Console { .. }) => {
                    let why = "it breaks off in the middle".to_owned();
                    Err(Failed::new(call, &target, Cause::Broken(why)))
                }
                Ok(frame) => Ok(Frame(frame)),
                Err(error) => Err(Failed::of(call, &target, error)),
            }
        });
        Ok(Attached {
            output: Box::pin(output),
            input: attached.input,
        })
    }
}
