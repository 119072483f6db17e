//! The configuration of a driver: the contract's fields, with the contract's names in JSON.
//!
//! Zero and the empty string mean "not set", as in Fn's original files; each driver turns them into absence once, where
//! it reads them. Unknown names are refused, because a misspelt limit must not be ignored.

use serde::{Deserialize, Serialize};

/// What a host configures once per driver. The default sets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address of the engine, in the form that the driver expects.
    pub docker: String,
    /// Networks for functions, separated by white space; a function gets the least used one. `host` or `none` cannot be
    /// combined with others.
    pub docker_networks: String,
    /// An archive of images (docker-archive or OCI layout) to load before the driver is ready, or several archives,
    /// separated by white space. A path with white space is possible only for a single archive.
    pub docker_load_file: String,
    /// The oldest engine version that is accepted.
    pub server_version: String,
    /// How many network namespaces to keep prepared; 0 disables the pool.
    pub pre_fork_pool_size: u64,
    /// The image of the containers that hold the prepared namespaces; optional.
    pub pre_fork_image: String,
    /// The command of those containers.
    pub pre_fork_cmd: String,
    /// Unless 0, a prepared namespace serves one container and is then replaced.
    pub pre_fork_use_once: u64,
    /// The networks over which the pool is spread, separated by white space.
    pub pre_fork_networks: String,
    /// How many inodes the tmpfs at `/tmp` may have; 0 leaves the kernel's default.
    pub max_tmpfs_inodes: u64,
    /// The root file system is read-only, and `/tmp` is a tmpfs.
    pub enable_readonly_rootfs: bool,
    /// The value of the label that marks this host's containers. At the start, containers with this label and another
    /// [`instance_id`](Self::instance_id) are removed. If empty, no container is labelled or removed.
    pub container_label_tag: String,
    /// The value of the label that distinguishes this instance of the host from others. With a tag but no id, each
    /// start is a new instance, and removes the containers of the previous one. A host that takes over its containers
    /// after a restart, or runs several drivers with the same tag, must set this.
    pub instance_id: String,
    /// How many bytes of images to keep; 0 keeps all.
    pub image_clean_max_size: u64,
    /// Tags that are never removed, separated by white space.
    pub image_clean_exempt_tags: String,
    /// Images that declare volumes are accepted. Each volume is then a directory of the container's own, with the
    /// image's content, writable even under a read-only root, and removed with the container.
    pub image_enable_volume: bool,
    /// Functions run as the image's user with the default capabilities, instead of as 1000:1000 without capabilities.
    pub disable_unprivileged_containers: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field name of Fn's original, so that its configuration files keep working.
    const EVERY_FIELD: &str = r#"{
        "docker": "/run/containerd/containerd.sock", "docker_networks": "a b", "docker_load_file": "/i.tar",
        "server_version": "1.6.0", "pre_fork_pool_size": 4, "pre_fork_image": "pause", "pre_fork_cmd": "sleep",
        "pre_fork_use_once": 1, "pre_fork_networks": "c", "max_tmpfs_inodes": 100, "enable_readonly_rootfs": true,
        "container_label_tag": "tag", "instance_id": "i-1", "image_clean_max_size": 9000,
        "image_clean_exempt_tags": "x:y", "image_enable_volume": true, "disable_unprivileged_containers": true
    }"#;

    #[test]
    fn every_name_of_the_original_is_read_and_written_back() {
        let config: Config = serde_json::from_str(EVERY_FIELD).unwrap();
        assert_eq!(config.pre_fork_pool_size, 4);
        let given: serde_json::Value = serde_json::from_str(EVERY_FIELD).unwrap();
        assert_eq!(serde_json::to_value(&config).unwrap(), given);
    }

    #[test]
    fn what_is_left_out_is_not_set() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
    }

    #[test]
    fn a_misspelt_name_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{"max_tmp_inodes": 1}"#).unwrap_err();
        assert!(error.to_string().contains("max_tmp_inodes"), "{error}");
    }
}
