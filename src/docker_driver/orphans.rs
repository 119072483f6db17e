//! Removes what earlier instances of this host have left: functions, and the containers of their pools.

use std::collections::BTreeMap;
use std::time::Duration;

use super::daemon::{Daemon, Listed};
use super::pool::HOLDER;
use super::removal::insist;
use crate::Context;
use crate::driver::{Config, label};
use crate::pauses::Pauses;

/// The first and the longest pause before the containers are listed again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How many rounds are made at most: what cannot be removed by then is left to the next start.
const ROUNDS: u32 = 10;
/// How long one removal may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose containers are removed.
#[derive(Debug, Clone)]
pub(super) struct Orphans {
    classifier: String,
    instance: String,
    start: String,
}

impl Orphans {
    /// Those of this host's other instances, and of pools of other starts; `None` if containers are not labelled.
    pub(super) fn of(config: &Config, start: &str) -> Option<Self> {
        (!config.container_label_tag.is_empty()).then(|| Self {
            classifier: config.container_label_tag.clone(),
            instance: config.instance_id.clone(),
            start: start.to_owned(),
        })
    }

    /// Whether nobody will ask for a container with these labels any more. The functions of this instance are its own,
    /// whichever start has made them; a pool ends with its driver.
    fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        label::is_of_another(labels, &self.instance)
            || labels.get(HOLDER).is_some_and(|start| *start != self.start)
    }

    /// Removes them, and tries again what has failed, until none is left or `life` ends.
    pub(super) async fn remove(self, daemon: Daemon, life: Context) {
        let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
        for _ in 0..ROUNDS {
            if self.round(&daemon, &life).await || life.run(pauses.wait()).await.is_err() {
                return;
            }
        }
        tracing::error!(
            classifier = self.classifier,
            "containers of other instances could not be removed; the next start tries again"
        );
    }

    /// Returns whether none is left.
    async fn round(&self, daemon: &Daemon, life: &Context) -> bool {
        let listed = match daemon.list(life, (label::CLASSIFIER, &self.classifier)).await {
            Ok(listed) => listed,
            Err(failed) => {
                let error = crate::chain(&failed);
                tracing::warn!(
                    error,
                    "cannot look for containers of other instances; trying again"
                );
                return false;
            }
        };
        let mut is_clean = true;
        for Listed { id, labels } in listed.into_iter().filter(|container| self.has(&container.labels)) {
            if life.check().is_err() {
                return false;
            }
            let instance = labels.get(label::INSTANCE).map_or("", String::as_str);
            match insist(daemon, &id, PATIENCE).await {
                Ok(()) => tracing::info!(id, instance, "removed a container of another instance"),
                Err(failed) => {
                    is_clean = false;
                    let error = crate::chain(&failed);
                    tracing::warn!(
                        error,
                        instance,
                        "cannot remove a container of another instance; trying again"
                    );
                }
            }
        }
        is_clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_asks_for_any_more_is_removed() {
        let config = Config {
            container_label_tag: "tag".to_owned(),
            instance_id: "i-1".to_owned(),
            ..Config::default()
        };
        let orphans = Orphans::of(&config, "s-2").unwrap();
        let has = |labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            orphans.has(&labels.collect())
        };
        assert!(!has(&[(label::INSTANCE, "i-1")]));
        assert!(!has(&[(label::INSTANCE, "i-1"), (HOLDER, "s-2")]));
        assert!(has(&[(label::INSTANCE, "i-1"), (HOLDER, "s-1")]));
        assert!(has(&[(label::INSTANCE, "i-2")]));
        assert!(has(&[]));
        assert!(Orphans::of(&Config::default(), "s-2").is_none());
    }
}
