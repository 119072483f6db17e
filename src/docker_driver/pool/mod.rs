//! The pool of prepared networks: containers that hold a network namespace each, which functions join.
//!
//! ```text
//! keeper: one task that decides ─► make (limited to 10 a second, 20 at once) ─► ready ─► joined by a function ─┐
//!            ▲                                                                    ▲                            │
//!            └── dead slots, slots used once: removed and replaced ◄──────────────┴──── given back ◄───────────┘
//! ```

mod keeper;
mod making;

use super::daemon::Daemon;
use super::image_name::ImageName;
use super::images::Images;
use super::plan::{Plan, plan};
use super::pull::Puller;
use super::slot::Slot;
use crate::driver::{Config, Error, ErrorKind, PoolState, Task, label};
use crate::pool::{Bounds, Lease, Pool as Slots};

pub(super) use self::keeper::start;
pub(super) use self::making::HOLDER;

/// A larger pool is a mistake: a bridge of the kernel has 1024 ports.
const MOST_SLOTS: u64 = 1000;
/// The image and the command of the containers if the configuration names none, as in Fn.
const IMAGE: &str = "busybox";
const COMMAND: &str = "tail -f /dev/null";
/// The name under which the default network is shown.
const DEFAULT: &str = "default";

/// A pool as it is configured.
#[derive(Debug)]
pub(super) struct Settings {
    size: usize,
    once: bool,
    networks: Vec<String>,
    /// The container of a slot, without a name and a network.
    holder: Plan,
}

/// What the keeper works with.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) daemon: Daemon,
    pub(super) puller: Puller,
    pub(super) images: Images,
}

/// The slots. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    slots: Slots<Slot>,
    /// The networks that the slots are on; `None` is the default.
    networks: Vec<Option<String>>,
}

impl Settings {
    /// The configured pool, if there is to be one. `start` marks its containers as those of this start of the driver.
    pub(super) fn of(config: &Config, start: &str) -> Result<Option<Self>, Error> {
        if config.pre_fork_pool_size == 0 {
            return Ok(None);
        }
        let invalid = |text: String| Error::new(ErrorKind::InvalidConfig, text);
        let size = usize::try_from(config.pre_fork_pool_size).unwrap_or(usize::MAX);
        if config.pre_fork_pool_size > MOST_SLOTS {
            return Err(invalid(format!("pre_fork_pool_size: the most is {MOST_SLOTS}")));
        }
        let or = |given: &str, default: &str| match given.trim() {
            "" => default.to_owned(),
            given => given.to_owned(),
        };
        let task = Task {
            id: "pool".to_owned(),
            image: or(&config.pre_fork_image, IMAGE),
            command: or(&config.pre_fork_cmd, COMMAND),
            disable_net: true,
            ..Task::default()
        };
        let mut holder =
            plan(&task, config).map_err(|error| invalid(format!("pre_fork_image: {}", error.report())))?;
        let body = &mut holder.options.body;
        let labels = body.labels.get_or_insert_default();
        labels.insert(HOLDER.to_owned(), start.to_owned());
        if !config.container_label_tag.is_empty() {
            labels.insert(label::CLASSIFIER.to_owned(), config.container_label_tag.clone());
        }
        Ok(Some(Self {
            size,
            once: config.pre_fork_use_once != 0,
            networks: config
                .pre_fork_networks
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            holder,
        }))
    }

    /// The networks that the slots are spread over; `None` is the default.
    fn networks(&self) -> Vec<Option<String>> {
        match self.networks.as_slice() {
            [] => vec![None],
            networks => networks.iter().cloned().map(Some).collect(),
        }
    }

    /// The image of the containers, which is never removed to make room.
    pub(super) fn image(&self) -> &ImageName {
        &self.holder.image
    }
}

impl Pool {
    fn new(settings: &Settings) -> Self {
        let bounds = Bounds {
            floor: settings.size,
            ceiling: settings.size,
        };
        Self {
            slots: Slots::new(bounds, settings.once),
            networks: settings.networks(),
        }
    }

    /// The state of the pool.
    pub(super) fn state(&self) -> PoolState {
        let counts = self.slots.counts();
        let ready = |name: &Option<String>| self.slots.count_ready(|slot| slot.network() == name.as_deref());
        PoolState {
            target: counts.target,
            ready: counts.ready,
            leased: counts.leased,
            hits: counts.hits,
            misses: counts.misses,
            dead: counts.dead,
            networks: self
                .networks
                .iter()
                .map(|name| (name.clone().unwrap_or_else(|| DEFAULT.to_owned()), ready(name)))
                .collect(),
        }
    }

    /// Takes a prepared network, if one is ready. A container may use it from now on.
    pub(super) fn take(&self) -> Option<Lease<Slot>> {
        let mut lease = self.slots.take(Slot::is_alive)?;
        lease.touch();
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_held_by_the_configured_image_or_by_fn_s_own() {
        let of = |image: &str, command: &str| {
            let config = Config {
                pre_fork_pool_size: 2,
                pre_fork_image: image.to_owned(),
                pre_fork_cmd: command.to_owned(),
                container_label_tag: "tag".to_owned(),
                instance_id: "i-1".to_owned(),
                ..Config::default()
            };
            let settings = Settings::of(&config, "start-1").unwrap().unwrap();
            serde_json::to_value(&settings.holder.options.body).unwrap()
        };
        let own = of("a/b", "hold on");
        assert_eq!(
            (&own["Image"], &own["Cmd"]),
            (&"a/b".into(), &serde_json::json!(["hold", "on"]))
        );
        assert_eq!(own["Labels"]["fn-agent-prefork"], "start-1");
        assert_eq!(own["Labels"]["fn-agent-classifier"], "tag");
        assert_eq!(own["User"], "1000:1000");
        let fns = of("", " ");
        assert_eq!(fns["Image"], "busybox");
        assert_eq!(fns["Cmd"], serde_json::json!(["tail", "-f", "/dev/null"]));
    }

    #[test]
    fn no_pool_is_no_pool_and_one_beyond_all_bounds_is_refused() {
        assert!(Settings::of(&Config::default(), "s").unwrap().is_none());
        let config = Config {
            pre_fork_pool_size: 1001,
            ..Config::default()
        };
        assert_eq!(
            Settings::of(&config, "s").unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
        let config = Config {
            pre_fork_pool_size: 1,
            pre_fork_image: "a b".to_owned(),
            ..Config::default()
        };
        let error = Settings::of(&config, "s").unwrap_err();
        assert!(error.report().starts_with("pre_fork_image: "), "{error:?}");
    }
}
