//! What another instance of this host left behind is removed at the start, in the background.

use std::sync::Arc;
use std::time::Duration;

use super::Deps;
use super::error::{At as _, Kind, Result, Step};
use super::find::adopt_record;
use super::label;
use crate::containerd::Record;

/// How often the removal is tried before it is reported and given up.
const TRIES: u32 = 5;
/// First pause between two tries; doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// Removes every container of our classifier that another instance made, and touches no other. Each is tried several
/// times; what stays is reported by name. `instance` is not empty: a host that does not name its instance is a new one at
/// each start.
pub(super) fn sweep(deps: &Arc<Deps>, classifier: &str, instance: &str) {
    let (this, classifier, instance) = (Arc::clone(deps), classifier.to_owned(), instance.to_owned());
    deps.recover(async move {
        let deps = this;
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let Err(error) = once(&deps, &classifier, &instance).await else {
                return;
            };
            // Interrupted by the engine's own end: the next start goes on.
            if deps.life.check().is_err() {
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
            }
            if deps.life.run(tokio::time::sleep(pause)).await.is_err() {
                return;
            }
            pause *= 2;
        }
    });
}

async fn once(deps: &Arc<Deps>, classifier: &str, instance: &str) -> Result<()> {
    let ctx = deps.life.with_timeout(deps.config.close_grace);
    let filter = format!("labels.{:?}=={:?}", label::CLASSIFIER, classifier);
    let name = "containers of others";
    let records = deps
        .session
        .containers()
        .list(&ctx, &[filter])
        .await
        .at(Step::Find, name)?;
    let mut worst = Ok(());
    for record in records.iter().filter(|record| is_foreign(record, instance)) {
        // Each has its own clock, and the record as listed: a later life of the same name is none of ours.
        let ctx = deps.life.with_timeout(deps.config.close_grace);
        let removed = async { adopt_record(deps, &ctx, record).await?.close().await }.await;
        match removed {
            Ok(()) => tracing::info!(id = %record.id, "removed a container that another instance left"),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => worst = Err(error),
        }
    }
    worst
}

/// A record without an instance was made by nobody who can still ask for it.
fn is_foreign(record: &Record, instance: &str) -> bool {
    record
        .labels
        .get(label::INSTANCE)
        .is_none_or(|made_by| made_by != instance)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ContainerId;

    fn made_by(instance: Option<&str>) -> Record {
        let label = instance.map(|instance| (label::INSTANCE.to_owned(), instance.to_owned()));
        Record {
            id: ContainerId::new("c1").unwrap(),
            image: String::new(),
            labels: BTreeMap::from_iter(label),
            runtime: String::new(),
            runtime_options: None,
            spec: Vec::new(),
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: None,
        }
    }

    #[test]
    fn our_own_containers_are_never_foreign_and_those_of_nobody_always_are() {
        assert!(!is_foreign(&made_by(Some("i-1")), "i-1"));
        assert!(is_foreign(&made_by(Some("i-2")), "i-1"));
        assert!(is_foreign(&made_by(None), "i-1"));
    }
}
