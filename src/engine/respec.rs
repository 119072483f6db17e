//! What changes in the spec of a kept container from one run to the next.

use std::collections::BTreeMap;

use fnctr_oci::{ContainerConfig, Mount, NetworkMode};
use serde_json::Value;

/// Why the spec cannot follow a change of the container whose network it shares.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OtherNetwork {
    #[error(
        "the container whose network it shares is on the host's network now, and was not when this one was made; make it anew"
    )]
    OnHost,
    #[error(
        "the container whose network it shares was on the host's network when this one was made, and is not any more; make it anew"
    )]
    NotOnHost,
}

/// Writes the network namespace of the next run into the spec.
pub(super) fn set_network(spec: &mut Value, mode: &NetworkMode) -> Result<(), OtherNetwork> {
    let namespaces = spec
        .pointer_mut("/linux/namespaces")
        .and_then(Value::as_array_mut);
    let network = namespaces.and_then(|all| all.iter_mut().find(|one| one["type"] == "network"));
    let network = network.and_then(Value::as_object_mut);
    match (mode, network) {
        (NetworkMode::Host, None) => {}
        (NetworkMode::None, Some(network)) => drop(network.remove("path")),
        (NetworkMode::Join(path), Some(network)) => {
            network.insert("path".to_owned(), path.display().to_string().into());
        }
        (NetworkMode::Host, Some(_)) => {
            return Err(OtherNetwork::OnHost);
        }
        (_, None) => {
            return Err(OtherNetwork::NotOnHost);
        }
    }
    Ok(())
}

/// Writes the paths of this engine's init and of the container's own files into the spec: the engine that made the
/// container may have had others.
pub(super) fn set_sources(spec: &mut Value, config: &ContainerConfig) {
    let mounts = spec.pointer_mut("/mounts").and_then(Value::as_array_mut);
    let init = config
        .init
        .as_ref()
        .map(|init| (fnctr_oci::INIT_PATH.to_owned(), init));
    let binds = config.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind {
            source, destination, ..
        } => Some((destination.display().to_string(), source)),
        Mount::Tmpfs { .. } => None,
    });
    let sources: BTreeMap<_, _> = binds.chain(init).collect();
    for mount in mounts.into_iter().flatten() {
        let destination = mount.get("destination").and_then(Value::as_str);
        let source = destination.and_then(|destination| sources.get(destination));
        if let (Some(source), Some(mount)) = (source, mount.as_object_mut()) {
            mount.insert("source".to_owned(), source.display().to_string().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(network: Option<&str>) -> Value {
        let mut namespaces = vec![serde_json::json!({ "type": "mount" })];
        namespaces.extend(network.map(|path| match path {
            "" => serde_json::json!({ "type": "network" }),
            path => serde_json::json!({ "type": "network", "path": path }),
        }));
        serde_json::json!({ "linux": { "namespaces": namespaces } })
    }

    #[test]
    fn the_next_run_gets_the_network_namespace_that_was_chosen_for_it() {
        for (before, mode, after) in [
            (Some("/old"), NetworkMode::Join("/new".into()), Some("/new")),
            (Some(""), NetworkMode::Join("/new".into()), Some("/new")),
            (Some(""), NetworkMode::None, Some("")),
            (Some("/old"), NetworkMode::None, Some("")),
            (None, NetworkMode::Host, None),
        ] {
            let mut changed = spec(before);
            set_network(&mut changed, &mode).unwrap();
            assert_eq!(changed, spec(after), "{before:?} {mode:?}");
        }
    }

    #[test]
    fn the_next_run_finds_the_init_and_its_files_where_this_engine_has_them() {
        let mount = |destination: &str, source: &str| serde_json::json!({ "destination": destination, "source": source });
        let mut spec = serde_json::json!({ "mounts": [
            mount("/proc", "proc"),
            mount("/etc/hosts", "/old/hosts"),
            mount("/d", "/data"),
            mount(fnctr_oci::INIT_PATH, "/old/init"),
        ] });
        let bind = |source: &str, destination: &str| Mount::Bind {
            source: source.into(),
            destination: destination.into(),
            readonly: true,
        };
        let config = ContainerConfig {
            init: Some("/new/init".into()),
            mounts: vec![bind("/new/hosts", "/etc/hosts"), bind("/data", "/d")],
            ..ContainerConfig::default()
        };
        set_sources(&mut spec, &config);
        let expected = serde_json::json!({ "mounts": [
            mount("/proc", "proc"),
            mount("/etc/hosts", "/new/hosts"),
            mount("/d", "/data"),
            mount(fnctr_oci::INIT_PATH, "/new/init"),
        ] });
        assert_eq!(spec, expected);
    }

    #[test]
    fn a_network_of_another_kind_is_refused_and_changes_nothing() {
        for (before, mode, error) in [
            (None, NetworkMode::Join("/new".into()), OtherNetwork::NotOnHost),
            (Some("/old"), NetworkMode::Host, OtherNetwork::OnHost),
        ] {
            let mut changed = spec(before);
            assert_eq!(set_network(&mut changed, &mode), Err(error));
            assert_eq!(changed, spec(before));
        }
    }
}
