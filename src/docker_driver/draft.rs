//! The plan of a container, which a host may change through the container's options until a create uses it.

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::Plan;

/// The plan of a container that does not exist yet.
#[derive(Debug)]
pub(super) struct Draft(Mutex<State>);

#[derive(Debug)]
struct State {
    plan: Plan,
    /// Whether a create uses the plan.
    taken: bool,
}

impl Draft {
    pub(super) fn new(plan: Plan) -> Self {
        Self(Mutex::new(State { plan, taken: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current plan.
    pub(super) fn plan(&self) -> Plan {
        self.state().plan.clone()
    }

    /// The plan for a create. It cannot be changed any more until it is given back.
    pub(super) fn take(&self) -> Plan {
        let mut state = self.state();
        state.taken = true;
        state.plan.clone()
    }

    /// Unlocks the plan after a failed create.
    pub(super) fn give_back(&self) {
        self.state().taken = false;
    }

    /// The options that follow from the plan.
    pub(super) fn options(&self) -> Box<dyn Any + Send> {
        Box::new(self.state().plan.options.clone())
    }

    /// Calls `change` on the options. If they cannot be changed any more, returns `false` without a call.
    pub(super) fn change(&self, change: &mut dyn FnMut(&mut dyn Any)) -> bool {
        let mut state = self.state();
        if state.taken {
            return false;
        }
        change(&mut state.plan.options);
        true
    }
}
