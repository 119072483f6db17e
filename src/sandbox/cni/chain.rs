//! Runs the plugins of a network one after the other: each receives the result of the plugins before it.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::config::declares;
use super::plugin::Verb;
use super::{Attachment, List, Plugins};
use crate::Context;
use crate::sandbox::Error;
use crate::sandbox::journal::Refused;

/// How long each plugin took, in the order in which they ran.
pub(in crate::sandbox) type Taken = Vec<(String, Duration)>;

/// What the plugins of a chain have made so far.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Added {
    /// The result of the last plugin that returned one; after the last plugin, the result of the chain.
    pub(in crate::sandbox) result: Option<Value>,
    pub(in crate::sandbox) taken: Taken,
}

/// A network's plugins, and the directories that they are in.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox) struct Chain<'a> {
    pub(in crate::sandbox) plugins: &'a Plugins,
    pub(in crate::sandbox) list: &'a List,
    /// The runtime's arguments, such as `portMappings`. A plugin receives only the arguments that it declares.
    pub(in crate::sandbox) arguments: &'a Map<String, Value>,
}

impl Chain<'_> {
    /// Attaches with the next plugin, and returns whether there was one. The caller must record the result of each
    /// plugin before the next one runs, because a process that detaches after a crash needs it. If a plugin fails, the
    /// work of the plugins before it stays, for [`Self::del`].
    pub(in crate::sandbox) async fn add_next(
        &self,
        ctx: &Context,
        at: Attachment<'_>,
        added: &mut Added,
    ) -> Result<bool, Error> {
        let Some(plugin) = self.list.plugins.get(added.taken.len()) else {
            return Ok(false);
        };
        let began = Instant::now();
        let said = self
            .run(ctx, Verb::Add, at, plugin, added.result.as_ref())
            .await?;
        added.taken.push((List::kind(plugin).to_owned(), began.elapsed()));
        if let Some(said) = said {
            added.result = Some(said);
        }
        Ok(true)
    }

    /// Detaches, in reverse order. Continues after a failure, so that as much as possible is freed, and returns the
    /// first error. A plugin that refused to attach and refuses to detach with the same message has changed nothing, so
    /// its error is ignored.
    pub(in crate::sandbox) async fn del(
        &self,
        ctx: &Context,
        at: Attachment<'_>,
        result: Option<&Value>,
        refused: Option<&Refused>,
    ) -> Result<Taken, Error> {
        // DEL receives the result since 0.4.0.
        let result = result.filter(|_| self.since_0_4());
        let (mut first, mut taken) = (None, Taken::new());
        for plugin in self.list.plugins.iter().rev() {
            let began = Instant::now();
            match self.run(ctx, Verb::Del, at, plugin, result).await {
                Ok(_) => taken.push((List::kind(plugin).to_owned(), began.elapsed())),
                Err(Error::Plugin { plugin, what, .. })
                    if refused.is_some_and(|refused| refused.plugin == plugin && refused.what == what) =>
                {
                    tracing::debug!(
                        plugin,
                        what,
                        "a CNI plugin refuses to detach with the same message as it refused to attach; it has nothing to undo"
                    );
                }
                Err(error) if first.is_none() => first = Some(error),
                // A consequence of the first failure, or a separate failure.
                Err(error) => {
                    tracing::warn!(network = self.list.name, %error, "another plugin failed to detach");
                }
            }
        }
        first.map_or(Ok(taken), Err)
    }

    /// Asks the plugins whether the attachment still is as they made it.
    pub(in crate::sandbox) async fn check(
        &self,
        ctx: &Context,
        at: Attachment<'_>,
        result: &Value,
    ) -> Result<(), Error> {
        if self.list.no_check || !self.since_0_4() {
            return Ok(());
        }
        for plugin in &self.list.plugins {
            self.run(ctx, Verb::Check, at, plugin, Some(result)).await?;
        }
        Ok(())
    }

    fn since_0_4(&self) -> bool {
        !self.list.version.starts_with("0.3.")
    }

    async fn run(
        &self,
        ctx: &Context,
        verb: Verb,
        at: Attachment<'_>,
        plugin: &Map<String, Value>,
        result: Option<&Value>,
    ) -> Result<Option<Value>, Error> {
        let stdin = self.stdin(plugin, result);
        let network = &self.list.name;
        self.plugins
            .run(ctx, network, List::kind(plugin), verb, at, &stdin)
            .await
    }

    /// Returns the input of a plugin (SPEC.md, "Deriving execution configuration from plugin configuration").
    fn stdin(&self, plugin: &Map<String, Value>, result: Option<&Value>) -> Value {
        let mut told = plugin.clone();
        told.insert("name".to_owned(), self.list.name.clone().into());
        told.insert("cniVersion".to_owned(), self.list.version.clone().into());
        let arguments: Map<_, _> = self
            .arguments
            .iter()
            .filter(|(name, _)| declares(plugin, name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !arguments.is_empty() {
            told.insert("runtimeConfig".to_owned(), arguments.into());
        }
        if let Some(result) = result {
            told.insert("prevResult".to_owned(), result.clone());
        }
        told.into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    const AT: Attachment<'static> = Attachment {
        id: "s1",
        netns: "/n",
        interface: "eth0",
    };

    /// Makes plugins that log their input, answer with their name, and fail if a certain file exists.
    fn recording(dir: &Path, names: &[&str]) -> Plugins {
        for name in names {
            let file = dir.join(name);
            let script = format!(
                "#!/bin/sh\nread -r c\nprintf '%s %s %s\\n' \"$CNI_COMMAND\" {name} \"$c\" >> {d}/log\n\
                 [ -e {d}/fail-$CNI_COMMAND-{name} ] && {{ echo '{{\"code\":9,\"msg\":\"{name} fails\"}}'; exit 1; }}\n\
                 [ $CNI_COMMAND = ADD ] && echo '{{\"by\":\"{name}\"}}'\nexit 0\n",
                d = dir.display()
            );
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Plugins {
            dirs: vec![dir.to_owned()],
            patience: Duration::from_secs(20),
        }
    }

    fn list(version: &str) -> List {
        List::parse(json!({
            "cniVersion": version, "name": "net",
            "plugins": [
                { "type": "one", "x": 1 },
                { "type": "two", "capabilities": { "portMappings": true, "other": false } },
            ],
        }))
        .unwrap()
    }

    /// Returns the log, as (verb, plugin, input), and clears it.
    fn log(dir: &Path) -> Vec<(String, String, Value)> {
        let text = fs::read_to_string(dir.join("log")).unwrap_or_default();
        drop(fs::remove_file(dir.join("log")));
        let entry = |line: &str| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let mut next = || words.next().unwrap();
            (next(), next(), serde_json::from_str(&next()).unwrap())
        };
        text.lines().map(entry).collect()
    }

    #[tokio::test]
    async fn each_plugin_gets_the_result_of_the_one_before_and_only_what_it_declares() {
        let dir = tempfile::tempdir().unwrap();
        let (plugins, list) = (recording(dir.path(), &["one", "two"]), list("1.0.0"));
        let arguments = json!({ "portMappings": [{ "hostPort": 80 }], "other": 1, "ips": [] });
        let chain = Chain {
            plugins: &plugins,
            list: &list,
            arguments: arguments.as_object().unwrap(),
        };
        let ctx = Context::new();
        let (mut added, mut seen) = (Added::default(), Vec::new());
        while chain.add_next(&ctx, AT, &mut added).await.unwrap() {
            seen.extend(added.result.clone());
        }
        let (result, taken) = (added.result.unwrap(), added.taken);
        assert_eq!(seen, [json!({ "by": "one" }), json!({ "by": "two" })]);
        assert_eq!(result, json!({ "by": "two" }));
        assert_eq!(
            taken.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(),
            ["one", "two"]
        );
        let added = log(dir.path());
        assert_eq!(
            added[0].2,
            json!({ "type": "one", "x": 1, "name": "net", "cniVersion": "1.0.0" })
        );
        assert_eq!(added[1].2["prevResult"], json!({ "by": "one" }));
        assert_eq!(
            added[1].2["runtimeConfig"],
            json!({ "portMappings": [{ "hostPort": 80 }] })
        );

        chain.check(&ctx, AT, &result).await.unwrap();
        chain.del(&ctx, AT, Some(&result), None).await.unwrap();
        let rest = log(dir.path());
        let order: Vec<_> = rest
            .iter()
            .map(|(verb, name, _)| format!("{verb} {name}"))
            .collect();
        assert_eq!(order, ["CHECK one", "CHECK two", "DEL two", "DEL one"]);
        assert!(
            rest.iter()
                .all(|(.., told)| told["prevResult"] == json!({ "by": "two" }))
        );
    }

    #[tokio::test]
    async fn before_0_4_there_is_no_check_and_del_is_told_no_result() {
        let dir = tempfile::tempdir().unwrap();
        let (plugins, list) = (recording(dir.path(), &["one", "two"]), list("0.3.1"));
        let arguments = Map::new();
        let chain = Chain {
            plugins: &plugins,
            list: &list,
            arguments: &arguments,
        };
        let ctx = Context::new();
        chain.check(&ctx, AT, &json!({})).await.unwrap();
        chain.del(&ctx, AT, Some(&json!({})), None).await.unwrap();
        let all = log(dir.path());
        assert_eq!(all.len(), 2);
        assert!(
            all.iter()
                .all(|(verb, _, told)| verb == "DEL" && told.get("prevResult").is_none())
        );
    }

    #[tokio::test]
    async fn an_add_ends_at_the_first_failure_and_a_del_goes_on_past_it() {
        let dir = tempfile::tempdir().unwrap();
        let (plugins, list) = (recording(dir.path(), &["one", "two"]), list("1.0.0"));
        let arguments = Map::new();
        let chain = Chain {
            plugins: &plugins,
            list: &list,
            arguments: &arguments,
        };
        fs::write(dir.path().join("fail-ADD-one"), "").unwrap();
        fs::write(dir.path().join("fail-DEL-two"), "").unwrap();
        let ctx = Context::new();
        let failed = chain.add_next(&ctx, AT, &mut Added::default()).await.unwrap_err();
        assert!(
            failed.to_string().ends_with("failed to ADD: one fails"),
            "{failed}"
        );
        assert_eq!(log(dir.path()).len(), 1);
        let failed = chain.del(&ctx, AT, None, None).await.unwrap_err();
        assert!(
            failed.to_string().ends_with("failed to DEL: two fails"),
            "{failed}"
        );
        assert_eq!(log(dir.path()).len(), 2);
    }
}
