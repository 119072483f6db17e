//! What goes in and what comes out.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Poller, Poll, ready};
use std::time::Duration;

use fnctr::driver::{Captured, Input, Output, RunError, Stat, Status, Task, metric};
use tokio::io::AsyncWrite;
use tokio::time::Sleep;

use super::Verdict;
use super::world::{Need, World, close, ctx, need, recorded, script, started};

/// Runs a task to its success.
async fn assert_succeeds(world: &Arc<dyn World>, task: Task) {
    let (cookie, wait) = started(world, task).await;
    let result = wait.wait(&ctx()).await;
    close(cookie).await;
    assert_eq!(result.status(), Status::Success, "{result:?}");
}

/// What the script `megabyte` writes.
fn megabyte() -> Vec<u8> {
    let mut text: Vec<u8> = (1..=200_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect();
    text.truncate(1 << 20);
    text
}

/// Compares without printing a megabyte.
#[track_caller]
fn assert_same(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "bytes");
    let wrong = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "first wrong byte");
}

pub(super) async fn stdin_is_passed_on_and_ends(world: Arc<dyn World>) -> Verdict {
    for bytes in [Vec::new(), b"hello\n".to_vec(), megabyte()] {
        let (task, stdout, stderr) = recorded(&world, "/bin/cat");
        let task = Task {
            input: Input::from_bytes(bytes.clone()).into(),
            ..task
        };
        assert_succeeds(&world, task).await;
        assert_same(&stdout.bytes(), &bytes);
        assert_eq!(stderr.text(), "");
    }
    Ok(())
}

pub(super) async fn without_stdin_a_function_reads_the_end(world: Arc<dyn World>) -> Verdict {
    let (task, stdout, _) = recorded(&world, "/bin/cat");
    assert_succeeds(&world, task).await;
    assert_eq!(stdout.text(), "");
    Ok(())
}

pub(super) async fn the_two_outputs_stay_apart(world: Arc<dyn World>) -> Verdict {
    let (task, stdout, stderr) = recorded(&world, &script("both"));
    assert_succeeds(&world, task).await;
    assert_eq!(
        (stdout.text().as_str(), stderr.text().as_str()),
        ("out\n", "err\n")
    );
    Ok(())
}

pub(super) async fn null_streams_are_fine(world: Arc<dyn World>) -> Verdict {
    assert_succeeds(&world, world.task(&script("both"))).await;
    // One of the two alone.
    let (task, stdout, _) = recorded(&world, &script("both"));
    let task = Task {
        stderr: Output::Null.into(),
        ..task
    };
    assert_succeeds(&world, task).await;
    assert_eq!(stdout.text(), "out\n");
    Ok(())
}

pub(super) async fn a_megabyte_arrives_intact(world: Arc<dyn World>) -> Verdict {
    let (task, stdout, _) = recorded(&world, &script("megabyte"));
    assert_succeeds(&world, task).await;
    assert_same(&stdout.bytes(), &megabyte());
    Ok(())
}

/// Takes little at a time, and takes its time.
struct Slow {
    kept: Captured,
    pause: Pin<Box<Sleep>>,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.pause.as_mut().poll(cx));
        self.pause = Box::pin(tokio::time::sleep(Duration::from_millis(2)));
        let few = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
        Pin::new(&mut self.kept).poll_write(cx, few)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(super) async fn all_output_is_delivered_before_the_result(world: Arc<dyn World>) -> Verdict {
    let (_, kept) = Output::capture(2 << 20);
    let slow = Slow {
        kept: kept.clone(),
        pause: Box::pin(tokio::time::sleep(Duration::ZERO)),
    };
    let task = Task {
        stdout: Output::to_writer(slow).into(),
        ..world.task(&script("megabyte"))
    };
    let (cookie, wait) = started(&world, task).await;
    let result = wait.wait(&ctx()).await;
    let delivered = kept.bytes();
    close(cookie).await;
    assert_eq!(result.status(), Status::Success, "{result:?}");
    assert_same(&delivered, &megabyte());
    Ok(())
}

/// Has no room for anything.
struct Full;

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Poller<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::from(io::ErrorKind::StorageFull)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(super) async fn a_writer_that_fails_is_an_error(world: Arc<dyn World>) -> Verdict {
    let (task, _, stderr) = recorded(&world, &script("both"));
    let task = Task {
        stdout: Output::to_writer(Full).into(),
        ..task
    };
    let (cookie, wait) = started(&world, task).await;
    let result = wait.wait(&ctx()).await;
    close(cookie).await;
    assert_eq!(result.status(), Status::Error, "{result:?}");
    assert!(matches!(result.error(), Some(RunError::Streams(_))), "{result:?}");
    // The function itself did not notice, and the other stream is complete.
    assert_eq!((result.exit_code(), stderr.text().as_str()), (Some(0), "err\n"));
    Ok(())
}

pub(super) async fn the_environment_arrives(world: Arc<dyn World>) -> Verdict {
    let (task, stdout, _) = recorded(&world, &script("env"));
    let value = "two words, an = and a \"quote\"";
    let task = Task {
        env_vars: BTreeMap::from([("FNCTR_PROBE".to_owned(), value.to_owned())]),
        ..task
    };
    assert_succeeds(&world, task).await;
    assert_eq!(stdout.text(), format!("{value}\n"));
    Ok(())
}

pub(super) async fn measurements_arrive(world: Arc<dyn World>) -> Verdict {
    need(&world, Need::Measurements)?;
    let seen: Arc<Mutex<Vec<Stat>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let task = Task {
        stats: Some(Arc::new(move |stat| sink.lock().expect("a lock").push(stat))),
        ..world.task("/bin/sleep 3")
    };
    assert_succeeds(&world, task).await;
    let seen = seen.lock().expect("a lock").clone();
    assert!(seen.len() >= 2, "{} measurements in three seconds", seen.len());
    assert!(seen.is_sorted_by_key(|stat| stat.timestamp), "{seen:?}");
    for stat in &seen {
        for name in [metric::MEM_LIMIT, metric::MEM_USAGE, metric::CPU_TOTAL] {
            assert!(stat.metrics.contains_key(name), "{name} is not in {stat:?}");
        }
        assert_eq!(stat.metrics.get(metric::MEM_LIMIT), Some(&(64 << 20)), "{stat:?}");
    }
    Ok(())
}
