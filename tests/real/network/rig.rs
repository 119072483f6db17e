//! A bridge network for one test, and everything that one could leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fnctr::driver::{Captured, Config, Cookie, Driver as _, Error, Output, Task, WaitResult};
use fnctr::{ContainerOptions, ContainerdDriver, Network, PortMapping, Settings};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::host::said;
use super::subnet::Subnet;
use crate::patience::patient;
use crate::world::{Stage, connect_with, ctx};

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// What every test here stands on.
pub(crate) struct Net {
    pub(crate) stage: Stage,
    /// The network's name, and its bridge's.
    pub(crate) name: String,
    /// The first three numbers of its addresses.
    pub(crate) prefix: String,
    /// More bridges, of networks that a test has added.
    bridges: Vec<String>,
    /// Whose addresses are ours until the end.
    subnets: Vec<Subnet>,
    before: BTreeSet<String>,
}

impl Net {
    /// Sets everything up; `None` if this host cannot (it has been said loudly).
    pub(crate) async fn set(test: &str) -> Option<Self> {
        Self::with(test, 24, |_| {}).await
    }

    /// The same with a network of another size, and a driver of another configuration.
    pub(crate) async fn with(test: &str, bits: u32, change: impl FnOnce(&mut Config)) -> Option<Self> {
        assert!(
            Path::new(PLUGINS).join("bridge").exists() || std::env::var_os("FNCTR_REQUIRE_REAL").is_none(),
            "{test} needs the package containernetworking-plugins"
        );
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ft{}-{number}", std::process::id() % 100_000);
        let subnet = Subnet::take();
        let prefix = subnet.prefix();
        let listed = name.clone();
        let stage = Stage::with(test, |config| {
            config.docker_networks = listed;
            change(config);
        })
        .await?;
        let net = Self {
            before: BTreeSet::new(),
            name,
            prefix,
            bridges: Vec::new(),
            subnets: vec![subnet],
            stage,
        };
        net.configure(
            &net.name,
            &net.list(&net.name, &format!("{}.0/{bits}", net.prefix)),
        );
        Some(Self {
            before: net.world(),
            ..net
        })
    }

    /// A network as `fnctr network create` would configure it.
    pub(crate) fn list(&self, name: &str, subnet: &str) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": name,
                    "isGateway": true,
                    "ipMasq": true,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.dir("addresses"),
                        "ranges": [[{ "subnet": subnet }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "firewall" },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        })
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.stage.real.dir().join(name)
    }

    pub(crate) fn configure(&self, name: &str, list: &Value) {
        fs::create_dir_all(self.dir("net.d")).expect("a directory");
        fs::write(
            self.dir("net.d").join(format!("{name}.conflist")),
            list.to_string(),
        )
        .expect("a file");
    }

    /// Another network beside the first: its name, and the first three numbers of its addresses.
    pub(crate) fn add(&mut self, suffix: &str) -> (String, String) {
        let name = format!("{}{suffix}", self.name);
        let subnet = Subnet::take();
        let prefix = subnet.prefix();
        let list = self.list(&name, &format!("{prefix}.0/24"));
        self.configure(&name, &list);
        self.bridges.push(name.clone());
        self.subnets.push(subnet);
        (name, prefix)
    }

    /// A task that wants a network.
    pub(crate) fn task(&self, command: &str) -> Task {
        Task {
            disable_net: false,
            ..self.stage.task(command)
        }
    }

    pub(crate) async fn another(
        &self,
        change: impl FnOnce(&mut Config, &mut Settings),
    ) -> Result<ContainerdDriver, Error> {
        let mut config = crate::world::config(&self.stage.real);
        config.docker_networks.clone_from(&self.name);
        let config = std::cell::RefCell::new(config);
        connect_with(
            &self.stage.real,
            |settings| change(&mut config.borrow_mut(), settings),
            || config.borrow().clone(),
        )
        .await
    }

    /// A container that runs this script.
    pub(crate) async fn runs(&self, script: &str) -> Running {
        let task = self.task("");
        run(&self.stage.driver, task, script, |_| {})
            .await
            .expect("a container")
    }

    /// A container on another network, by its options.
    pub(crate) async fn joins(&self, network: Network, script: &str) -> Result<Running, Error> {
        let task = self.task("");
        run(&self.stage.driver, task, script, |options| {
            options.network = network
        })
        .await
    }

    /// What a script says that runs to its end.
    pub(crate) async fn says(&self, script: &str) -> String {
        self.runs(script).await.ends().await
    }

    /// Everything of this test's networks: links, rules, addresses, journal, pins.
    pub(crate) fn world(&self) -> BTreeSet<String> {
        let mut world = BTreeSet::new();
        let mut add = |kind: &str, what: &str| {
            world.insert(format!("{kind} {what}"));
        };
        let ours = |line: &str| line.contains(&self.name) || line.contains(&format!("{}.", self.prefix));
        for rules in ["iptables-save", "ip6tables-save"] {
            for line in said(rules, &[]).lines().filter(|line| ours(line)) {
                // Counters move.
                add(rules, line.split(" [").next().unwrap_or_default());
            }
        }
        // The bridges stay for the next container; what hangs on them does not.
        for line in said("ip", &["-o", "link", "show", "type", "veth"])
            .lines()
            .filter(|line| ours(line))
        {
            add("veth", line);
        }
        for dir in ["addresses", "sandboxes", "run/netns"] {
            files(&self.dir(dir), &mut |path| {
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                // host-local's own notes; the locks of processes that live.
                let note = name == "lock"
                    || name.starts_with("last_reserved_ip")
                    || path.parent().is_some_and(|dir| dir.ends_with("owners"));
                if !note {
                    add(dir, &name);
                }
            });
        }
        world
    }

    /// The addresses that are taken.
    pub(crate) fn addresses(&self) -> BTreeSet<String> {
        self.addresses_on(&self.name)
    }

    /// The addresses that are taken on a network.
    pub(crate) fn addresses_on(&self, network: &str) -> BTreeSet<String> {
        let dir = self.dir("addresses").join(network);
        let mut taken = BTreeSet::new();
        files(&dir, &mut |path| {
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && name.parse::<IpAddr>().is_ok()
            {
                taken.insert(name.to_owned());
            }
        });
        taken
    }

    /// Everything is as it was before, at once or soon.
    pub(crate) async fn settles(&self) {
        let until = Instant::now() + patient(Duration::from_secs(60));
        loop {
            let now = self.world();
            if now == self.before {
                return;
            }
            let (left, gone): (Vec<_>, Vec<_>) = (
                now.difference(&self.before).collect(),
                self.before.difference(&now).collect(),
            );
            assert!(Instant::now() < until, "left behind: {left:#?}\ngone: {gone:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Nothing is left, the driver ends, and so does containerd.
    pub(crate) async fn strike(self) {
        self.pack().await.strike().await;
    }

    /// Nothing of networks is left. containerd itself forgets the shim of a container in whose making it is given up, which is
    /// no network's fault.
    pub(crate) async fn strike_networks(self) {
        let stage = self.pack().await;
        stage.driver.close(&ctx()).await.expect("the driver to close");
    }

    async fn pack(self) -> Stage {
        self.settles().await;
        for bridge in self.bridges.iter().chain([&self.name]) {
            drop(said("ip", &["link", "del", bridge]));
        }
        // What stays for the next container: directories, host-local's own notes.
        for dir in ["addresses", "net.d", "run/netns", "fifos", "sandboxes"] {
            drop(fs::remove_dir_all(self.dir(dir)));
        }
        self.stage
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn files(dir: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, each)
        } else {
            each(&path)
        }
    }
}

/// A container that was started.
pub(crate) struct Running {
    pub(crate) cookie: Box<dyn Cookie>,
    pub(crate) wait: Box<dyn WaitResult>,
    pub(crate) said: Captured,
    pub(crate) id: String,
}

impl Running {
    /// Its address, once it has said it.
    pub(crate) async fn address(&self) -> IpAddr {
        let said = self.line("address ").await;
        said.parse().expect("an address")
    }

    /// What follows a word at the beginning of a line, once it has said that.
    pub(crate) async fn line(&self, word: &str) -> String {
        let until = Instant::now() + patient(Duration::from_secs(120));
        loop {
            let text = self.said.text();
            let mut lines = text.lines();
            // A line that is not whole yet could be half an address.
            let whole = text.ends_with('\n');
            if let Some(rest) = lines.find_map(|line| line.strip_prefix(word)).filter(|_| whole) {
                return rest.trim().to_owned();
            }
            assert!(
                Instant::now() < until,
                "{} did not say {word:?}: {text:?}",
                self.id
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for its end, removes it, and tells what it said.
    pub(crate) async fn ends(self) -> String {
        let result = self.wait.wait(&ctx()).await;
        self.cookie.close(&ctx()).await.expect("to close");
        let said = self.said.text();
        assert_eq!(result.exit_code(), Some(0), "{}: {result:?}: {said}", self.id);
        said
    }

    pub(crate) async fn close(self) {
        self.cookie.close(&ctx()).await.expect("to close");
    }
}

/// Runs a script in a container whose options were changed.
pub(crate) async fn run(
    driver: &ContainerdDriver,
    task: Task,
    script: &str,
    change: impl FnOnce(&mut ContainerOptions),
) -> Result<Running, Error> {
    let (output, captured) = Output::capture(1 << 20);
    let id = task.id.clone();
    let task = Task {
        stdout: output.into(),
        ..task
    };
    let cookie = driver.create_cookie(&ctx(), Arc::new(task)).await?;
    let mut change = Some(change);
    cookie.change_options(|options: &mut ContainerOptions| {
        options.config.command = Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        if let Some(change) = change.take() {
            change(options);
        }
    })?;
    assert!(!cookie.validate_image(&ctx()).await?);
    let started = async {
        cookie.create_container(&ctx()).await?;
        cookie.run(&ctx()).await
    };
    match started.await {
        Ok(wait) => Ok(Running {
            cookie,
            wait,
            said: captured,
            id,
        }),
        Err(error) => {
            cookie.close(&ctx()).await.expect("to close");
            Err(error)
        }
    }
}

/// Says its address, and serves `/etc` on port 8080.
pub(crate) const SERVER: &str =
    "echo address $(ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'); httpd -f -p 8080 -h /etc";

/// Only names with ports can be published.
pub(crate) fn attached(network: &str, ports: &[&str]) -> Network {
    let ports = ports
        .iter()
        .map(|port| port.parse::<PortMapping>().expect("a port"))
        .collect();
    Network::Attached {
        networks: vec![network.to_owned()],
        ports,
        pooled: false,
    }
}
