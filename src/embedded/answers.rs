//! Whether a gRPC server answers on a socket, without speaking gRPC.
//!
//! An accepted connection proves nothing, because the kernel accepts connections even for a process that is stopped or
//! stuck. So the HTTP/2 greeting is sent, and the server's own greeting, a SETTINGS frame, must come back.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// RFC 9113, 3.4: the client's preface, then its (empty) SETTINGS frame.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The type of a SETTINGS frame, RFC 9113, 6.5.
const SETTINGS: u8 = 4;

/// A running server greets at once; this limit is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether an HTTP/2 server, as every gRPC server is, answers on the Unix socket.
///
/// # Cancellation
/// Safe to drop.
pub async fn answers(socket: &Path) -> bool {
    tokio::time::timeout(PATIENCE, greet(socket))
        .await
        .is_ok_and(|greeted| greeted.unwrap_or(false))
}

async fn greet(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(GREETING).await?;
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let [_, _, _, kind, ..] = header;
    Ok(kind == SETTINGS)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_accepts_but_says_nothing_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _deaf = UnixListener::bind(&socket).unwrap();
        assert!(!answers(&socket).await);
    }

    #[tokio::test]
    async fn an_http2_server_answers_and_a_missing_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(!answers(&socket).await);
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async { axum::serve(listener, axum::Router::new()).await };
        tokio::select! {
            _ = serve => unreachable!("the server ended"),
            yes = answers(&socket) => assert!(yes),
        }
    }
}
