//! Networks under the names that Docker's clients have for them: `bridge` is the default network, and `host` and `none` are
//! there without a configuration.

use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::engine::{ConfiguredNetwork, DEFAULT_NETWORK};
use crate::ids::stable_hash;

/// Docker's name of the default network.
pub(super) const BRIDGE: &str = "bridge";

/// A network that clients see.
#[derive(Debug, Clone)]
pub(in crate::docker_api) enum Known {
    /// One with a configuration.
    Configured(Box<ConfiguredNetwork>),
    /// The default network, before its first use.
    Default,
    /// The host's own network.
    Host,
    /// No network.
    None,
}

impl Known {
    /// Every network. The default one, the host's and none are always there.
    ///
    /// # Errors
    /// If the configurations cannot be read.
    pub(in crate::docker_api) async fn all(door: &Door) -> Result<Vec<Self>, Refused> {
        let configured = door.engine.networks().await?;
        let has_default = configured.iter().any(|network| network.name == DEFAULT_NETWORK);
        let mut all: Vec<_> = configured
            .into_iter()
            .map(|network| Self::Configured(Box::new(network)))
            .collect();
        if !has_default {
            all.push(Self::Default);
        }
        all.extend([Self::Host, Self::None]);
        Ok(all)
    }

    /// The network that a client refers to: by its id, its name, or the beginning of its id.
    ///
    /// # Errors
    /// Status 404 if there is none, 400 if there are several.
    pub(in crate::docker_api) async fn find(door: &Door, given: &str) -> Result<Self, Refused> {
        let all = Self::all(door).await?;
        let missing = || Refused::missing(format!("network {given} not found"));
        if given.is_empty() {
            return Err(missing());
        }
        let exact = |known: &&Self| known.id() == given;
        let named = |known: &&Self| known.name() == given;
        if let Some(found) = all.iter().find(exact).or_else(|| all.iter().find(named)) {
            return Ok(found.clone());
        }
        let mut begun = all.into_iter().filter(|known| known.id().starts_with(given));
        match (begun.next(), begun.next()) {
            (Some(found), None) => Ok(found),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => Err(Refused::bad(format!(
                "network {given} is ambiguous (several ids begin with it)"
            ))),
        }
    }

    /// Its name for clients.
    pub(in crate::docker_api) fn name(&self) -> &str {
        match self {
            Self::Configured(network) if network.name == DEFAULT_NETWORK => BRIDGE,
            Self::Configured(network) => &network.name,
            Self::Default => BRIDGE,
            Self::Host => "host",
            Self::None => "none",
        }
    }

    /// Its name in its configuration, if it has one.
    pub(in crate::docker_api) fn configured_name(&self) -> Option<&str> {
        match self {
            Self::Configured(network) => Some(&network.name),
            Self::Default | Self::Host | Self::None => None,
        }
    }

    /// Its id: 64 hexadecimal digits.
    pub(in crate::docker_api) fn id(&self) -> String {
        match self {
            Self::Configured(network) => network.about.id.clone(),
            built_in => {
                let parts = (0..4_u8).map(|part| {
                    let whole = [&[part], built_in.name().as_bytes()].concat();
                    format!("{:016x}", stable_hash(&whole))
                });
                parts.collect()
            }
        }
    }

    /// Whether it is always there.
    pub(super) fn is_predefined(&self) -> bool {
        !matches!(self, Self::Configured(network) if network.name != DEFAULT_NETWORK)
    }
}

/// The name in the configuration of a network that a client has for a container: that of the network whose id it is, if it is one;
/// and whether containers find each other by name there, which they do not on networks of other programs. A name that is not
/// known stays, and is an error of the start.
///
/// # Errors
/// As for [`Known::all`].
pub(in crate::docker_api) async fn configured_name(
    door: &Door,
    given: &str,
) -> Result<(String, bool), Refused> {
    match Known::find(door, given).await {
        Ok(Known::Configured(network)) => {
            let has_names = network.is_ours && network.name != DEFAULT_NETWORK;
            Ok((network.name, has_names))
        }
        Ok(Known::Default) => Ok((DEFAULT_NETWORK.to_owned(), false)),
        Ok(Known::Host | Known::None) => Ok((given.to_owned(), false)),
        Err(refused) if refused.status == hyper::StatusCode::NOT_FOUND => Ok((given.to_owned(), true)),
        Err(refused) => Err(refused),
    }
}
