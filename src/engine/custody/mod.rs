//! Who looks after a container, as its record says: the process that made it, whether that process left it to itself, and
//! until when it may run. A process that is killed cannot remove what it made; a later one reads here what to do about it.

mod orphans;
mod overdue;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::find::{Seen, State};
use super::plan::label;
use crate::holder::{Holder, Life};

/// What the process that makes a container is to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Custody {
    /// It leaves the container running when it ends.
    pub(crate) detached: bool,
    /// How long the container may run, counted from its creation.
    pub(crate) limit: Option<Duration>,
}

impl Custody {
    /// That of a process that waits for the container's end, however long it takes.
    pub(crate) const WAITED: Self = Self {
        detached: false,
        limit: None,
    };

    /// The labels that say so on the record of a container that this process makes now.
    pub(super) fn labels(&self) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        // Without a /proc of its own a later process could not judge whether this one lives, so nothing is claimed.
        if let Some(owner) = Holder::this() {
            labels.push((label::OWNER.to_owned(), owner.to_string()));
        }
        if self.detached {
            labels.push((label::DETACHED.to_owned(), "true".to_owned()));
        }
        if let Some(limit) = self.limit {
            let at = now().saturating_add(limit).as_millis();
            labels.push((label::DEADLINE.to_owned(), at.to_string()));
        }
        labels
    }
}

impl Seen {
    /// Whether the process that looked after it is gone and left it to nobody: it was killed while it waited for the
    /// container's end, or before the container was started.
    pub(crate) fn is_orphaned(&self) -> bool {
        let left = self.labels.contains_key(label::DETACHED) && self.state != State::Created;
        !left && owner_is_gone(&self.labels)
    }

    /// Whether the process that made it lives, or may live, and waits for its end to remove it. A platform's containers name no
    /// owner, and count as looked after.
    pub(crate) fn is_looked_after(&self) -> bool {
        !self.labels.contains_key(label::DETACHED) && !owner_is_gone(&self.labels)
    }
}

fn owner_is_gone(labels: &BTreeMap<String, String>) -> bool {
    let owner = labels.get(label::OWNER).and_then(|text| Holder::parse(text));
    owner.is_some_and(|owner| owner.life() == Life::Ended)
}

/// How long until a container's deadline; zero if it has passed, `None` if it has none.
fn until_deadline(labels: &BTreeMap<String, String>, now: Duration) -> Option<Duration> {
    let at: u64 = labels.get(label::DEADLINE)?.parse().ok()?;
    Some(Duration::from_millis(at).saturating_sub(now))
}

/// The host's clock.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(detached: bool, limit: Option<u64>) -> BTreeMap<String, String> {
        let limit = limit.map(Duration::from_secs);
        Custody { detached, limit }.labels().into_iter().collect()
    }

    fn seen(labels: BTreeMap<String, String>, state: State) -> Seen {
        Seen {
            id: crate::ContainerId::new("c1").unwrap(),
            image: String::new(),
            command: String::new(),
            state,
            pid: None,
            created_at: None,
            labels,
            spec: Vec::new(),
            paths: None,
            cgroup_name: None,
        }
    }

    /// The labels of a container whose owner has ended.
    fn ownerless(detached: bool) -> BTreeMap<String, String> {
        let mut labels = labels(detached, None);
        let mut ended = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Holder::of_pid(ended.id()).unwrap();
        ended.kill().unwrap();
        ended.wait().unwrap();
        labels.insert(label::OWNER.to_owned(), owner.to_string());
        labels
    }

    #[test]
    fn a_container_whose_owner_lives_or_is_unknown_is_no_orphan() {
        assert!(!seen(labels(false, None), State::Running).is_orphaned());
        assert!(!seen(BTreeMap::new(), State::Running).is_orphaned());
        let mut nonsense = labels(false, None);
        nonsense.insert(label::OWNER.to_owned(), "nobody".to_owned());
        assert!(!seen(nonsense, State::Running).is_orphaned());
    }

    #[test]
    fn a_container_whose_owner_has_ended_is_an_orphan_unless_it_was_left_running() {
        assert!(seen(ownerless(false), State::Running).is_orphaned());
        assert!(seen(ownerless(false), State::Exited(0)).is_orphaned());
        assert!(!seen(ownerless(true), State::Running).is_orphaned());
        assert!(!seen(ownerless(true), State::Exited(0)).is_orphaned());
        // Nobody will start it any more.
        assert!(seen(ownerless(true), State::Created).is_orphaned());
    }

    #[test]
    fn what_was_left_running_is_not_looked_after_and_what_names_no_owner_is() {
        let ended = |labels| seen(labels, State::Exited(0));
        assert!(ended(labels(false, None)).is_looked_after());
        assert!(ended(BTreeMap::new()).is_looked_after());
        assert!(!ended(labels(true, None)).is_looked_after());
        assert!(!ended(ownerless(false)).is_looked_after());
    }

    #[test]
    fn a_deadline_is_a_moment_of_the_hosts_clock() {
        let labels = labels(false, Some(60));
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
