//! Answers the questions of one container for as long as its sockets are open.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::{Answer, answer, failed};
use super::forward::{Over, ask};
use super::names::Names;
use super::tcp;

/// How many questions of a container may be on their way at once. Those beyond are dropped, as by a full socket, and asked
/// again by their clients.
const QUESTIONS: usize = 64;
/// How many connections of a container there may be at once.
const CONNECTIONS: usize = 16;
/// How many questions of all containers may be on their way at once: each takes a socket.
static PLACES: Semaphore = Semaphore::const_new(256);
/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest question over UDP that is taken.
const LONGEST: usize = 4096;
/// The longest reply to a client that does not say what it takes (RFC 1035, 2.3.4).
const SHORT: usize = 512;

/// Answers until the future is dropped. Both sockets are non-blocking.
///
/// # Errors
/// If the sockets cannot be used at all.
///
/// # Cancellation
/// Safe to drop: questions on their way get no reply.
pub(crate) async fn serve(
    udp: StdUdpSocket,
    tcp: StdTcpListener,
    names: Arc<dyn Names>,
) -> io::Result<std::convert::Infallible> {
    let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
    let mut questions = FuturesUnordered::new();
    let mut connections = FuturesUnordered::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        tokio::select! {
            Some(()) = questions.next() => {}
            Some(()) = connections.next() => {}
            came = udp.recv_from(&mut buffer) => {
                let Some((read, from)) = came_in(came).await else { continue };
                let question = buffer.get(..read).unwrap_or_default();
                match answer(question, names.as_ref(), SHORT) {
                    // A client that has gone away needs no reply.
                    Answer::Reply(reply) => drop(udp.send_to(&reply, from).await),
                    Answer::PassOn if questions.len() < QUESTIONS => {
                        questions.push(pass_on(&udp, question.to_vec(), from, Arc::clone(&names)));
                    }
                    Answer::PassOn | Answer::Nothing => {}
                }
            }
            came = tcp.accept(), if connections.len() < CONNECTIONS => {
                if let Some((stream, _)) = came_in(came).await {
                    connections.push(converse(stream, Arc::clone(&names)));
                }
            }
        }
    }
}

/// What has come in. An error is that of an earlier packet or of one connection, or one that passes, as when the process has too
/// many files open.
async fn came_in<T>(came: io::Result<T>) -> Option<T> {
    match came {
        Ok(came) => Some(came),
        Err(error) => {
            let is_of_one = [
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::ConnectionReset,
                io::ErrorKind::ConnectionAborted,
            ];
            if !is_of_one.contains(&error.kind()) {
                tracing::debug!(%error, "a resolver waits");
                tokio::time::sleep(PAUSE).await;
            }
            None
        }
    }
}

async fn pass_on(udp: &UdpSocket, question: Vec<u8>, from: SocketAddr, names: Arc<dyn Names>) {
    // Never closed.
    let _place = PLACES.acquire().await;
    let reply = ask(&question, &names.servers(), Over::Udp).await;
    if let Some(reply) = reply.or_else(|| failed(&question)) {
        drop(udp.send_to(&reply, from).await);
    }
}

async fn converse(stream: TcpStream, names: Arc<dyn Names>) {
    if let Err(error) = tcp::converse(stream, names.as_ref()).await {
        tracing::debug!(%error, "a container has ended a conversation with its resolver");
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[derive(Debug)]
    struct One;

    impl Names for One {
        fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
            (name == "web").then(|| vec![[10, 0, 0, 2].into()])
        }

        fn name_of(&self, _: IpAddr) -> Option<String> {
            None
        }

        fn leads_on(&self) -> bool {
            true
        }

        fn servers(&self) -> Vec<IpAddr> {
            // Where no server listens: what is passed on fails.
            vec![[127, 0, 0, 99].into()]
        }
    }

    fn question(id: u16, name: &str) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_utf8(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
    }

    #[tokio::test]
    async fn both_ways_of_asking_are_answered_beside_a_flood_and_idle_connections() {
        let udp = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let (at, stream_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let asks = async {
            // All of them open, and one of them used.
            let mut idle = Vec::new();
            for _ in 1..CONNECTIONS {
                idle.push(TcpStream::connect(stream_at).await.unwrap());
            }
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect(at).await.unwrap();
            for id in 0..500 {
                client.send(&question(id, "example.org.")).await.unwrap();
            }
            let mut buffer = [0; 512];
            let mut answered = None;
            while answered.is_none() {
                client.send(&question(1000, "web.")).await.unwrap();
                let reply = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut buffer));
                let Ok(Ok(read)) = reply.await else { continue };
                let reply = Message::from_vec(buffer.get(..read).unwrap()).unwrap();
                answered = (reply.metadata.id == 1000).then_some(reply);
            }
            assert_eq!(answered.unwrap().answers.len(), 1);
            let mut stream = TcpStream::connect(stream_at).await.unwrap();
            for id in [1, 2] {
                let asked = question(id, "web.");
                stream
                    .write_u16(u16::try_from(asked.len()).unwrap())
                    .await
                    .unwrap();
                stream.write_all(&asked).await.unwrap();
                let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut reply).await.unwrap();
                assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, id);
            }
        };
        tokio::select! {
            served = serve(udp, tcp, Arc::new(One)) => panic!("{served:?}"),
            () = asks => {}
        }
    }
}
