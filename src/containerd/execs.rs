//! Execs: additional processes in a container whose task runs.

use std::path::PathBuf;

use containerd_client::services::v1::{DeleteProcessRequest, ExecProcessRequest};
use prost_types::Any;

use super::processes::ProcessId;
use super::tasks::paths;
use super::{Error, Tasks};
use crate::Context;

const PROCESS_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

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
        of: ProcessId<'_>,
        new: NewExec,
    ) -> Result<(), Error> {
        let mut client = self.client();
        let [stdin, stdout, stderr] = paths([&new.stdin, &new.stdout, &new.stderr], new.terminal);
        let (container_id, exec_id) = of.to_wire();
        let message = ExecProcessRequest {
            container_id,
            exec_id,
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

    /// Deletes an exec whose process has ended, or was not started.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none.
    ///
    /// # Cancellation
    /// Not safe to drop: the effect is then unknown.
    pub(crate) async fn delete_exec(&self, ctx: &Context, of: ProcessId<'_>) -> Result<(), Error> {
        let mut client = self.client();
        let (container_id, exec_id) = of.to_wire();
        let message = DeleteProcessRequest {
            container_id,
            exec_id,
        };
        self.session()
            .call(ctx, "Tasks/DeleteProcess", of.container.as_str())
            .change(message, |r| async move { client.delete_process(r).await })
            .await?;
        Ok(())
    }
}
