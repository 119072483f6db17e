//! What is known of the health of a container's run.

use std::time::Duration;

use super::served::Served;
use crate::engine::health::{Health, HealthCheck, HealthStatus, Probe};
use crate::engine::run::Run;

impl Served {
    /// What is known of the health of its last run; `None` if it is not checked.
    pub(crate) fn health(&self) -> Option<Health> {
        let run = self.container().run();
        let plan = self.plan().ok()?;
        plan.health.as_ref().filter(|check| !check.command.is_empty())?;
        match &self.watched().health {
            Some((of, health)) if run.as_ref().is_none_or(|run| run.is(of)) => Some(health.clone()),
            // Its first probe is still to come.
            _ => run
                .filter(|run| run.exit_now().is_none())
                .map(|_| Health::default()),
        }
    }

    /// Notes that a task probes the health of this run; false if one does so already.
    pub(super) fn begins_health(&self, run: &Run) -> bool {
        let mut watched = self.watched();
        if watched.health.as_ref().is_some_and(|(of, _)| run.is(of)) {
            return false;
        }
        watched.health = Some((run.downgrade(), Health::default()));
        true
    }

    /// Adds the result of a probe of this run. Returns the new status, if it is another one than before.
    pub(super) fn note_probe(
        &self,
        run: &Run,
        check: &HealthCheck,
        probe: Probe,
        since_start: Duration,
    ) -> Option<HealthStatus> {
        let mut watched = self.watched();
        let (_, health) = watched.health.as_mut().filter(|(of, _)| run.is(of))?;
        health.note(check, probe, since_start)
    }
}
