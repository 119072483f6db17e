//! Network configurations: one file for each network, which lists plugins with the input of each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::sandbox::Error;
use crate::sandbox::family::{Family, subnet};

/// The maximum size of a network configuration, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The versions of the specification that are supported. Before 0.3.0, results had another form.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A network: the configurations of its plugins, in the order of ADD.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sandbox) struct List {
    pub(in crate::sandbox) name: String,
    pub(in crate::sandbox) version: String,
    /// Whether the configuration disables CHECK.
    pub(in crate::sandbox) no_check: bool,
    pub(in crate::sandbox) plugins: Vec<Map<String, Value>>,
    /// The whole configuration, as it was read.
    pub(in crate::sandbox) json: Value,
}

impl List {
    /// Reads a list, or a single plugin's configuration, which is a list of one.
    pub(in crate::sandbox) fn parse(json: Value) -> Result<Self, String> {
        let Value::Object(top) = &json else {
            return Err("it is not a JSON object".to_owned());
        };
        let text = |of: &Map<String, Value>, field: &str| match of.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("its {field:?} is not a text")),
        };
        let name = text(top, "name")?.ok_or("it has no \"name\"")?;
        if !is_name(&name) {
            return Err(format!("its name {name:?} is not usable"));
        }
        let version = text(top, "cniVersion")?.ok_or("it has no \"cniVersion\"")?;
        if !VERSIONS.contains(&version.as_str()) {
            return Err(format!(
                "its cniVersion {version:?} is not one of {}",
                VERSIONS.join(", ")
            ));
        }
        let no_check = match top.get("disableCheck") {
            None => false,
            Some(Value::Bool(no)) => *no,
            // libcni accepts it as text, too.
            Some(Value::String(no)) => no == "true",
            Some(_) => return Err("its \"disableCheck\" is neither true nor false".to_owned()),
        };
        let plugins = match top.get("plugins") {
            None => vec![top.clone()],
            Some(Value::Array(plugins)) => plugins
                .iter()
                .map(|plugin| {
                    plugin
                        .as_object()
                        .cloned()
                        .ok_or("one of its plugins is not an object")
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err("its \"plugins\" are not a list".to_owned()),
        };
        if plugins.is_empty() {
            return Err("it has no plugins".to_owned());
        }
        for plugin in &plugins {
            let kind = text(plugin, "type")?.ok_or("one of its plugins has no \"type\"")?;
            // The type becomes the name of a program in the plugins' directory, and must not lead outside of it.
            if kind.is_empty() || kind.starts_with('.') || kind.contains(['/', '\0']) {
                return Err(format!(
                    "the type {kind:?} of one of its plugins is not the name of a program"
                ));
            }
        }
        Ok(Self {
            name,
            version,
            no_check,
            plugins,
            json,
        })
    }

    /// Returns the type of a plugin, which is the name of its program.
    pub(in crate::sandbox) fn kind(plugin: &Map<String, Value>) -> &str {
        plugin.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the subnets that addresses come from, as far as the configuration contains them.
    pub(in crate::sandbox) fn subnets(&self) -> Vec<String> {
        fn collect(of: &Value, found: &mut Vec<String>) {
            match of {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        match value {
                            Value::String(subnet) if name == "subnet" => found.push(subnet.clone()),
                            other => collect(other, found),
                        }
                    }
                }
                Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        // Not the whole document: what a maker says of a network is not its configuration.
        collect(self.json.get("plugins").unwrap_or(&self.json), &mut found);
        found
    }

    /// Returns the families of these subnets, each once; empty if the configuration has no subnets.
    pub(in crate::sandbox) fn families(&self) -> Vec<Family> {
        let subnets = self.subnets();
        let of: Vec<_> = subnets.iter().filter_map(|text| subnet(text)).collect();
        let has = |family: &Family| of.iter().any(|(of, _)| of == family);
        Family::ALL.into_iter().filter(has).collect()
    }

    /// Whether any plugin can publish ports.
    pub(in crate::sandbox) fn publishes(&self) -> bool {
        self.plugins.iter().any(|plugin| declares(plugin, "portMappings"))
    }
}

/// Whether a plugin declares that it takes this argument of the runtime.
pub(super) fn declares(plugin: &Map<String, Value>, capability: &str) -> bool {
    let capabilities = plugin.get("capabilities");
    capabilities.and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
}

/// Whether a network may have this name: the characters that the specification allows, and at most 100 of them.
pub(in crate::sandbox) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 100 && name.chars().all(plain)
}

/// A configuration, or the reason why a file is not usable.
type Read = Result<List, Error>;

/// Returns every configuration of the directories, in the order of the directories and then of the files' names. A file
/// that cannot be used is returned as an error. A directory that does not exist is skipped.
pub(in crate::sandbox) fn read_dirs(dirs: &[PathBuf]) -> Result<Vec<(PathBuf, Read)>, Error> {
    let mut found = Vec::new();
    for dir in dirs {
        let broken = |why: io::Error| Error::Config {
            file: dir.clone(),
            why: why.to_string(),
        };
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(broken)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(broken)?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if matches!(ending, Some("conflist" | "conf" | "json")) {
                files.push(path);
            }
        }
        files.sort();
        found.extend(files.into_iter().map(|file| {
            let list = read(&file);
            (file, list)
        }));
    }
    Ok(found)
}

fn read(file: &Path) -> Result<List, Error> {
    let broken = |why: String| Error::Config {
        file: file.to_owned(),
        why,
    };
    let size = fs::metadata(file)
        .map_err(|error| broken(error.to_string()))?
        .len();
    if size > MAX_FILE {
        return Err(broken(format!("it has {size} bytes; the most is {MAX_FILE}")));
    }
    let bytes = fs::read(file).map_err(|error| broken(error.to_string()))?;
    let json = serde_json::from_slice(&bytes).map_err(|error| broken(format!("it is not JSON: {error}")))?;
    List::parse(json).map_err(broken)
}

/// Returns the network of this name. The error of a broken file is returned only if no other file has the network, and
/// preferably for a file of that name.
pub(in crate::sandbox) fn find(dirs: &[PathBuf], name: &str) -> Result<(PathBuf, List), Error> {
    if !is_name(name) {
        return Err(Error::Name {
            name: name.chars().take(100).collect(),
        });
    }
    let mut known = Vec::new();
    let mut broken = None;
    for (file, list) in read_dirs(dirs)? {
        match list {
            Ok(list) if list.name == name => return Ok((file, list)),
            Ok(list) => known.push(list.name),
            Err(why) => {
                if file.file_stem().is_some_and(|stem| stem == name) || broken.is_none() {
                    broken = Some(why);
                }
            }
        }
    }
    Err(broken.unwrap_or_else(|| Error::NoSuchNetwork {
        name: name.to_owned(),
        known,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let one = json!({ "cniVersion": "0.4.0", "name": "a", "type": "bridge", "ipam": { "subnet": "10.1.0.0/24" } });
        let list = List::parse(one).unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len()), ("a", 1));
        assert_eq!(List::kind(&list.plugins[0]), "bridge");
        assert_eq!(list.subnets(), ["10.1.0.0/24"]);
        assert!(!list.publishes());
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_the_reason() {
        let plugins = json!([{ "type": "bridge" }]);
        let bad = [
            (json!([]), "not a JSON object"),
            (
                json!({ "cniVersion": "1.0.0", "plugins": plugins }),
                "no \"name\"",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": "../x", "plugins": plugins }),
                "\"../x\" is not usable",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": 7, "plugins": plugins }),
                "\"name\" is not a text",
            ),
            (json!({ "name": "a", "plugins": plugins }), "no \"cniVersion\""),
            (
                json!({ "cniVersion": "0.1.0", "name": "a", "plugins": plugins }),
                "\"0.1.0\" is not one of",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": "a", "plugins": [] }),
                "no plugins",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": "a", "plugins": [7] }),
                "not an object",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": "a", "plugins": [{}] }),
                "no \"type\"",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": "a", "plugins": [{ "type": "../sh" }] }),
                "\"../sh\" of one of its plugins is not the name of a program",
            ),
            (
                json!({ "cniVersion": "1.0.0", "name": "a", "disableCheck": 1, "plugins": plugins }),
                "disableCheck",
            ),
        ];
        for (json, why) in bad {
            let refused = List::parse(json.clone()).unwrap_err();
            assert!(refused.contains(why), "{json}: {refused}");
        }
    }

    #[test]
    fn a_network_is_found_by_its_name_and_a_broken_file_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned(), "/nonexistent".into()];
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        write(
            "10-a.conflist",
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#,
        );
        write("readme.txt", "not one");
        assert_eq!(find(&dirs, "a").unwrap().1.name, "a");
        let missing = find(&dirs, "b").unwrap_err();
        assert_eq!(missing.to_string(), "there is no network \"b\"; there are a");
        write("b.conf", "{");
        assert_eq!(find(&dirs, "a").unwrap().1.name, "a");
        let broken = find(&dirs, "b").unwrap_err().to_string();
        assert!(broken.contains("b.conf is broken: it is not JSON"), "{broken}");
        assert!(matches!(find(&dirs, "a/b"), Err(Error::Name { .. })));
        assert_eq!(read_dirs(&dirs).unwrap().len(), 2);
    }
}
