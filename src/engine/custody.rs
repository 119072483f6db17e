//! Which process looks after a container, as its record states: the process that made it, whether that process left it
//! running on purpose, and until when it may run. A process that is killed cannot remove its containers; a later
//! process reads here what to do with them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::label;
use crate::clock;
use crate::process_identity::{Life, ProcessIdentity};

/// What a deadline on a record begins with. Earlier versions counted from 1970, by the host's clock; their containers have
/// no deadline any more, except the one that their owner keeps.
const SINCE_BOOT: &str = "boot+";

/// How the process that makes a container looks after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Custody {
    /// Whether the process leaves the container running when it ends.
    pub(crate) detached: bool,
    /// How long the container may run, counted from its creation.
    pub(crate) limit: Option<Duration>,
}

impl Custody {
    /// The custody of a process that waits for the container's end, however long it takes.
    pub(crate) const WAITED: Self = Self {
        detached: false,
        limit: None,
    };

    /// The labels that state this on the record of a container that this process makes now.
    pub(super) fn labels(&self) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        // If /proc does not show this process, a later one cannot determine whether it runs, so no owner is named.
        if let Some(owner) = ProcessIdentity::this() {
            labels.push((label::OWNER.to_owned(), owner.to_string()));
        }
        if self.detached {
            labels.push((label::DETACHED.to_owned(), "true".to_owned()));
        }
        if let Some(limit) = self.limit {
            let at = now().saturating_add(limit).as_millis();
            labels.push((label::DEADLINE.to_owned(), format!("{SINCE_BOOT}{at}")));
        }
        labels
    }
}

/// Whether the process that looks after a container has ended, by the labels of its record.
pub(super) fn owner_is_gone(labels: &BTreeMap<String, String>) -> bool {
    let owner = labels
        .get(label::OWNER)
        .and_then(|text| ProcessIdentity::parse(text));
    owner.is_some_and(|owner| owner.life() == Life::Ended)
}

/// The time until a container's deadline; zero if it has passed, as it has after a reboot; `None` if there is none.
pub(super) fn until_deadline(labels: &BTreeMap<String, String>, now: Duration) -> Option<Duration> {
    let owner = labels
        .get(label::OWNER)
        .and_then(|text| ProcessIdentity::parse(text));
    let at: u64 = labels
        .get(label::DEADLINE)?
        .strip_prefix(SINCE_BOOT)?
        .parse()
        .ok()?;
    let left = Duration::from_millis(at).saturating_sub(now);
    let is_of_this_boot = owner.is_none_or(|owner| owner.is_of_this_boot());
    Some(if is_of_this_boot { left } else { Duration::ZERO })
}

/// The time since the boot, which no process of a container survives. The host's clock may be set back.
pub(super) fn now() -> Duration {
    clock::since_boot()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_moment_of_the_time_since_the_boot() {
        let custody = Custody {
            detached: false,
            limit: Some(Duration::from_secs(60)),
        };
        let labels: BTreeMap<_, _> = custody.labels().into_iter().collect();
        let left = until_deadline(&labels, now()).unwrap();
        assert!(
            left > Duration::from_secs(50) && left <= Duration::from_secs(60),
            "{left:?}"
        );
        let later = now() + Duration::from_secs(61);
        assert_eq!(until_deadline(&labels, later), Some(Duration::ZERO));
        assert_eq!(until_deadline(&BTreeMap::new(), later), None);
    }
}
