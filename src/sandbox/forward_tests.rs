//! Tests of the rules as text, and with packets. One network namespace, with a firewall of its own, stands for the
//! host, and another one for a machine beside it. The real host's tables are never touched.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use super::super::{NetworkRequest, NetworkSettings, NewNetwork, Sandbox, Sandboxes, firewalls, netns};
use super::*;
use crate::Context;

const PLUGINS: &str = "/usr/lib/cni";

fn passage(config: Value) -> Option<Passage> {
    Passage::of(&List::parse(config).unwrap())
}

fn ours(subnets: &[&str]) -> Value {
    let ranges: Vec<_> = subnets
        .iter()
        .map(|subnet| json!([{ "subnet": subnet }]))
        .collect();
    json!({
        "cniVersion": "1.0.0", "name": "blue", "fnctr": "0", "plugins": [
            { "type": "bridge", "bridge": "fn-blue", "ipam": { "type": "host-local", "ranges": ranges } },
        ],
    })
}

#[test]
fn only_networks_of_fnctrs_own_have_a_passage_in_each_family_that_they_have() {
    let both = passage(ours(&["10.143.0.0/16", "fd00:1::/64"])).unwrap();
    assert_eq!(both.families().collect::<Vec<_>>(), Family::ALL);
    assert_eq!(
        both.rules(Family::V4),
        [
            "-A FNCTR-fn-blue -o fn-blue -m conntrack --ctstate DNAT --ctorigdst 127.0.0.0/8 -j DROP",
            "-A FNCTR-fn-blue -d 10.143.0.0/16 -o fn-blue -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
            "-A FNCTR-fn-blue -s 10.143.0.0/16 -i fn-blue -j ACCEPT",
        ]
    );
    assert_eq!(
        both.rules(Family::V6),
        [
            "-A FNCTR-fn-blue -d fd00:1::/64 -o fn-blue -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
            "-A FNCTR-fn-blue -s fd00:1::/64 -i fn-blue -j ACCEPT",
        ]
    );
    let mut theirs = ours(&["10.143.0.0/16"]);
    theirs.as_object_mut().unwrap().remove("fnctr");
    assert_eq!(passage(theirs), None);
    assert_eq!(passage(ours(&[])), None);
    let mut strange = ours(&["10.143.0.0/16"]);
    strange["plugins"][0]["bridge"] = json!("x\n-A FORWARD -j ACCEPT");
    assert_eq!(passage(strange), None);
}

#[test]
fn what_is_missing_is_made_what_is_there_stays_and_what_is_too_much_goes() {
    let passage = passage(ours(&["10.143.0.0/16"])).unwrap();
    let rules = passage.rules(Family::V4).join("\n");
    let jump = "-A FORWARD -m comment --comment \"fnctr network blue\" -j FNCTR-fn-blue";
    let table = |forward: &str, rules: &str| {
        format!(
            "*filter\n:FORWARD DROP [0:0]\n:CNI-FORWARD - [0:0]\n:FNCTR-fn-blue - [0:0]\n{forward}\n{rules}\nCOMMIT\n"
        )
    };
    let plugins = "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD";
    let whole = table(&format!("{plugins}\n{jump}\n-A FORWARD -j REJECT"), &rules);
    assert_eq!(passage.opening(&whole, Family::V4), None);
    let insert = |at: usize| {
        format!(
            "-I {}\n",
            jump.trim_start_matches("-A ")
                .replace("FORWARD -m", &format!("FORWARD {at} -m"))
        )
    };
    let made = |saved: &str| passage.opening(saved, Family::V4).unwrap();
    // On a host with an empty table.
    assert_eq!(
        made(""),
        format!("*filter\n:FNCTR-fn-blue - [0:0]\n{rules}\n{}COMMIT\n", insert(1))
    );
    // After the plugin's rule, wherever it is.
    let after = table(
        &format!("-A FORWARD -i x -j DROP\n{plugins}\n-A FORWARD -j REJECT"),
        "",
    );
    assert!(
        made(&after).ends_with(&format!("{rules}\n{}COMMIT\n", insert(3))),
        "{}",
        made(&after)
    );
    // A flushed chain, a jump that exists twice, and a jump before the plugin's.
    assert!(made(&table(&format!("{plugins}\n{jump}"), "")).contains(&rules));
    let delete = jump.replacen("-A", "-D", 1);
    let twice = made(&table(&format!("{plugins}\n{jump}\n{jump}"), &rules));
    assert_eq!(twice.matches(&delete).count(), 2, "{twice}");
    assert!(twice.ends_with(&format!("{}COMMIT\n", insert(2))), "{twice}");
    let before = made(&table(&format!("{jump}\n{plugins}"), &rules));
    assert!(
        before.ends_with(&format!("{delete}\n{}COMMIT\n", insert(2))),
        "{before}"
    );

    assert_eq!(passage.closing("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"), None);
    assert_eq!(
        passage.closing(&whole).unwrap(),
        format!("*filter\n{delete}\n-F FNCTR-fn-blue\n-X FNCTR-fn-blue\nCOMMIT\n")
    );
}

/// A simulated host: a thread's network and mount namespaces, with one kind of iptables.
struct Host {
    dir: tempfile::TempDir,
    sandboxes: Sandboxes,
    neighbour: PathBuf,
}

/// The host's address on the wire to its neighbour, and the neighbour's.
const WIRE: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

fn run(program: &str, args: &[&str]) -> String {
    let done = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs `work` on a simulated host, if the real one has everything that it needs.
fn on_a_host(kind: &'static str, work: impl AsyncFnOnce(&Host) + Send + 'static) {
    let has = |path: &str| Path::new(path).exists();
    let iptables = format!("/usr/sbin/xtables-{kind}-multi");
    if !nix::unistd::geteuid().is_root() || !has(&format!("{PLUGINS}/portmap")) || !has(&iptables) {
        assert!(
            std::env::var_os("FNCTR_REQUIRE_REAL").is_none(),
            "it needs root, containernetworking-plugins and iptables"
        );
        return;
    }
    let host = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        // /sys shows the network namespace in which it was mounted.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
        // Replaces the other kind, so that /usr/sbin/iptables is of this kind in any case.
        for other in ["nft", "legacy"] {
            let other = format!("/usr/sbin/xtables-{other}-multi");
            if other != iptables && Path::new(&other).exists() {
                mount(
                    Some(iptables.as_str()),
                    other.as_str(),
                    none,
                    MsFlags::MS_BIND,
                    none,
                )
                .unwrap();
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let host = Host::new(kind);
            work(&host).await;
            host.leaves_nothing();
        });
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Host {
    fn new(kind: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let settings = NetworkSettings {
            config_dirs: vec![at("net.d")],
            plugin_dirs: vec![PLUGINS.into()],
            state_dir: at("sandboxes"),
            address_dir: at("addresses"),
            plugin_patience: Duration::from_secs(120),
        };
        let version = run("iptables", &["--version"]);
        assert!(
            version.contains(if kind == "nft" { "nf_tables" } else { "legacy" }),
            "{version}"
        );
        run("ip", &["link", "set", "lo", "up"]);
        let neighbour = at("neighbour");
        netns::create(&neighbour).unwrap();
        run(
            "ip",
            &["link", "add", "wire0", "type", "veth", "peer", "name", "wire1"],
        );
        run("ip", &["addr", "add", &format!("{}/24", WIRE[0]), "dev", "wire0"]);
        run("ip", &["link", "set", "wire0", "up"]);
        // `ip` identifies a namespace by a process or a name, so a process is kept in the namespace meanwhile.
        let net = format!("--net={}", neighbour.display());
        let mut there = Command::new("nsenter")
            .args([net.as_str(), "sleep", "1000"])
            .spawn()
            .unwrap();
        let pid = there.id().to_string();
        until(|| {
            let own = fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            own != fs::read_link("/proc/thread-self/ns/net").ok()
        });
        run("ip", &["link", "set", "wire1", "netns", &pid]);
        there.kill().unwrap();
        there.wait().unwrap();
        let inside = |args: &[&str]| run("nsenter", &[&[net.as_str(), "ip"][..], args].concat());
        inside(&["addr", "add", &format!("{}/24", WIRE[1]), "dev", "wire1"]);
        inside(&["link", "set", "wire1", "up"]);
        run("iptables", &["-P", "FORWARD", "DROP"]);
        let sandboxes = Sandboxes::open(&settings, &at("run"), "scope", "t1").unwrap();
        let network = sandboxes.networks().create(&NewNetwork {
            name: "blue".into(),
            subnet: Some("10.20.0.0/24".into()),
            bridge: Some("fn-blue".into()),
            ..NewNetwork::default()
        });
        network.unwrap();
        Self {
            dir,
            sandboxes,
            neighbour,
        }
    }

    /// Attaches a container to the network, with these ports published.
    async fn attaches(&self, ports: &[&str]) -> Sandbox {
        self.tries(ports).await.unwrap()
    }

    async fn tries(&self, ports: &[&str]) -> Result<Sandbox, super::super::Error> {
        self.joins("blue", ports).await
    }

    async fn joins(&self, network: &str, ports: &[&str]) -> Result<Sandbox, super::super::Error> {
        let wanted = NetworkRequest {
            networks: vec![network.into()],
            ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
        };
        let reserved = self.sandboxes.reserve(&wanted)?;
        let id = reserved.id().to_owned();
        let made = self.sandboxes.attach(&Context::new(), reserved, Some("c1")).await;
        if made.is_err() {
            self.sandboxes.remove(&Context::new(), &id).await.unwrap();
        }
        made
    }

    async fn removes(&self, sandbox: Sandbox) {
        self.sandboxes.remove(&Context::new(), &sandbox.id).await.unwrap();
    }

    fn firewall(&self) -> firewalls::Firewalls {
        firewalls::firewalls(&self.dir.path().join("sandboxes"))
            .unwrap()
            .unwrap()
    }

    fn leaves_nothing(&self) {
        self.sandboxes.remove_network("blue").unwrap();
        let saved = run("iptables-save", &[]);
        let left: Vec<_> = saved
            .lines()
            .filter(|line| {
                ["FNCTR", "fn-blue", "10.20.0."]
                    .iter()
                    .any(|ours| line.contains(ours))
            })
            .collect();
        assert!(left.is_empty(), "{left:#?}");
        assert!(!Path::new("/sys/class/net/fn-blue").exists());
        netns::remove(&self.neighbour).unwrap();
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not come to be so within a minute");
}

/// Runs something in a network namespace.
fn inside<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let namespace = File::open(namespace).unwrap();
    std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// The addresses to bind, best first: both families, or only IPv4 on a host without IPv6.
const ALL: &[SocketAddr] = &[
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80),
];

/// Starts a TCP and a UDP server in a container's namespace, which answer every caller with `word` until this process
/// ends.
fn serves(sandbox: &Sandbox, word: &'static str) {
    let (listening, listens) = mpsc::channel();
    let udp_too = listening.clone();
    drop(inside(&sandbox.path, move || {
        let listener = TcpListener::bind(ALL).unwrap();
        listening.send(()).unwrap();
        for mut caller in listener.incoming().flatten() {
            drop(caller.write_all(word.as_bytes()));
        }
    }));
    drop(inside(&sandbox.path, move || {
        let socket = UdpSocket::bind(ALL).unwrap();
        udp_too.send(()).unwrap();
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(word.as_bytes(), from));
        }
    }));
    listens.recv().unwrap();
    listens.recv().unwrap();
}

/// How long a client waits that may get no answer at all.
const SOON: Duration = Duration::from_millis(1500);
const LATER: Duration = Duration::from_secs(60);

fn over_tcp(namespace: &Path, to: &str, patience: Duration) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let asks = move || {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    inside(namespace, asks).join().unwrap()
}

/// Sends from this port, which a stale entry of the connection tracking would match.
fn over_udp(namespace: &Path, from: u16, to: &str, patience: Duration) -> io::Result<String> {
    let to = to.to_owned();
    let asks = move || {
        let socket = UdpSocket::bind(("0.0.0.0", from))?;
        socket.set_read_timeout(Some(patience))?;
        socket.connect(&to)?;
        socket.send(b"?")?;
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    inside(namespace, asks).join().unwrap()
}

fn published_ports_are_reached_where_forward_drops(kind: &'static str) {
    on_a_host(kind, async |host: &Host| {
        let first = host.attaches(&["18095:80", "18095:80/udp"]).await;
        serves(&first, "one");
        let at = format!("{}:18095", WIRE[0]);
        let neighbour = host.neighbour.as_path();
        assert_eq!(over_tcp(neighbour, &at, LATER).unwrap(), "one");
        assert_eq!(over_udp(neighbour, 5000, &at, LATER).unwrap(), "one");
        assert_eq!(
            host.firewall(),
            firewalls::Firewalls {
                drops: true,
                ..Default::default()
            }
        );
        // The container reaches the neighbour, and itself through the host.
        let listens = inside(neighbour, || {
            let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
            move || listener.accept().unwrap().0.write_all(b"there")
        });
        let answers = std::thread::spawn(listens.join().unwrap());
        assert_eq!(
            over_tcp(&first.path, &format!("{}:7000", WIRE[1]), LATER).unwrap(),
            "there"
        );
        answers.join().unwrap().unwrap();
        assert_eq!(over_tcp(&first.path, &at, LATER).unwrap(), "one");
        // A port that is not published cannot be reached.
        let unpublished = format!("{}:80", first.addresses[0].ip);
        run(
            "nsenter",
            &[
                format!("--net={}", neighbour.display()).as_str(),
                "ip",
                "route",
                "add",
                "10.20.0.0/24",
                "via",
                WIRE[0],
            ],
        );
        assert!(over_tcp(neighbour, &unpublished, SOON).is_err());

        // A flush removes the rules; the next attachment restores them for all containers.
        run("iptables", &["-F"]);
        assert!(over_tcp(neighbour, &at, SOON).is_err());
        assert_eq!(host.firewall().shut, ["blue"]);
        let second = host.attaches(&["18096:80"]).await;
        assert!(host.firewall().shut.is_empty());
        assert_eq!(over_tcp(neighbour, &at, LATER).unwrap(), "one");
        let third = host.attaches(&[]).await;
        let jumps = run("iptables", &["-S", "FORWARD"]);
        assert_eq!(jumps.matches("-j FNCTR-fn-blue").count(), 1, "{jumps}");
        let position = |word: &str| jumps.find(word).unwrap();
        assert!(
            position("-j CNI-FORWARD") < position("-j FNCTR-fn-blue"),
            "{jumps}"
        );
        // A rule of the administrator decides first.
        run(
            "iptables",
            &["-A", "CNI-ADMIN", "-s", WIRE[1], "-p", "tcp", "-j", "DROP"],
        );
        assert!(over_tcp(neighbour, &at, SOON).is_err());
        run("iptables", &["-F", "CNI-ADMIN"]);

        // The next owner of the port answers, also to callers that reached the previous owner.
        host.removes(first).await;
        let next = host.attaches(&["18095:80/udp"]).await;
        serves(&next, "two");
        assert_eq!(over_udp(neighbour, 5000, &at, LATER).unwrap(), "two");
        for sandbox in [second, third, next] {
            host.removes(sandbox).await;
        }
    });
}

#[test]
fn published_ports_are_reached_where_the_forward_chain_of_nf_tables_drops() {
    published_ports_are_reached_where_forward_drops("nft");
}

#[test]
fn published_ports_are_reached_where_the_legacy_forward_chain_drops() {
    published_ports_are_reached_where_forward_drops("legacy");
}

#[test]
fn a_network_of_both_families_is_reached_by_both() {
    if !Path::new("/proc/net/if_inet6").exists() {
        return;
    }
    on_a_host("nft", async |host: &Host| {
        run("ip6tables", &["-P", "FORWARD", "DROP"]);
        let net = format!("--net={}", host.neighbour.display());
        let address = |last: &str| format!("2001:db8::{last}/64");
        run("ip", &["addr", "add", &address("1"), "dev", "wire0", "nodad"]);
        run(
            "nsenter",
            &[&net, "ip", "addr", "add", &address("2"), "dev", "wire1", "nodad"],
        );
        let config = json!({
            "cniVersion": "1.0.0", "name": "green", "fnctr": "0", "plugins": [
                {
                    "type": "bridge", "bridge": "fn-green", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": host.dir.path().join("addresses"),
                        "ranges": [[{ "subnet": "10.20.1.0/24" }], [{ "subnet": "fd00:20::/64" }]],
                        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                    },
                },
                { "type": "firewall" },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        fs::write(host.dir.path().join("net.d/green.conflist"), config.to_string()).unwrap();
        let sandbox = host
            .joins("green", &["18101:80", "[2001:db8::1]:18102:80"])
            .await
            .unwrap();
        serves(&sandbox, "both");
        for at in ["192.0.2.1:18101", "[2001:db8::1]:18101", "[2001:db8::1]:18102"] {
            assert_eq!(over_tcp(&host.neighbour, at, LATER).unwrap(), "both", "{at}");
        }
        assert!(over_tcp(&host.neighbour, "192.0.2.1:18102", SOON).is_err());
        run("ip6tables", &["-F"]);
        assert_eq!(host.firewall().shut, ["green"]);
        let again = host.joins("green", &[]).await.unwrap();
        assert!(host.firewall().shut.is_empty());
        assert_eq!(
            over_tcp(&host.neighbour, "[2001:db8::1]:18101", LATER).unwrap(),
            "both"
        );
        host.removes(sandbox).await;
        host.removes(again).await;
        host.sandboxes.remove_network("green").unwrap();
        let saved = run("ip6tables-save", &[]);
        assert!(!saved.contains("FNCTR") && !saved.contains("fd00:20:"), "{saved}");
    });
}

#[test]
fn a_port_of_the_loopback_is_not_reached_from_the_wire() {
    on_a_host("nft", async |host: &Host| {
        // Most hosts forward everything.
        run("iptables", &["-P", "FORWARD", "ACCEPT"]);
        let sandbox = host.attaches(&["127.0.0.1:18097:80"]).await;
        serves(&sandbox, "mine");
        assert_eq!(
            over_tcp(Path::new("/proc/thread-self/ns/net"), "127.0.0.1:18097", LATER).unwrap(),
            "mine"
        );
        // The neighbour sends packets for 127.0.0.1 over the wire, which its kernel does not do by default.
        let net = format!("--net={}", host.neighbour.display());
        for command in [
            "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet",
            "ip addr del 127.0.0.1/8 dev lo",
            "ip route add 127.0.0.0/8 via 192.0.2.1 dev wire1",
        ] {
            run("nsenter", &[net.as_str(), "sh", "-c", command]);
        }
        assert!(over_tcp(&host.neighbour, "127.0.0.1:18097", SOON).is_err());
        // The rule stops these packets: without the rule they arrive.
        run("iptables", &["-F", "FNCTR-fn-blue"]);
        assert_eq!(
            over_tcp(&host.neighbour, "127.0.0.1:18097", LATER).unwrap(),
            "mine"
        );
        host.removes(sandbox).await;
    });
}

#[test]
fn a_port_that_another_engine_publishes_by_a_rule_alone_is_taken() {
    on_a_host("nft", async |host: &Host| {
        let theirs = [
            "-p",
            "tcp",
            "--dport",
            "18098",
            "-j",
            "DNAT",
            "--to-destination",
            "10.4.0.2:80",
        ];
        run(
            "iptables",
            &[&["-t", "nat", "-A", "PREROUTING"][..], &theirs].concat(),
        );
        let refused = host.tries(&["18098:80"]).await.unwrap_err();
        assert!(refused.is_conflict());
        let said = refused.to_string();
        assert!(
            said.starts_with("port 18098:80/tcp cannot be published: a rule of the firewall (-A PREROUTING")
                && said.ends_with("has it"),
            "{said}"
        );
        let free = host.attaches(&["18098:80/udp", "18099:80"]).await;
        host.removes(free).await;
    });
}

#[test]
fn packets_are_no_longer_than_the_way_out_takes() {
    on_a_host("nft", async |host: &Host| {
        let mtu = |sandbox: &Sandbox| {
            inside(&sandbox.path, || run("ip", &["-o", "link", "show", "eth0"]))
                .join()
                .unwrap()
        };
        // There is no route out of the host.
        let first = host.attaches(&[]).await;
        assert!(mtu(&first).contains(" mtu 1500 "), "{}", mtu(&first));
        run("ip", &["route", "add", "default", "via", WIRE[1]]);
        run("ip", &["link", "set", "wire0", "mtu", "1420"]);
        let second = host.attaches(&[]).await;
        assert!(mtu(&second).contains(" mtu 1420 "), "{}", mtu(&second));
        // A route may have a shorter MTU than its interface.
        run(
            "ip",
            &["route", "replace", "default", "via", WIRE[1], "mtu", "1280"],
        );
        let third = host.attaches(&[]).await;
        assert!(mtu(&third).contains(" mtu 1280 "), "{}", mtu(&third));
        for sandbox in [first, second, third] {
            host.removes(sandbox).await;
        }
    });
}

#[test]
fn a_new_network_takes_nothing_that_a_vpn_routes_in_a_table_of_its_own() {
    on_a_host("nft", async |host: &Host| {
        for route in ["10.143.0.0/16", "0.0.0.0/1", "128.0.0.0/1"] {
            run("ip", &["route", "add", route, "via", WIRE[1], "table", "52"]);
        }
        let new = |name: &str, subnet: Option<&str>| NewNetwork {
            name: name.into(),
            subnet: subnet.map(str::to_owned),
            ..NewNetwork::default()
        };
        let green = host.sandboxes.networks().create(&new("green", None)).unwrap();
        assert_eq!(green.subnets, ["10.144.0.0/16"]);
        let taken = host
            .sandboxes
            .networks()
            .create(&new("red", Some("10.143.7.0/24")));
        assert!(taken.unwrap_err().to_string().contains("this host uses it"));
        host.sandboxes.remove_network("green").unwrap();
    });
}
