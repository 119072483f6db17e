//! Removes containers that another instance of the platform left behind: at the start, in the background.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::adopt::adopt_record;
use super::deps::{Deps, Engine};
use super::error::{ErrorContext as _, Kind, Result, Step};
use crate::metrics::RetryReason;
use crate::pauses::Pauses;

/// Decides by the labels of a container whether it belongs to another instance.
pub(crate) trait Foreign: Fn(&BTreeMap<String, String>) -> bool + Send + Sync + 'static {}

impl<F: Fn(&BTreeMap<String, String>) -> bool + Send + Sync + 'static> Foreign for F {}

/// How often the removal is tried before it is reported and given up.
const TRIES: u32 = 5;
/// The first pause between two tries; each further pause is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

impl Engine {
    /// Removes what other instances of the platform left, in the background: the containers with this label and value
    /// for whose labels `is_foreign` returns true.
    pub(crate) fn sweep(&self, label: (&str, &str), is_foreign: impl Foreign) {
        sweep(&self.0, label, is_foreign);
    }
}

/// Removes every container with this label and value for whose labels `is_foreign` returns true, and no other. Tries
/// several times, and then logs the last error.
pub(super) fn sweep(deps: &Arc<Deps>, (label, value): (&str, &str), is_foreign: impl Foreign) {
    let filter = format!("labels.{label:?}=={value:?}");
    let this = Arc::clone(deps);
    deps.recover(async move {
        let deps = this;
        let mut pauses = Pauses::new(PAUSE, LONGEST_PAUSE);
        for left in (0..TRIES).rev() {
            let Err(error) = once(&deps, &filter, &is_foreign).await else {
                return;
            };
            // Interrupted because the engine ends: the next start continues.
            if deps.background.life.check().is_err() {
                return;
            }
            let error = crate::chain(&error);
            if left == 0 {
                tracing::error!(
                    error,
                    "cannot remove containers of another instance; the next start tries again"
                );
            } else {
                tracing::warn!(
                    error,
                    left,
                    "cannot remove containers of another instance; trying again"
                );
                deps.metrics().retry(RetryReason::CleanUp);
            }
            if deps.background.life.run(pauses.wait()).await.is_err() {
                return;
            }
        }
    });
}

async fn once(deps: &Arc<Deps>, filter: &str, is_foreign: &impl Foreign) -> Result<()> {
    let ctx = deps.background.life.with_timeout(deps.config.close_grace);
    let name = "containers of other instances";
    let records = deps
        .session
        .containers()
        .list(&ctx, &[filter.to_owned()])
        .await
        .at(Step::Find, name)?;
    let mut worst = Ok(());
    for record in records.iter().filter(|record| is_foreign(&record.labels)) {
        // Each removal has its own time limit, and uses the record as listed: a later container of the same name stays.
        let ctx = deps.background.life.with_timeout(deps.config.close_grace);
        let removed = async { adopt_record(deps, &ctx, record).await?.remove().await }.await;
        match removed {
            Ok(()) => tracing::info!(id = %record.id, "removed a container that another instance left"),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => worst = Err(error),
        }
    }
    worst
}
