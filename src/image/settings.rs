//! The settings of an image for its containers.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The configuration of an image, as far as containers need it. Absent strings are `None`, absent lists are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageSettings {
    /// `NAME=value`, in order.
    pub(crate) env: Vec<String>,
    /// The program, before the arguments.
    pub(crate) entrypoint: Vec<String>,
    /// The default arguments, or the program where there is no entrypoint.
    pub(crate) cmd: Vec<String>,
    /// The working directory.
    pub(crate) working_dir: Option<String>,
    /// `name`, `uid`, `name:group`, `uid:gid`.
    pub(crate) user: Option<String>,
    /// The directories that it declares as VOLUME.
    pub(crate) volumes: Vec<String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The signal that asks its program to end.
    pub(crate) stop_signal: Option<String>,
    /// The ports that it declares, as in `80/tcp`.
    pub(crate) exposed_ports: Vec<String>,
    /// How the health of its containers is checked, an extension of Docker's.
    pub(crate) health: Option<ImageHealth>,
    /// As in `amd64`.
    pub(crate) architecture: String,
    /// As in `v7`.
    pub(crate) variant: Option<String>,
    /// As in `linux`.
    pub(crate) os: String,
    /// When it was made, as RFC 3339 text.
    pub(crate) created: Option<String>,
}

/// How the health of an image's containers is checked. Times are in nanoseconds; what is not set is zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ImageHealth {
    pub(crate) test: Vec<String>,
    pub(crate) interval: i64,
    pub(crate) timeout: i64,
    pub(crate) start_period: i64,
    pub(crate) start_interval: i64,
    pub(crate) retries: i64,
}

/// The driver contract requires that an image which declares VOLUME is refused unless the host allows it, because a
/// volume is writable even where the host requires read-only.
pub(crate) fn refuses_volume(settings: &ImageSettings) -> bool {
    !settings.volumes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_a_volume_is_refused_and_one_without_is_not() {
        let mut settings = ImageSettings::default();
        assert!(!refuses_volume(&settings));
        settings.volumes.push("/data".into());
        assert!(refuses_volume(&settings));
    }
}
