//! Watches a private containerd as long as this process shares it. A containerd that dies is started again, because its
//! containers have survived and their exits would not be noticed otherwise. The watch also limits the size of its log.

use std::time::Duration;

use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use super::process::{self, Process};
use super::{Error, Home, answers, log};
use crate::Context;

/// How often it is checked whether containerd answers. The end of its process is noticed at once.
const LOOK: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to start containerd again.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub(super) struct Watch {
    ctx: Context,
    tracker: TaskTracker,
    _end: DropGuard,
}

impl Watch {
    /// Starts to watch the containerd of `home`. The caller keeps its share until the watch has ended.
    pub(super) fn start(home: &Home) -> Self {
        let (ctx, tracker) = (Context::new(), TaskTracker::new());
        tracker.spawn(watch(ctx.clone(), home.clone()));
        Self {
            _end: ctx.cancel_on_drop(),
            ctx,
            tracker,
        }
    }

    /// Ends the watch, and waits until it cannot start a containerd any more.
    pub(super) async fn stop(self) {
        self.ctx.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn watch(ctx: Context, home: Home) {
    let mut containerd = find(&home);
    let mut pause = LOOK;
    loop {
        let ended = async {
            match &containerd {
                Some(process) => process.end().await,
                None => std::future::pending().await,
            }
        };
        match ctx.run(tokio::time::timeout(pause, ended)).await {
            Err(_) => return,
            Ok(Err(_)) => {}
            Ok(Ok(())) => containerd = None,
        }
        log::trim(&home.log());
        if answers(&home.socket()).await {
            pause = LOOK;
            continue;
        }
        match restart(&ctx, &home).await {
            Ok(()) => {
                tracing::warn!(socket = %home.socket().display(), "containerd died and was started again");
                (containerd, pause) = (find(&home), LOOK);
            }
            Err(Error::Interrupted { .. }) => {}
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "containerd died and cannot be started again");
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

async fn restart(ctx: &Context, home: &Home) -> Result<(), Error> {
    let programs = super::launch::Programs::find()?;
    let _starting = super::lock::exclusive(ctx, &home.start_lock()).await?;
    super::ensure(ctx, home, &programs).await
}

/// The process to watch. `None` if this process cannot see it; then the watch only checks whether containerd answers.
fn find(home: &Home) -> Option<Process> {
    process::find(&home.config()).unwrap_or_else(|error| {
        tracing::debug!(error = %crate::chain(&error), "cannot watch containerd; its end will be noticed late");
        None
    })
}
