//! The sockets of a resolver inside a sandbox.
//!
//! A resolver that listens in the namespace itself can be reached from nowhere else, and no firewall of the host is in its way.
//! It has a port of its own: programs of the container may want port 53 (a name server does). The container's questions to port
//! 53 are sent there by rules in its namespace, which end with the namespace.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use super::blocking::blocking;
use super::family::Family;
use super::{Error, Sandboxes, iptables};

/// Where containers have their resolver: the address that Docker's containers know.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port of the resolver's sockets. Always the same, so that the rules outlive the process that listens; and not one that the
/// kernel gives to programs that ask for any.
const PORT: u16 = 29_053;
/// The chain of the rules.
const CHAIN: &str = "FNCTR-NAMES";

/// The sockets of a resolver. Both are non-blocking.
#[derive(Debug)]
pub(crate) struct NameSockets {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

impl Sandboxes {
    /// Opens the sockets of a resolver in a sandbox, and leads the questions of its container to them. Another process must
    /// not have them open.
    ///
    /// # Errors
    /// [`Error::Netns`], as where iptables is missing.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn name_sockets(&self, id: &str) -> Result<NameSockets, Error> {
        let path = self.pin(id);
        blocking(move || {
            listen(&path).map_err(|source| Error::Netns {
                path,
                what: "given a resolver",
                source,
            })
        })
        .await
    }
}

fn listen(path: &Path) -> io::Result<NameSockets> {
    let namespace = File::open(path)?;
    // Only this thread enters the namespace, and it ends afterwards.
    let thread = std::thread::Builder::new().name("fnctr-names".to_owned());
    let thread = thread.spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        let udp = UdpSocket::bind((RESOLVER, PORT))?;
        let tcp = TcpListener::bind((RESOLVER, PORT))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let jump = format!("-A OUTPUT -d {RESOLVER}/32 -j {CHAIN}");
        let saved = iptables::saved(Family::V4, "nat")?;
        if !saved.lines().any(|line| line == jump) {
            iptables::change(Family::V4, &rules(&jump))?;
        }
        Ok(NameSockets { udp, tcp })
    });
    let made = thread?.join();
    made.unwrap_or_else(|_| Err(io::Error::other("the thread that opens the sockets has panicked")))
}

fn rules(jump: &str) -> String {
    let lead = |protocol: &str| {
        format!("-A {CHAIN} -p {protocol} --dport 53 -j DNAT --to-destination {RESOLVER}:{PORT}\n")
    };
    format!(
        "*nat\n:{CHAIN} - [0:0]\n{}{}{jump}\nCOMMIT\n",
        lead("udp"),
        lead("tcp")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_to_port_53_reach_the_sockets_and_the_rules_are_made_once() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ns");
        super::super::netns::create(&path).unwrap();
        let inside = path.clone();
        let rules = std::thread::spawn(move || {
            setns(File::open(&inside).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            // A program that is a name server itself.
            let _own = UdpSocket::bind("0.0.0.0:53").unwrap();
            drop(listen(&inside).unwrap());
            let sockets = listen(&inside).unwrap();
            sockets.udp.set_nonblocking(false).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect((RESOLVER, 53)).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let (read, from) = sockets.udp.recv_from(&mut buffer).unwrap();
            sockets.udp.send_to(buffer.get(..read).unwrap(), from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), b"question".len());
            iptables::saved(Family::V4, "nat").unwrap()
        });
        let rules = rules.join();
        super::super::netns::remove(&path).unwrap();
        let rules = rules.unwrap();
        let count = |text: &str| rules.lines().filter(|line| line.contains(text)).count();
        assert_eq!((count("-A OUTPUT"), count("--dport 53")), (1, 2), "{rules}");
    }
}
