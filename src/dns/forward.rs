//! Passes a question on to the host's resolvers, one after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Where servers listen.
const PORT: u16 = 53;
/// How many of the servers are asked: libc asks no more either (`MAXNS`, resolv.conf(5)).
const SERVERS: usize = 3;
/// How long one server may take. All of them must fit into the five seconds after which libc asks again.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The longest message over UDP that is taken.
const LONGEST: usize = u16::MAX as usize;

/// How a question came, and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tcp,
}

/// The first reply of a server that knows what it says; else the last one; `None` if none gives any.
pub(super) async fn ask(question: &[u8], servers: &[IpAddr], over: Over) -> Option<Vec<u8>> {
    let mut last = None;
    for server in servers.iter().take(SERVERS) {
        let at = SocketAddr::new(*server, PORT);
        let asked = async {
            match over {
                Over::Udp => over_udp(question, at).await,
                Over::Tcp => over_tcp(question, at).await,
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(reply)) if has_given_up(&reply) => last = Some(reply),
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver of the host cannot be asked"),
            Err(_) => tracing::debug!(%server, "a resolver of the host does not answer"),
        }
    }
    last
}

/// Whether another server may know more: the reply is SERVFAIL or REFUSED (RFC 1035, 4.1.1).
fn has_given_up(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|flags| [2, 5].contains(&(flags & 0x0f)))
}

async fn over_udp(question: &[u8], at: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port that nobody can guess for each question, and answers from that server alone.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(at).await?;
    socket.send(question).await?;
    let mut reply = vec![0; LONGEST];
    loop {
        let read = socket.recv(&mut reply).await?;
        if is_reply(question, reply.get(..read).unwrap_or_default()) {
            reply.truncate(read);
            return Ok(reply);
        }
    }
}

async fn over_tcp(question: &[u8], at: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    match is_reply(question, &reply) {
        true => Ok(reply),
        false => Err(io::Error::other("the reply is one to another question")),
    }
}

/// Whether a message has the id of the question, and says that it is a reply.
fn is_reply(question: &[u8], reply: &[u8]) -> bool {
    let id = question.first_chunk::<2>();
    id.is_some() && id == reply.first_chunk::<2>() && reply.get(2).is_some_and(|flags| flags & 0x80 != 0)
}
