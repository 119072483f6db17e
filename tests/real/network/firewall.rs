//! A host whose firewall forwards nothing by itself, and a machine beside it: two network namespaces on a wire, so that nobody
//! touches the firewall of this host.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::time::Instant;

use super::host::host_gets;
use super::recovery::fnctr;
use super::rig::Net;
use super::subnet::Subnet;
use crate::patience::patient;

/// A network namespace, for as long as its process lives.
struct Machine(Child);

impl Machine {
    async fn start() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "100000"]).spawn();
        let machine = Self(child.expect("unshare"));
        let until = Instant::now() + patient(Duration::from_secs(60));
        let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
        while fs::read_link(machine.namespace())
            .ok()
            .is_none_or(|its| its == own)
        {
            assert!(Instant::now() < until, "no namespace in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        machine.says("ip", &["link", "set", "lo", "up"]);
        machine
    }

    fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    /// A command, run there. Its file systems are this host's: containerd finds what it makes.
    fn run(&self, command: &Command) -> (bool, String) {
        let done = Command::new("nsenter")
            .arg(format!("--net={}", self.namespace().display()))
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .output()
            .expect("nsenter");
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn says(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new("env");
        command
            .args(["PATH=/usr/sbin:/sbin:/usr/bin:/bin", program])
            .args(args);
        let (succeeded, text) = self.run(&command);
        assert!(succeeded, "{program} {args:?}: {text}");
        text
    }

    /// What somebody there gets from a server.
    async fn gets(&self, at: SocketAddr, path: &'static str) -> std::io::Result<String> {
        let namespace = fs::File::open(self.namespace()).expect("a namespace");
        let asks = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("to enter it");
            // Its threads are born in the namespace of whoever starts them.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(host_gets(at, path))
        };
        let thread = std::thread::spawn(asks);
        tokio::task::spawn_blocking(move || thread.join().expect("a thread"))
            .await
            .expect("a thread")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_is_reached_from_another_machine_where_the_firewall_forwards_nothing() {
    let Some(net) = Net::set("a_published_port_is_reached_from_another_machine").await else {
        return;
    };
    let (host, neighbour) = (Machine::start().await, Machine::start().await);
    let (wire, network) = (Subnet::take(), Subnet::take());
    let pid = neighbour.0.id().to_string();
    host.says(
        "ip",
        &[
            "link", "add", "wire0", "type", "veth", "peer", "name", "wire1", "netns", &pid,
        ],
    );
    for (machine, link, last) in [(&host, "wire0", 1), (&neighbour, "wire1", 2)] {
        let address = format!("{}.{last}/24", wire.prefix());
        machine.says("ip", &["addr", "add", &address, "dev", link]);
        machine.says("ip", &["link", "set", link, "up"]);
    }
    host.says("iptables", &["-P", "FORWARD", "DROP"]);

    let name = format!("{}f", net.name);
    let subnet = format!("{}.0/24", network.prefix());
    let does = |args: &[&str]| host.run(&fnctr(&net, args));
    let (created, text) = does(&["network", "create", &name, "--subnet", &subnet, "--bridge", &name]);
    assert!(created, "{text}");
    let run = [
        "run",
        "--detach",
        "--name",
        "web",
        "--network",
        &name,
        "-p",
        "18095:8080",
    ];
    let (started, text) = does(&[&run[..], &["busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"]].concat());
    assert!(started, "{text}");
    let at = format!("{}.1:18095", wire.prefix()).parse().expect("an address");
    let served = neighbour.gets(at, "/hostname").await.expect("to be served");
    assert_eq!(served.trim(), "web");
    let (_, text) = does(&["doctor"]);
    let line = text.lines().find(|line| line.contains(" firewall "));
    assert!(
        line.is_some_and(|line| line.starts_with("ok") && line.contains("accept what is published")),
        "{text}"
    );
    // A flush takes it away, and doctor sees it.
    host.says("iptables", &["-F"]);
    let (_, text) = does(&["doctor"]);
    let line = text.lines().find(|line| line.contains(" firewall "));
    assert!(
        line.is_some_and(|line| line.starts_with("warn") && line.contains(&name)),
        "{text}"
    );
    let (ran, text) = does(&["run", "--network", &name, "busybox", "true"]);
    assert!(ran, "{text}");
    let served = neighbour.gets(at, "/hostname").await.expect("to be served again");
    assert_eq!(served.trim(), "web");

    let (removed, text) = does(&["network", "rm", &name]);
    let holder = format!("network {name} is in use by container web (namespace ");
    assert!(!removed && text.contains(&holder), "{text}");
    let (removed, text) = does(&["rm", "--force", "web"]);
    assert!(removed, "{text}");
    let (removed, text) = does(&["network", "rm", &name]);
    assert!(removed, "{text}");
    let saved = host.says("iptables-save", &[]);
    let prefix = network.prefix();
    let left: Vec<_> = saved
        .lines()
        .filter(|line| line.contains(&name) || line.contains(&prefix) || line.contains("FNCTR"))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    drop(fs::remove_dir_all(
        std::path::Path::new("/run/fnctr/addresses").join(&name),
    ));
    net.strike().await;
}
