//! Taking memory back from one container: after a delay while it is frozen, or at once.

use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::run::Run;
use crate::Context;
use crate::cgroup::{Reclaimed, Reclaimer, State};

impl Run {
    /// The container was frozen; starts the delay after which its memory is taken back.
    pub(super) fn idle_begins(&self) {
        if let (Some(reclaims), Some(idle)) = (&self.deps().reclaims, self.idle()) {
            reclaims.begins(idle);
        }
    }

    /// The container is thawed or removed; no more memory is taken back.
    pub(super) fn idle_ends(&self) {
        if let Some(idle) = self.idle() {
            idle.ends();
        }
    }

    /// The memory that the delay has taken back in the life of this run; `None` if no delay is configured.
    pub(crate) fn reclaimed(&self) -> Option<Reclaimed> {
        self.idle().map(|idle| idle.reclaimed())
    }

    /// Whether [`Self::reclaim`] can do anything on this host.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] names what is missing.
    pub(crate) fn can_reclaim(&self) -> Result<()> {
        self.reclaimer().map(drop)
    }

    /// Takes all memory back that the frozen container can do without, at once.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if the kernel cannot do it; [`Kind::OutOfOrder`] for a container that is not frozen,
    /// because it would fetch the memory again at once.
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
