//! Reads the output that was kept of a container.

use std::time::Duration;

use super::container::Container;
use super::error::{Error, Kind, Result, Step};
use super::logs::{self, NoLog};
use super::{find, kept};
use crate::Context;
use crate::containerd::Record;
use crate::stdio::{LogQuery, LogReader};

/// The pause before a run that is adopted anew is looked for.
const AGAIN: Duration = Duration::from_millis(100);

impl Container {
    /// Reads the output that was kept. A reader that follows gets more as it is written, until the container ends.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] with [`NoLog::None`] if the output is not kept.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn log(&self, record: &Record, query: LogQuery, follow: bool) -> Result<LogReader> {
        let no_log = || Error::new(Step::Logs, self.id(), Kind::Unsupported, NoLog::None);
        let path = logs::path_of(record).ok_or_else(no_log)?;
        let log = kept::plan_of(record)?.log.unwrap_or_default();
        let ended = self.is_running().then(|| {
            let this = self.clone();
            Box::pin(async move { this.run_is_over().await }) as _
        });
        let rotation = log.options.rotation;
        let opened = self.deps().logs.read(path, rotation, query, follow, ended).await;
        opened.map_err(|error| logs::failed(Step::Logs, self.id(), path, error))
    }

    /// Like [`Self::log`], after the record was read.
    ///
    /// # Errors
    /// As for [`Self::log`].
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn read_log(&self, ctx: &Context, query: LogQuery, follow: bool) -> Result<LogReader> {
        let record = find::get(self.deps(), ctx, self.id()).await?;
        self.log(&record, query, follow).await
    }

    /// Waits until the container does not run. A watch that ends without an exit is that of a run that is adopted anew.
    async fn run_is_over(&self) {
        while let Some(run) = self.run().filter(|_| self.is_running()) {
            if run.wait_exit().await.is_some() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
