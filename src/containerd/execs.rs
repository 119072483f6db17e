//! Execs: additional processes in a container whose task runs.

use std::path::PathBuf;

use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, KillRequest, ResizePtyRequest, StartRequest,
    WaitRequest,
};
use prost_types::Any;

use super::tasks::{Exit, exit, paths};
use super::{Error, Tasks};
use crate::{ContainerId, Context};

const PROCESS_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// An exec: its container, and its id among the execs of that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecRef<'a> {
    pub(crate) container: &'a ContainerId,
    pub(crate) exec: &'a str,
}

/// The parameters for the creation of an exec.
#[derive(Debug)]
pub(crate) struct NewExec {
    /// The OCI process, as JSON.
    pub(crate) process: Vec<u8>,
    /// The fifo that becomes its stdin; `None` is /dev/null.
    pub(crate) stdin: Option<PathBuf>,
    /// The fifo that becomes its stdout; `None` is /dev/null.
    pub(crate) stdout: Option<PathBuf>,
    /// The fifo that becomes its stderr; `None` is /dev/null.
    pub(crate) stderr: Option<PathBuf>,
    /// Whether the standard streams are one terminal.
    pub(crate) terminal: bool,
}

impl Tasks {
    /// Creates an exec, without a process.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if the container has no task; [`Error::is_already_exists`] if the id is taken.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn create_exec(
        &self,
        ctx: &Context,
        of: ExecRef<'_>,
        new: NewExec,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let [stdin, stdout, mut stderr] = paths([&new.stdin, &new.stdout, &new.stderr]);
        if new.terminal {
            // A terminal has one output.
            stderr.clear();
        }
        let message = ExecProcessRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
            stdin,
            stdout,
            stderr,
            terminal: new.terminal,
            spec: Some(Any {
                type_url: PROCESS_URL.to_owned(),
                value: new.process,
            }),
        };
        self.session()
            .call(ctx, "Tasks/Exec", of.container.as_str())
            .change(message, |r| async move { client.exec(r).await })
            .await?;
        Ok(())
    }

    /// Starts the process of an exec. Returns its pid.
    ///
    /// # Errors
    /// The runtime's own message if the program cannot be run.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn start_exec(&self, ctx: &Context, of: ExecRef<'_>) -> Result<u32, Error> {
        let mut client = self.client();
        let message = StartRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
        };
        let reply = self
            .session()
            .call(ctx, "Tasks/Start", of.container.as_str())
            .change(message, |r| async move { client.start(r).await })
            .await?;
        Ok(reply.pid)
    }

    /// Waits until the process of an exec has ended, as long as the context allows.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec, or no longer one.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn wait_exec(&self, ctx: &Context, of: ExecRef<'_>) -> Result<Exit, Error> {
        let mut client = self.client();
        let message = WaitRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
        };
        let reply = self
            .session()
            .call(ctx, "Tasks/Wait", of.container.as_str())
            .ceiling(None)
            .read(message, |r| async move { client.wait(r).await })
            .await?;
        Ok(exit(reply.exit_status, reply.exited_at))
    }

    /// Sends a signal to the process of an exec.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec, or its process has ended.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn kill_exec(&self, ctx: &Context, of: ExecRef<'_>, signal: u32) -> Result<(), Error> {
        let mut client = self.client();
        let message = KillRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
            signal,
            all: false,
        };
        self.session()
            .call(ctx, "Tasks/Kill", of.container.as_str())
            .change(message, |r| async move { client.kill(r).await })
            .await?;
        Ok(())
    }

    /// Closes the shim's end of an exec's stdin, so that the process reads the end of file.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn close_exec_stdin(&self, ctx: &Context, of: ExecRef<'_>) -> Result<(), Error> {
        let mut client = self.client();
        let message = CloseIoRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
            stdin: true,
        };
        self.session()
            .call(ctx, "Tasks/CloseIO", of.container.as_str())
            .change(message, |r| async move { client.close_io(r).await })
            .await?;
        Ok(())
    }

    /// Changes the size of an exec's terminal, in characters.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn resize_exec(
        &self,
        ctx: &Context,
        of: ExecRef<'_>,
        (height, width): (u16, u16),
    ) -> Result<(), Error> {
        let mut client = self.client();
        let message = ResizePtyRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
            width: width.into(),
            height: height.into(),
        };
        self.session()
            .call(ctx, "Tasks/ResizePty", of.container.as_str())
            .change(message, |r| async move { client.resize_pty(r).await })
            .await?;
        Ok(())
    }

    /// Deletes an exec whose process has ended, or was not started.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete_exec(&self, ctx: &Context, of: ExecRef<'_>) -> Result<(), Error> {
        let mut client = self.client();
        let message = DeleteProcessRequest {
            container_id: of.container.to_string(),
            exec_id: of.exec.to_owned(),
        };
        self.session()
            .call(ctx, "Tasks/DeleteProcess", of.container.as_str())
            .change(message, |r| async move { client.delete_process(r).await })
            .await?;
        Ok(())
    }
}
