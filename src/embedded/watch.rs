//! The watch on a private containerd, for as long as somebody shares it: one that dies is started again, because its containers
//! have survived and their ends would never be learned; and its log is held within bounds.

use std::time::Duration;

use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use super::process::{self, Process};
use super::{Error, Home, answers, log};
use crate::Context;

/// How often it is looked whether containerd answers. Its end is noticed at once.
const LOOK: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to start it again.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The watch; dropping it ends it.
#[derive(Debug)]
pub(super) struct Watch {
    ctx: Context,
    tracker: TaskTracker,
    _end: DropGuard,
}

impl Watch {
    /// Begins on the containerd of `home`, which the caller shares until the watch has ended.
    pub(super) fn start(home: &Home) -> Self {
        let (ctx, tracker) = (Context::new(), TaskTracker::new());
        tracker.spawn(watch(ctx.clone(), home.clone()));
        Self {
            _end: ctx.cancel_on_drop(),
            ctx,
            tracker,
        }
    }

    /// Ends it, and waits until it starts nothing any more.
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
    let _starting = super::Lock::exclusive(ctx, &home.start_lock()).await?;
    super::ensure(ctx, home, &programs).await
}

/// The process to watch. One that cannot be seen here is asked for answers alone.
fn find(home: &Home) -> Option<Process> {
    process::find(&home.config()).unwrap_or_else(|error| {
        tracing::debug!(error = %crate::chain(&error), "containerd's end will be noticed late");
        None
    })
}
