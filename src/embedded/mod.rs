//! A private containerd: its own root, state and socket, started when the first process needs it and stopped by the last.
//!
//! ```text
//! start:  [start.lock]─► share users.lock ─► answers? ──yes──────────────────────────► Embedded
//!                                              └─no─► launch ─► answers within the deadline? ─┘ (else: end it, Err)
//! stop:   [start.lock]─► last holder of users.lock? ──no─► leave it running
//!                                              └─yes─► SIGTERM ─► gone? ─► nobody answers? ─► remove the sockets
//! ```
//!
//! A process that dies without [`Embedded::stop`] leaves containerd running; the next start shares it and its stop ends
//! it. Containers outlive containerd by containerd's own design (their shims do), and the next start adopts them.
//! Everything that it makes is closed to other users, whatever the umask is; containerd itself gets 022, because a
//! stricter one would close the containers' root directories to their users.
//! In a container it also makes room for its own cgroups, see `nest.rs`. This module never talks about containers or
//! images: it hands out an address.

mod answers;
mod config;
mod error;
mod home;
mod launch;
mod lock;
mod log;
mod nest;
mod private;
mod process;
mod scope;
mod search;
mod watch;

use std::path::PathBuf;

use crate::Context;

pub use answers::answers;
pub use error::Error;
pub use home::Home;
pub(crate) use home::separator_in;
pub(crate) use nest::Nest;
pub(crate) use scope::Scope;
pub(crate) use search::{SearchPath, executable};

use launch::Programs;
use lock::Lock;
use watch::Watch;

/// One process's share in a private containerd.
///
/// While it is held, a containerd that dies is started again, on a task of the runtime that [`Embedded::start`] was called in,
/// so the containers, which have survived, are still looked after and their ends are learned.
///
/// Dropping it gives the share up and leaves containerd running, for whoever comes next.
#[derive(Debug)]
pub struct Embedded {
    home: Home,
    share: Lock,
    watch: Watch,
}

/// What [`Embedded::stop`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// containerd has ended.
    Ended,
    /// Other processes share it, so it goes on.
    StillShared,
}

impl Embedded {
    /// Shares the containerd of `home`, and starts it if it does not run.
    ///
    /// # Errors
    /// What is missing or in the way, in one sentence; nothing that this call started is left behind.
    ///
    /// # Cancellation
    /// Interrupting `ctx` ends a containerd that this call has just started. A future that is dropped half-way leaves it
    /// running, which the next start shares.
    pub async fn start(ctx: &Context, home: &Home) -> Result<Self, Error> {
        home.check()?;
        let programs = launch::Programs::find()?;
        // From here on by its real name, which every other process uses too.
        let home = home.create()?;
        let starting = Lock::exclusive(ctx, &home.start_lock()).await?;
        let share = Lock::shared(ctx, &home.users_lock()).await?;
        log::trim(&home.log());
        ensure(ctx, &home, &programs).await?;
        drop(starting);
        let watch = Watch::start(&home);
        Ok(Self { home, share, watch })
    }

    /// Where it lives, by its real name.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Where containerd listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.socket()
    }

    /// Where containerd writes what it has to say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// Gives this share up, and ends containerd if it was the last.
    ///
    /// # Errors
    /// containerd could not be ended, or it runs where this process cannot see it.
    ///
    /// # Cancellation
    /// `ctx` bounds the wait for other processes that start or stop it; ending it has its own limit. If the future is
    /// dropped half-way, containerd may go on, as after a crash.
    pub async fn stop(self, ctx: &Context) -> Result<Stopped, Error> {
        let Self { home, share, watch } = self;
        watch.stop().await;
        let _stopping = Lock::exclusive(ctx, &home.start_lock()).await?;
        if !share.become_exclusive()? {
            return Ok(Stopped::StillShared);
        }
        process::settled(&home).await;
        launch::end(&home).await?;
        Ok(Stopped::Ended)
    }
}

/// Starts the containerd of `home` unless it answers. The caller holds the lock for starting, and a share.
async fn ensure(ctx: &Context, home: &Home, programs: &Programs) -> Result<(), Error> {
    if answers(&home.socket()).await {
        return Ok(());
    }
    private::dir(&home.runc_root())?;
    if let Some(nest) = Nest::of_this_process()
        && let Err(error) = nest.open()
    {
        // Functions run all the same, as long as they are not limited.
        tracing::warn!(error = %crate::chain(&error), "functions cannot be limited in this container");
    }
    launch::launch(ctx, home, programs).await
}
