//! Containers of an earlier process of the same host: found, and taken over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::held::Held;
use super::label;
use super::wait::Started;
use super::{ContainerdCookie, ContainerdDriver, translate};
use crate::driver::{Config, Cookie, Error, Phase, Task, WaitResult};
use crate::engine::{self, Seen};
use crate::{ContainerId, Context};

/// A container that was taken over from an earlier process; see [`ContainerdDriver::adopt`].
#[derive(Debug)]
pub struct Adopted {
    /// To freeze, unfreeze and close it. Dropped without a close, it leaves the container as it is. The options that it was
    /// made with are not known any more: [`Cookie::container_options`] is `()`, so that the typed
    /// [`options`](driver/trait.Cookie.html#method.options) is `None`.
    pub cookie: Box<dyn Cookie>,
    /// To wait for its end.
    pub running: Box<dyn WaitResult>,
}

/// A container that can be taken over; see [`ContainerdDriver::adoptable`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adoptable {
    /// Its name, to [`adopt`](ContainerdDriver::adopt) it by.
    pub id: ContainerId,
    /// The full name of the image that it was made of.
    pub image: String,
    /// All labels of its containerd record.
    pub labels: BTreeMap<String, String>,
    /// What it did when it was looked at.
    pub state: ContainerState,
    /// When its record was made, if containerd knows.
    pub created: Option<SystemTime>,
}

/// What a container does at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// It has no process: the host went away while it was made or removed.
    Dead,
    /// It waits to be started. Whoever adopts it cannot start it any more, because its streams are gone.
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Frozen,
    /// It has ended with this exit code.
    Exited(u32),
    /// Its processes live, and containerd has lost them. It can be closed, and nothing else.
    Lost,
}

impl From<engine::State> for ContainerState {
    fn from(state: engine::State) -> Self {
        match state {
            engine::State::Dead => Self::Dead,
            engine::State::Created => Self::Created,
            engine::State::Running => Self::Running,
            engine::State::Frozen => Self::Frozen,
            engine::State::Exited(code) => Self::Exited(code),
            engine::State::Lost => Self::Lost,
        }
    }
}

impl ContainerdDriver {
    /// The containers with this configuration's `container_label_tag` and `instance_id`, whichever process made them, this
    /// one included; without a tag, those that bear none. What holds the pool's namespaces is not among them. A host that
    /// has lost its own list after a restart finds here what the start has spared, if it has named its instance.
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

    /// Takes over a container that an earlier process made. Its streams were that process's and are not attached again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::driver::ErrorKind::NotFound) if there is none of that name.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn adopt(&self, ctx: &Context, id: &ContainerId) -> Result<Adopted, Error> {
        self.0.open()?;
        let (container, image) = self.0.engine.adopt_of(ctx, id).await.map_err(translate)?;
        let phase = if container.run().is_ready().await {
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

fn adoptable(seen: Seen) -> Adoptable {
    Adoptable {
        id: seen.id,
        image: seen.image,
        labels: seen.labels,
        state: seen.state.into(),
        created: seen.created_at,
    }
}

/// Whether a container is one of this configuration's host.
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
