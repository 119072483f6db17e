//! Processes: what containerd does with the first process of a task and with an exec alike.

use containerd_client::services::v1::{
    CloseIoRequest, KillRequest, ResizePtyRequest, StartRequest, WaitRequest,
};

use super::tasks::{Exit, exit};
use super::{Error, Tasks};
use crate::{ContainerId, Context};

/// A process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId<'a> {
    pub(crate) container: &'a ContainerId,
    /// Its id among the execs of the container; `None` for the first process of the task.
    pub(crate) exec: Option<&'a str>,
}

impl<'a> From<&'a ContainerId> for ProcessId<'a> {
    /// The first process of the container's task.
    fn from(container: &'a ContainerId) -> Self {
        Self {
            container,
            exec: None,
        }
    }
}

impl ProcessId<'_> {
    /// The container and the exec, as the messages have them.
    pub(super) fn to_wire(self) -> (String, String) {
        let exec = self.exec.unwrap_or_default();
        (self.container.to_string(), exec.to_owned())
    }
}

impl Tasks {
    /// Lets a created process run its program. Returns its pid.
    ///
    /// # Errors
    /// The runtime's own message if the program cannot be run.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn start(&self, ctx: &Context, of: impl Into<ProcessId<'_>>) -> Result<u32, Error> {
        let (mut client, of) = (self.client(), of.into());
        let (container_id, exec_id) = of.to_wire();
        let message = StartRequest {
            container_id,
            exec_id,
        };
        let reply = self
            .session()
            .call(ctx, "Tasks/Start", of.container.as_str())
            .change(message, |r| async move { client.start(r).await })
            .await?;
        Ok(reply.pid)
    }

    /// Waits until a process has ended, as long as the context allows.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such process, or no longer one.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn wait(&self, ctx: &Context, of: impl Into<ProcessId<'_>>) -> Result<Exit, Error> {
        let (mut client, of) = (self.client(), of.into());
        let (container_id, exec_id) = of.to_wire();
        let message = WaitRequest {
            container_id,
            exec_id,
        };
        let reply = self
            .session()
            .call(ctx, "Tasks/Wait", of.container.as_str())
            .ceiling(None)
            .read(message, |r| async move { client.wait(r).await })
            .await?;
        Ok(exit(reply.exit_status, reply.exited_at))
    }

    /// Sends a signal to a process.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such process, or it has ended.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn kill(
        &self,
        ctx: &Context,
        of: impl Into<ProcessId<'_>>,
        signal: u32,
    ) -> Result<(), Error> {
        self.send(ctx, of.into(), signal, false).await
    }

    /// Sends a signal to every process of a container.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no task, or its first process has ended.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn kill_all(&self, ctx: &Context, id: &ContainerId, signal: u32) -> Result<(), Error> {
        self.send(ctx, id.into(), signal, true).await
    }

    async fn send(&self, ctx: &Context, of: ProcessId<'_>, signal: u32, all: bool) -> Result<(), Error> {
        let mut client = self.client();
        let (container_id, exec_id) = of.to_wire();
        let message = KillRequest {
            container_id,
            exec_id,
            signal,
            all,
        };
        self.session()
            .call(ctx, "Tasks/Kill", of.container.as_str())
            .change(message, |r| async move { client.kill(r).await })
            .await?;
        Ok(())
    }

    /// Closes the shim's end of a process's stdin, so that the process reads the end of file. With a terminal, this
    /// hangs it up.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such process.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn close_stdin(&self, ctx: &Context, of: impl Into<ProcessId<'_>>) -> Result<(), Error> {
        let (mut client, of) = (self.client(), of.into());
        let (container_id, exec_id) = of.to_wire();
        let message = CloseIoRequest {
            container_id,
            exec_id,
            stdin: true,
        };
        self.session()
            .call(ctx, "Tasks/CloseIO", of.container.as_str())
            .change(message, |r| async move { client.close_io(r).await })
            .await?;
        Ok(())
    }

    /// Changes the height and width of a process's terminal, in characters. Without a terminal, nothing happens.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such process.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn resize(
        &self,
        ctx: &Context,
        of: impl Into<ProcessId<'_>>,
        (height, width): (u16, u16),
    ) -> Result<(), Error> {
        let (mut client, of) = (self.client(), of.into());
        let (container_id, exec_id) = of.to_wire();
        let message = ResizePtyRequest {
            container_id,
            exec_id,
            width: width.into(),
            height: height.into(),
        };
        self.session()
            .call(ctx, "Tasks/ResizePty", of.container.as_str())
            .change(message, |r| async move { client.resize_pty(r).await })
            .await?;
        Ok(())
    }
}
