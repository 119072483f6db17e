//! The host's own streams: a reader or writer that panics fails like any other, and the function sees the end of its
//! input.

use std::io;
use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::host::{self, HostError};

/// A stream of the host, whose panics become errors. After a panic it is not polled again.
pub(crate) struct Guarded<S> {
    code: &'static str,
    stream: Result<S, HostError>,
}

impl<S: Unpin> Guarded<S> {
    /// Guards `stream`, which errors call `code`.
    pub(crate) fn new(code: &'static str, stream: S) -> Self {
        Self {
            code,
            stream: Ok(stream),
        }
    }

    fn poll<T>(&mut self, poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stream = match &mut self.stream {
            Ok(stream) => stream,
            Err(broken) => return Poll::Ready(Err(io::Error::other(broken.clone()))),
        };
        match host::caught(self.code, || poll(Pin::new(stream))) {
            Ok(polled) => polled,
            Err(broken) => {
                let stream = std::mem::replace(&mut self.stream, Err(broken.clone()));
                // The stream has panicked once, so dropping it may panic too.
                drop(host::caught(self.code, || drop(stream)));
                Poll::Ready(Err(io::Error::other(broken)))
            }
        }
    }
}

impl<S> Drop for Guarded<S> {
    /// A stream that panics when it is dropped ends nobody but itself.
    fn drop(&mut self) {
        let code = self.code;
        let stream = std::mem::replace(&mut self.stream, Err(HostError::NotRun { code }));
        drop(host::caught(code, || drop(stream)));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll(|stream| stream.poll_read(poller, into))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, poller: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll(|stream| stream.poll_write(poller, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(|stream| stream.poll_flush(poller))
    }

    fn poll_shutdown(self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(|stream| stream.poll_shutdown(poller))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A stream that panics whenever it is polled.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Poller<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            panic!("no more tape")
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Poller<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            panic!("no more paper")
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
            panic!("no more paper")
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
            panic!("no more paper")
        }
    }

    #[test]
    fn a_stream_that_panics_when_it_is_dropped_ends_nobody_else() {
        struct Brittle;
        impl Drop for Brittle {
            fn drop(&mut self) {
                panic!("it breaks");
            }
        }
        drop(Guarded::new("the standard output", Brittle));
    }

    #[tokio::test]
    async fn a_stream_that_panics_fails_and_is_not_asked_again() {
        let mut reader = Guarded::new("the standard input", Broken);
        let expected = "the standard input of the host panicked: no more tape";
        for _ in 0..2 {
            let error = reader.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(reader.stream.is_err());
        }
        let mut writer = Guarded::new("the standard output", Broken);
        let expected = "the standard output of the host panicked: no more paper";
        let errors = [
            writer.write_all(b"x").await.unwrap_err(),
            writer.flush().await.unwrap_err(),
            writer.shutdown().await.unwrap_err(),
        ];
        assert!(
            errors.iter().all(|error| error.to_string() == expected),
            "{errors:?}"
        );
    }
}
