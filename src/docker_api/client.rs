//! Whether the client of a connection is still there.

use std::io;
use std::os::fd::AsFd as _;

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::Context;

/// A second descriptor of the socket, which is only watched.
pub(super) fn second(stream: &UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(std::os::unix::net::UnixStream::from(
        stream.as_fd().try_clone_to_owned()?,
    ))
}

/// Cancels `client` when the other side has closed its half of the connection (EPOLLRDHUP).
pub(super) async fn watch(stream: UnixStream, client: Context) {
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            client.cancel();
            return;
        }
        // Nothing is read here; this only waits for the next change.
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(stream.try_io(Interest::READABLE, nothing));
    }
}

/// Returns when the other side has closed the whole connection (EPOLLHUP). One that has closed its half may still read.
pub(super) async fn hung_up(stream: UnixStream) {
    while let Ok(ready) = stream.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(stream.try_io(Interest::WRITABLE, nothing));
    }
}
