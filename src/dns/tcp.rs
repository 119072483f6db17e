//! Questions over TCP, each after its length (RFC 1035, 4.2.2).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answer::{Answer, answer, failed};
use super::forward::{Over, ask};
use super::names::Names;

/// How long a client may take for its next question, and for a reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest reply.
const LONGEST: usize = u16::MAX as usize;

/// Answers the questions of a connection, one after the other, until the client ends it.
///
/// # Errors
/// That of the connection; a client that takes too long.
pub(super) async fn converse(mut stream: TcpStream, names: &dyn Names) -> io::Result<()> {
    loop {
        let question = in_time(read(&mut stream)).await?;
        let Some(question) = question else {
            return Ok(());
        };
        let reply = match answer(&question, names, LONGEST) {
            Answer::Reply(reply) => reply,
            Answer::Nothing => return Ok(()),
            Answer::PassOn => {
                let reply = ask(&question, &names.servers(), Over::Tcp).await;
                match reply.or_else(|| failed(&question)) {
                    Some(reply) => reply,
                    None => return Ok(()),
                }
            }
        };
        in_time(write(&mut stream, &reply)).await?;
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The next question; `None` if there is none any more.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let mut question = vec![0; length.into()];
    stream.read_exact(&mut question).await?;
    Ok(Some(question))
}

async fn write(stream: &mut TcpStream, reply: &[u8]) -> io::Result<()> {
    let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), reply].concat()).await
}
