//! Works on many containers, a few at a time.

use tokio_util::task::TaskTracker;

use crate::cli::failure::Failure;
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{Error, ErrorKind};

/// The number of containers that are worked on at the same time.
const AT_ONCE: usize = 4;

/// Does `work` for all cookies, in batches of [`AT_ONCE`], and returns the first failure when all have been worked on.
pub(super) async fn in_batches<F>(
    cookies: &[ContainerdCookie],
    work: impl Fn(ContainerdCookie) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let tracker = TaskTracker::new();
    let mut first = Ok(());
    for batch in cookies.chunks(AT_ONCE) {
        let begun: Vec<_> = batch
            .iter()
            .map(|cookie| tracker.spawn(work(cookie.clone())))
            .collect();
        for one in begun {
            let done = one
                .await
                .unwrap_or_else(|panic| Err(Error::new(ErrorKind::Internal, panic).into()));
            first = first.and(done);
        }
    }
    first
}
