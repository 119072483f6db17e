//! Tests of the streams on an attachment that is none of an engine's.

use futures_util::stream;
use tokio::io::DuplexStream;

use super::*;
use crate::docker_driver::daemon::{Failed, Frame};
use crate::driver::Task;

fn attached(frames: Vec<Result<Frame, Failed>>) -> (Attached, DuplexStream) {
    let (input, far) = tokio::io::duplex(1 << 20);
    let attached = Attached {
        output: Box::pin(stream::iter(frames)),
        input: Box::pin(input),
    };
    (attached, far)
}

async fn streams(task: Task) -> Streams {
    let task: Arc<dyn ContainerTask> = Arc::new(task);
    Streams::of(&task, &Context::new()).await.unwrap()
}

/// Fails at the first byte.
struct Full;

impl AsyncWrite for Full {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::task::Poll::Ready(Err(io::Error::from(io::ErrorKind::StorageFull)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn each_stream_goes_where_it_belongs() {
    let (out, stdout) = Output::capture(100);
    let (err, stderr) = Output::capture(100);
    let streams = streams(Task {
        input: Input::from_bytes("in").into(),
        stdout: out.into(),
        stderr: err.into(),
        ..Task::default()
    })
    .await;
    let all = Wants {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    assert_eq!(streams.wants(), all);
    let (input, mut far) = tokio::io::duplex(100);
    let output = stream::once(async move {
        // The function answers when its input has ended.
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "in");
        stream::iter([
            Ok(Frame::of(false, "o1")),
            Ok(Frame::of(true, "e1")),
            Ok(Frame::of(false, "o2")),
        ])
    });
    let attached = Attached {
        output: Box::pin(output.flatten()),
        input: Box::pin(input),
    };
    assert!(streams.carry(attached, Context::new()).await.is_none());
    assert_eq!((stdout.text().as_str(), stderr.text().as_str()), ("o1o2", "e1"));
}

#[tokio::test]
async fn a_writer_that_fails_leaves_the_other_stream_complete() {
    let (err, stderr) = Output::capture(100);
    let streams = streams(Task {
        stdout: Output::to_writer(Full).into(),
        stderr: err.into(),
        ..Task::default()
    })
    .await;
    let frames = vec![
        Ok(Frame::of(false, "o")),
        Ok(Frame::of(true, "e")),
        Ok(Frame::of(false, "o")),
    ];
    let (attached, _far) = attached(frames);
    let failed = streams.carry(attached, Context::new()).await.unwrap();
    assert_eq!(failed.stream(), Some(StandardStream::Output));
    assert_eq!(failed.io_error().kind(), io::ErrorKind::StorageFull);
    assert_eq!(stderr.text(), "e");
}

#[tokio::test]
async fn output_that_breaks_off_is_an_error_of_no_stream() {
    let (out, stdout) = Output::capture(100);
    let streams = streams(Task {
        stdout: out.into(),
        ..Task::default()
    })
    .await;
    let broken = Failed::refused("read the output of container", 500, "gone");
    let (attached, _far) = attached(vec![Ok(Frame::of(false, "o")), Err(broken)]);
    let failed = streams.carry(attached, Context::new()).await.unwrap();
    assert_eq!(failed.stream(), None);
    assert_eq!(stdout.text(), "o");
}

#[tokio::test(start_paused = true)]
async fn without_output_the_streams_end_with_the_container_and_with_output_not_much_later() {
    let only_input = streams(Task {
        input: Input::from_reader(tokio::io::duplex(1).0).into(),
        ..Task::default()
    })
    .await;
    let ended = Context::new();
    ended.cancel();
    let (silent, _far) = attached(Vec::new());
    assert!(only_input.carry(silent, ended.clone()).await.is_none());

    let streams = streams(Task {
        stdout: Output::capture(1).0.into(),
        ..Task::default()
    })
    .await;
    let never = Attached {
        output: Box::pin(stream::pending()),
        input: Box::pin(tokio::io::duplex(1).0),
    };
    let failed = streams.carry(never, ended).await.unwrap();
    assert_eq!(failed.io_error().kind(), io::ErrorKind::TimedOut);
}
