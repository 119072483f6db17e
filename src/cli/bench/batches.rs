//! Works on many containers, a few at a time.

use tokio_util::task::TaskTracker;

use crate::cli::failure::Failure;
use crate::containerd_driver::ContainerdCookie;

/// The number of containers that are started at the same time.
const AT_ONCE: u32 = 4;

/// Does `work` for all cookies, a few at a time, and returns the first failure when all have been worked on.
pub(super) async fn in_batches<F>(
    cookies: &[ContainerdCookie],
    work: impl Fn(ContainerdCookie) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let tracker = TaskTracker::new();
    let mut first = Ok(());
    for batch in cookies.chunks(usize::try_from(AT_ONCE).unwrap_or(1)) {
        let begun: Vec<_> = batch
            .iter()
            .map(|cookie| tracker.spawn(work(cookie.clone())))
            .collect();
        for one in begun {
            let done = one
                .await
                .unwrap_or_else(|panic| Err(Failure::usage(panic.to_string())));
            first = first.and(done);
        }
    }
    first
}
