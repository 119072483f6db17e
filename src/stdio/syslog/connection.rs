//! One connection to a syslog endpoint. Never retries: see [`super::delivery`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

use rustix::io::Errno;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream, lookup_host};

use super::endpoint::{Endpoint, Server};

/// A connection, and how many bytes of the next message it has taken. A new connection starts with the whole message.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    begun: usize,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixStream),
    Unixgram(UnixDatagram),
}

/// The result of sending some messages.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many messages are finished. They are removed from the batch.
    pub(super) done: usize,
    /// How many messages are known not to have arrived, of these or earlier ones.
    pub(super) lost: u64,
}

impl Connection {
    /// Connects. If the endpoint takes datagrams on another host, success does not mean that it exists.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let socket = match endpoint {
            Endpoint::Udp(server) => Socket::Udp(udp(server).await?),
            Endpoint::Tcp(Server { host, port }) => {
                Socket::Tcp(TcpStream::connect((host.as_str(), *port)).await?)
            }
            Endpoint::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            Endpoint::Unixgram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Socket::Unixgram(socket)
            }
        };
        Ok(Self { socket, begun: 0 })
    }

    /// Whether the endpoint has hung up. Checked before each send: the first send after a hang-up still succeeds, and
    /// its message would be lost without notice.
    pub(super) fn is_gone(&self) -> bool {
        let stream = match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Udp(_) | Socket::Unixgram(_) => return false,
        };
        let mut ignored = [0; 64];
        loop {
            // Reads from the kernel and not through the reactor, which may not have noticed yet. All sockets here are
            // non-blocking.
            match rustix::io::read(stream, &mut ignored) {
                Ok(0) => return true,
                // A syslog server is not expected to send anything; what it sends is ignored.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return error != Errno::AGAIN,
            }
        }
    }

    /// Sends some of the messages, or at least a part of the first.
    ///
    /// # Cancellation
    /// Not safe to drop if the connection is to be used again.
    pub(super) async fn send(&mut self, batch: &mut VecDeque<Vec<u8>>) -> io::Result<Progress> {
        match &mut self.socket {
            Socket::Tcp(stream) => write(stream, &mut self.begun, batch).await,
            Socket::Unix(stream) => write(stream, &mut self.begun, batch).await,
            Socket::Udp(socket) => {
                let Some(message) = batch.front() else {
                    return Ok(Progress::default());
                };
                match socket.send(message).await {
                    // The error is about an earlier datagram, which found no receiver; this one was not sent.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        Ok(Progress { done: 0, lost: 1 })
                    }
                    sent => datagram(sent, batch),
                }
            }
            Socket::Unixgram(socket) => {
                let Some(message) = batch.front() else {
                    return Ok(Progress::default());
                };
                datagram(socket.send(message).await, batch)
            }
        }
    }
}

async fn udp(server: &Server) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in lookup_host((server.host.as_str(), server.port)).await? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connecting = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await.map(|()| socket)
        };
        match connecting.await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn datagram(sent: io::Result<usize>, batch: &mut VecDeque<Vec<u8>>) -> io::Result<Progress> {
    let lost = match sent {
        Ok(_) => 0,
        // Too long for this kind of socket, so a retry cannot succeed.
        Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => 1,
        Err(error) => return Err(error),
    };
    batch.pop_front();
    Ok(Progress { done: 1, lost })
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    begun: &mut usize,
    batch: &mut VecDeque<Vec<u8>>,
) -> io::Result<Progress> {
    let mut slices: Vec<_> = batch.iter().map(|message| IoSlice::new(message)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, *begun);
    let written = stream.write_vectored(rest).await?;
    if written == 0 {
        return Err(ErrorKind::WriteZero.into());
    }
    *begun += written;
    let mut done = 0;
    while let Some(first) = batch.front()
        && *begun >= first.len()
    {
        *begun -= first.len();
        batch.pop_front();
        done += 1;
    }
    Ok(Progress { done, lost: 0 })
}
