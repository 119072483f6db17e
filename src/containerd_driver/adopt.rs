//! Containers that an earlier process of the same host left: finding them, and taking them over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::held::Held;
use super::wait::Started;
use super::{ContainerdCookie, ContainerdDriver, translate};
use crate::driver::{Config, Cookie, Error, Phase, Task, WaitResult, label};
use crate::engine::{self, ListedContainer};
use crate::{ContainerId, Context};

/// A container that was taken over from an earlier process; see [`ContainerdDriver::adopt`].
#[derive(Debug)]
pub struct Adopted {
    /// Freezes, unfreezes and closes the container. If dropped without a close, it leaves the container as it is. The
    /// options that the container was created with are not known any more: [`Cookie::container_options`] is `()`, so
    /// the typed [`options`](driver/trait.Cookie.html#method.options) is `None`.
    pub cookie: Box<dyn Cookie>,
    /// Waits for the end of the container.
    pub running: Box<dyn WaitResult>,
}

/// A container that can be taken over; see [`ContainerdDriver::adoptable`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adoptable {
    /// The name of the container, for [`adopt`](ContainerdDriver::adopt).
    pub id: ContainerId,
    /// The full name of the container's image.
    pub image: String,
    /// All labels of its containerd record.
    pub labels: BTreeMap<String, String>,
    /// The state of the container when it was listed.
    pub state: ContainerState,
    /// When the record was created, if containerd knows.
    pub created: Option<SystemTime>,
}

/// The state of a container at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// It has no process: the host ended while the container was being created or removed, or, of a container that the
    /// command keeps, while it ran.
    Dead,
    /// It waits to be started: its process waits behind a gate, which an adopter cannot open because the streams are
    /// gone; or it is a container of the command that has never run.
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Frozen,
    /// It has ended with this exit code.
    Exited(u32),
    /// Its removal was begun, and not finished. Closing it finishes that.
    Removing,
    /// Its processes live, but containerd no longer knows them. It can only be closed.
    Lost,
}

impl From<engine::State> for ContainerState {
    fn from(state: engine::State) -> Self {
        match state {
            // Only a server, which is another process, knows that a container is about to be started again.
            engine::State::Dead | engine::State::Restarting => Self::Dead,
            engine::State::Created => Self::Created,
            engine::State::Running => Self::Running,
            engine::State::Frozen => Self::Frozen,
            engine::State::Exited(code) => Self::Exited(code),
            engine::State::Removing => Self::Removing,
            engine::State::Lost => Self::Lost,
        }
    }
}

impl ContainerdDriver {
    /// The containers with this configuration's `container_label_tag` and `instance_id`, created by any process,
    /// including this one; without a tag, the containers that have none. Excludes the containers that hold the pool's
    /// namespaces. After a restart, a host that has lost its own list finds here the containers that the start has
    /// kept, if it has set its instance id.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::driver::ErrorKind::Unavailable) if containerd cannot be reached, or the driver is
    /// closed.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn adoptable(&self, ctx: &Context) -> Result<Vec<Adoptable>, Error> {
        self.0.open()?;
        let seen = self.0.engine.list(ctx).await.map_err(translate)?;
        let own = seen
            .into_iter()
            .filter(|seen| is_own(&seen.labels, &self.0.config));
        Ok(own.map(adoptable).collect())
    }

    /// Takes over a container that an earlier process created. Its streams belonged to that process and are not
    /// attached again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::driver::ErrorKind::NotFound) if no container has that name.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn adopt(&self, ctx: &Context, id: &ContainerId) -> Result<Adopted, Error> {
        self.0.open()?;
        let (container, image) = self.0.engine.adopt_of(ctx, id).await.map_err(translate)?;
        // A kept container that has never run, or whose run is removed, can only be closed here.
        let phase = if container.run().is_none_or(|run| run.is_ready()) {
            Phase::Created
        } else {
            Phase::Running
        };
        let task = Task {
            id: id.to_string(),
            image,
            ..Task::default()
        };
        let held = Held::adopted(container);
        let running = Started::new(held.clone(), Context::new(), &self.0.life);
        let cookie = ContainerdCookie::adopted(&self.0, Arc::new(task), held, phase);
        Ok(Adopted {
            cookie: Box::new(cookie),
            running: Box::new(running),
        })
    }
}

fn adoptable(seen: ListedContainer) -> Adoptable {
    Adoptable {
        id: seen.id,
        image: seen.image,
        labels: seen.labels,
        state: seen.state.into(),
        created: seen.created_at,
    }
}

/// Whether a container belongs to this configuration's host.
fn is_own(labels: &BTreeMap<String, String>, config: &Config) -> bool {
    let has = |name: &str, value: &str| labels.get(name).map_or("", String::as_str) == value;
    has(label::CLASSIFIER, &config.container_label_tag)
        && has(label::INSTANCE, &config.instance_id)
        && !labels.contains_key(engine::label::HOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_same_instance_made_for_functions_is_its_own() {
        let config = |tag: &str, instance: &str| Config {
            container_label_tag: tag.to_owned(),
            instance_id: instance.to_owned(),
            ..Config::default()
        };
        let labels = |all: &[(&str, &str)]| {
            all.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let ours = [(label::CLASSIFIER, "agents"), (label::INSTANCE, "one")];
        assert!(is_own(&labels(&ours), &config("agents", "one")));
        assert!(!is_own(&labels(&ours), &config("agents", "two")));
        assert!(!is_own(&labels(&ours), &config("", "")));
        assert!(!is_own(&labels(&ours[..1]), &config("agents", "one")));
        assert!(is_own(&labels(&[("color", "blue")]), &config("", "")));
        let holder = [ours[0], ours[1], (engine::label::HOLDER, "s1")];
        assert!(!is_own(&labels(&holder), &config("agents", "one")));
    }
}
