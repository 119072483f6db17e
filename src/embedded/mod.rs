//! A private containerd with its own root, state and socket, which the first process starts and the last one stops.
//!
//! ```text
//! start:  [start.lock]─► share users.lock ─► answers? ──yes──────────────────────────► Embedded
//!                                              └─no─► launch ─► answers within the deadline? ─┘ (else: end it, Err)
//! stop:   [start.lock]─► last holder of users.lock? ──no─► leave it running
//!                                              └─yes─► SIGTERM ─► gone? ─► nobody answers? ─► remove the sockets
//! ```
//!
//! If a process dies without [`Embedded::stop`], its containerd keeps running. The next process that starts shares this
//! containerd, and stops it in the end. Containers outlive containerd because each is held by a shim; the next
//! containerd adopts them.
//!
//! Everything that this module creates is closed to other users, whatever the umask is. containerd itself runs with
//! umask 022, because a stricter one would close the containers' root directories to the users inside of them.
//!
//! Before the shim and the OCI runtime on containerd's `PATH` stands `fnctr-shim` (src/bin/), if it is installed, for quick
//! starts and ends of containers.
//!
//! Inside a container, this module also prepares the cgroup tree for the containers, see `outer_cgroup.rs`. It does not
//! handle containers or images: it only provides the address of a running containerd.

mod answers;
mod config;
mod error;
mod front;
mod home;
mod launch;
mod lock;
mod log;
mod outer_cgroup;
mod private;
mod process;
mod scope;
mod search;
mod watch;

use std::path::PathBuf;

use crate::Context;
use crate::file_lock::FileLock;

pub use answers::answers;
pub use error::Error;
pub use home::Home;
pub(crate) use home::separator_in;
pub(crate) use outer_cgroup::OuterCgroup;
pub(crate) use scope::Scope;
pub(crate) use search::{SearchPath, executable};

use launch::Programs;
use watch::Watch;

/// One process's share in a private containerd.
///
/// While it is held, a containerd that dies is started again, on a task of the runtime in which [`Embedded::start`] was
/// called. So the containers, which have survived, stay supervised and their exits are noticed.
///
/// Dropping it gives up the share and leaves containerd running for the next process that starts.
#[derive(Debug)]
pub struct Embedded {
    home: Home,
    share: FileLock,
    watch: Watch,
}

/// What [`Embedded::stop`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// containerd has ended.
    Ended,
    /// Other processes share containerd, so it keeps running.
    StillShared,
}

impl Embedded {
    /// Shares the containerd of `home`, and starts it if it does not run.
    ///
    /// # Errors
    /// The error names in one sentence what is missing or in the way. Nothing that this call started is left behind.
    ///
    /// # Cancellation
    /// If `ctx` is interrupted, a containerd that this call has just started is ended. If the future is dropped
    /// half-way, containerd keeps running, and the next start shares it.
    pub async fn start(ctx: &Context, home: &Home) -> Result<Self, Error> {
        home.check()?;
        let programs = launch::Programs::find()?;
        // From here on the home has its canonical path, which every other process uses too.
        let home = home.create()?;
        let starting = lock::exclusive(ctx, &home.start_lock()).await?;
        let share = lock::shared(ctx, &home.users_lock()).await?;
        log::trim(&home.log());
        ensure(ctx, &home, &programs).await?;
        drop(starting);
        let watch = Watch::start(&home);
        Ok(Self { home, share, watch })
    }

    /// The home of this containerd, with its canonical path.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The socket on which containerd listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.socket()
    }

    /// The file to which containerd writes its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// Gives up this share, and ends containerd if the share was the last one.
    ///
    /// # Errors
    /// Fails if containerd could not be ended, or if it runs where this process cannot see it.
    ///
    /// # Cancellation
    /// `ctx` bounds the wait for other processes that start or stop containerd; ending containerd has a limit of its
    /// own. If the future is dropped half-way, containerd may keep running, as after a crash.
    pub async fn stop(self, ctx: &Context) -> Result<Stopped, Error> {
        let Self { home, share, watch } = self;
        watch.stop().await;
        let _stopping = lock::exclusive(ctx, &home.start_lock()).await?;
        if !share
            .become_exclusive()
            .map_err(|cause| Error::at(&home.users_lock(), "lock", cause))?
        {
            return Ok(Stopped::StillShared);
        }
        process::settled(&home).await;
        launch::end(&home).await?;
        Ok(Stopped::Ended)
    }
}

/// Starts the containerd of `home` unless it answers. The caller holds the start lock and a share.
async fn ensure(ctx: &Context, home: &Home, programs: &Programs) -> Result<(), Error> {
    if answers(&home.socket()).await {
        return Ok(());
    }
    private::dir(&home.runc_root())?;
    if let Some(outer) = OuterCgroup::of_this_process()
        && let Err(error) = outer.open()
    {
        // Functions run nevertheless, as long as no limits are set for them.
        tracing::warn!(error = %crate::chain(&error), "functions cannot be limited in this container");
    }
    launch::launch(ctx, home, programs).await
}
