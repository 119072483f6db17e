//! The contract's configuration of the pool of prepared network namespaces.

use super::plan::plan;
use crate::driver::{Config, Error, ErrorKind, Task};
use crate::engine::{Bounds, PoolConfig};

/// A larger pool is a mistake: a bridge of the kernel has 1024 ports.
const MOST_SLOTS: u64 = 1000;

/// The configuration of the pool of prepared network namespaces, if there is to be one.
pub(super) fn pool(config: &Config, ceiling: u64) -> Result<Option<PoolConfig>, Error> {
    let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
    if config.pre_fork_pool_size == 0 {
        return Ok(None);
    }
    if config.pre_fork_pool_size > MOST_SLOTS || ceiling > MOST_SLOTS {
        let text = format!("pre_fork_pool_size: the most is {MOST_SLOTS}");
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    let holder = if config.pre_fork_image.is_empty() {
        None
    } else {
        // The pool's slot sets the name and the network.
        let task = Task {
            id: "pool".to_owned(),
            image: config.pre_fork_image.clone(),
            command: config.pre_fork_cmd.clone(),
            disable_net: true,
            ..Task::default()
        };
        Some(plan(&task, config).map_err(|error| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("pre_fork_image: {}", error.report()),
            )
        })?)
    };
    Ok(Some(PoolConfig {
        bounds: Bounds {
            floor: size(config.pre_fork_pool_size),
            ceiling: size(ceiling),
        },
        networks: config
            .pre_fork_networks
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        once: config.pre_fork_use_once != 0,
        holder,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size: u64, image: &str) -> Config {
        Config {
            pre_fork_pool_size: size,
            pre_fork_image: image.to_owned(),
            pre_fork_cmd: "sleep 1000".to_owned(),
            pre_fork_networks: " a b ".to_owned(),
            pre_fork_use_once: 1,
            container_label_tag: "tag".to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn a_pool_of_nothing_is_none_and_one_without_an_image_needs_no_process() {
        assert!(pool(&config(0, "busybox"), 5).unwrap().is_none());
        let bare = pool(&config(3, ""), 5).unwrap().unwrap();
        assert_eq!(bare.bounds, Bounds { floor: 3, ceiling: 5 });
        assert_eq!(
            (bare.networks, bare.once),
            (vec!["a".to_owned(), "b".to_owned()], true)
        );
        assert!(bare.holder.is_none());
    }

    #[test]
    fn the_holder_is_a_container_like_any_other() {
        let holder = pool(&config(3, "busybox"), 0).unwrap().unwrap().holder.unwrap();
        assert_eq!(
            holder.config.command,
            Some(vec!["sleep".to_owned(), "1000".to_owned()])
        );
        assert_eq!(
            holder.labels.get("fn-agent-classifier").map(String::as_str),
            Some("tag")
        );
        let refused = pool(&config(3, "Bad Name"), 0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
        assert!(
            refused.report().contains("pre_fork_image"),
            "{}",
            refused.report()
        );
        assert_eq!(
            pool(&config(1001, ""), 0).unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
    }
}
