//! Notices that a directory changes, for all readers of its files in this process: the kernel grants each user few inotify
//! instances (inotify(7), `max_user_instances`, 128 by default).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// The watch of one directory.
#[derive(Debug)]
pub(crate) struct Changes {
    inotify: AsyncFd<OwnedFd>,
    /// Open, so that no later directory has its inode.
    dir: File,
    /// Changes whenever the directory does.
    count: watch::Sender<u64>,
}

impl Changes {
    /// Begins to watch a directory. Must be called on a runtime.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let opened = File::open(dir)?;
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&descriptor, dir, what)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, and only requires that the descriptor is owned, which it is"
        )]
        let inotify = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        Ok(Self {
            inotify,
            dir: opened,
            count: watch::Sender::new(0),
        })
    }

    /// Whether this is the watch of the directory that is there now.
    pub(crate) fn is_of(&self, dir: &Path) -> bool {
        let (ours, there) = (self.dir.metadata(), std::fs::metadata(dir));
        matches!((ours, there), (Ok(ours), Ok(there)) if (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
    }

    /// A view for one reader. Everything from now on is a change to it.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        View {
            seen: self.count.subscribe(),
            changes: Arc::clone(self),
        }
    }

    /// Takes a notification from the kernel, and passes it on to all views.
    ///
    /// # Cancellation
    /// Safe to drop.
    async fn notice(&self) -> io::Result<()> {
        let mut ready = self.inotify.readable().await?;
        // What it says is discarded, because the files themselves are read.
        match rustix::io::read(ready.get_inner(), &mut [0; 4096]) {
            Ok(_) => self.count.send_modify(|count| *count = count.wrapping_add(1)),
            // Another view has taken it.
            Err(Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The changes as one reader sees them.
#[derive(Debug)]
pub(crate) struct View {
    changes: Arc<Changes>,
    seen: watch::Receiver<u64>,
}

impl View {
    /// The reader is about to look at the files: what has changed until now is no change any more.
    pub(crate) fn look(&mut self) {
        self.seen.mark_unchanged();
    }

    /// Waits for a change since the last look.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                // The sender lives as long as this view.
                _ = self.seen.changed() => return Ok(()),
                noticed = self.changes.notice() => noticed?,
            }
        }
    }
}
