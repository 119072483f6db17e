//! Networks that are configured on this host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::cni::List;
use crate::ids::stable_hash;

/// The key of [`NetworkAbout`] in a configuration.
pub(super) const ABOUT: &str = "fnctr-about";

/// The network of containers for which none is named.
pub(crate) const DEFAULT: &str = "fnctr";

/// A network, as shown to the user.
#[derive(Debug, Clone)]
pub(crate) struct ConfiguredNetwork {
    pub(crate) name: String,
    /// The file that configures the network.
    pub(crate) file: PathBuf,
    /// The types of its plugins, in the order in which the CNI command ADD runs them.
    pub(crate) plugins: Vec<String>,
    pub(crate) subnets: Vec<String>,
    /// The whole configuration.
    pub(crate) config: serde_json::Value,
    /// What its maker has said of it.
    pub(crate) about: NetworkAbout,
    /// Whether fnctr has configured it, and may remove it.
    pub(crate) is_ours: bool,
}

/// What the maker of a network has said of it, beside its addresses. A network of another program has an id and a time all the
/// same: those of its file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkAbout {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Options of a driver, which nothing here reads.
    pub(crate) options: BTreeMap<String, String>,
    /// Whether the network leads nowhere but to its own containers.
    pub(crate) is_internal: bool,
    /// The part of the subnet that addresses are given from, if not from all of it.
    pub(crate) range: Option<String>,
}

impl ConfiguredNetwork {
    /// The host's address on the network, if a bridge has one: the one that is configured, or the first of the subnet.
    pub(crate) fn gateway(&self) -> Option<Ipv4Addr> {
        let bridge = self.config.get("plugins")?.get(0)?;
        if bridge.get("isGateway") != Some(&serde_json::Value::Bool(true)) {
            return None;
        }
        let range = bridge.pointer("/ipam/ranges/0/0");
        let given = range.and_then(|range| range.get("gateway")?.as_str()?.parse().ok());
        let first = || {
            let (subnet, _) = self.subnets.first()?.split_once('/')?;
            let subnet: Ipv4Addr = subnet.parse().ok()?;
            Some(Ipv4Addr::from_bits(subnet.to_bits().checked_add(1)?))
        };
        given.or_else(first)
    }
}

/// Whether a configuration is that of a network that leads nowhere but to its own containers.
pub(super) fn is_internal(list: &List) -> bool {
    let said = list.json.get(ABOUT).and_then(|said| said.get("is_internal"));
    said == Some(&serde_json::Value::Bool(true))
}

impl NetworkAbout {
    /// What is known of a network from its configuration and the file that has it.
    pub(super) fn of(list: &List, file: &Path) -> Self {
        let said = list.json.get(ABOUT).cloned();
        let said: Self = said
            .and_then(|said| serde_json::from_value(said).ok())
            .unwrap_or_default();
        let modified = || std::fs::metadata(file).and_then(|found| found.modified()).ok();
        Self {
            id: match said.id.is_empty() {
                true => made_up(&list.name, file),
                false => said.id,
            },
            created_at: said.created_at.or_else(modified),
            ..said
        }
    }
}

/// An id that is always the same for a network.
fn made_up(name: &str, file: &Path) -> String {
    let parts = (0..4_u8).map(|part| {
        let whole = [
            &[part],
            name.as_bytes(),
            &[0],
            file.as_os_str().as_encoded_bytes(),
        ]
        .concat();
        format!("{:016x}", stable_hash(&whole))
    });
    parts.collect()
}
