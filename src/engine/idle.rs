//! The memory of one container: when it begins to idle, and what can be taken back of it at once.

use super::error::{At as _, Error, Kind, Result, Step};
use super::run::Run;
use crate::Context;
use crate::cgroup::{Reclaimed, Reclaimer, State};

impl Run {
    /// It was frozen; from now on it idles.
    pub(super) fn idle_begins(&self) {
        if let (Some(reclaims), Some(idle)) = (&self.deps().reclaims, self.idle()) {
            reclaims.begins(idle);
        }
    }

    /// It is wanted again, or about to go.
    pub(super) fn idle_ends(&self) {
        if let Some(idle) = self.idle() {
            idle.ends();
        }
    }

    /// What came back in its whole life, by the delay; `None` where none is configured.
    pub(crate) fn reclaimed(&self) -> Option<Reclaimed> {
        self.idle().map(|idle| idle.reclaimed())
    }

    /// Whether [`Self::reclaim`] can do anything on this host.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] says what it would take.
    pub(crate) fn can_reclaim(&self) -> Result<()> {
        self.reclaimer().map(drop)
    }

    /// Takes all memory back that the frozen container can do without, now.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the kernel cannot; [`Kind::OutOfOrder`] for a container that is not frozen: what it gave
    /// up it would fetch again at once.
    ///
    /// # Cancellation
    /// Safe to drop: it stops before the next chunk.
    pub(crate) async fn reclaim(&self, ctx: &Context) -> Result<Reclaimed> {
        ctx.check().at(Step::Reclaim, self.id())?;
        let reclaimer = self.reclaimer()?;
        let freezer = self.freezer().clone();
        match freezer.state() {
            Ok(State::Frozen) => {}
            Ok(_) => return Err(self.out_of_order(Step::Reclaim, "it is not frozen")),
            Err(error) => return Err(error).at(Step::Reclaim, self.id()),
        }
        let mine = ctx.child();
        let guard = mine.cancel_on_drop();
        let go_on = move || mine.check().is_ok() && matches!(freezer.state(), Ok(State::Frozen));
        let taken = tokio::task::spawn_blocking(move || reclaimer.run(go_on)).await;
        guard.disarm();
        taken
            .map_err(|panic| Error::new(Step::Reclaim, self.id(), Kind::Internal, panic))?
            .at(Step::Reclaim, self.id())
    }

    fn reclaimer(&self) -> Result<Reclaimer> {
        let unknown = || {
            Error::new(
                Step::Reclaim,
                self.id(),
                Kind::Unsupported,
                "its cgroups could not be found",
            )
        };
        Reclaimer::of(self.paths().ok_or_else(unknown)?).at(Step::Reclaim, self.id())
    }
}
