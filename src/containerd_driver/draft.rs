//! The plan of a container, which a host may change through the container's options until a create uses it.

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::options::ContainerOptions;
use crate::ContainerName;
use crate::engine::{Custody, LogPlan, Plan, RestartPolicy, VolumeUse, label};

/// The plan of a container that does not exist yet.
#[derive(Debug)]
pub(super) struct Draft(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` for a container that an earlier process created from its own plan.
    plan: Option<Plan>,
    /// Whether a create uses the plan.
    taken: bool,
}

impl Draft {
    /// A draft that starts with this plan; `None` for a container that exists already.
    pub(super) fn new(plan: Option<Plan>) -> Self {
        Self(Mutex::new(State { plan, taken: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current plan.
    pub(super) fn plan(&self) -> Option<Plan> {
        self.state().plan.clone()
    }

    /// The plan for a create. It cannot be changed any more until it is given back.
    pub(super) fn take(&self) -> Option<Plan> {
        let mut state = self.state();
        state.taken = true;
        state.plan.clone()
    }

    /// Sets the container's name beside its id, if it is not created yet.
    pub(super) fn named(&self, name: ContainerName) {
        if let Some(plan) = &mut self.state().plan {
            plan.name = Some(name);
        }
    }

    /// Adds volumes. Does nothing to an adopted container.
    pub(super) fn with_volumes(&self, volumes: Vec<VolumeUse>) {
        if let Some(plan) = &mut self.state().plan {
            plan.volumes.extend(volumes);
        }
    }

    /// Sets the owner's duties to the container, and whether it is kept after its end. Does nothing to an adopted one.
    pub(super) fn looked_after(&self, custody: Custody, is_kept: bool) {
        if let Some(plan) = &mut self.state().plan {
            (plan.custody, plan.is_kept) = (Some(custody), is_kept);
        }
    }

    /// Sets how the output is kept. Does nothing to an adopted container.
    pub(super) fn logged(&self, log: Option<LogPlan>) {
        if let Some(plan) = &mut self.state().plan {
            plan.log = log;
        }
    }

    /// Sets when the container is started again. Does nothing to an adopted one.
    pub(super) fn restarted(&self, policy: RestartPolicy) {
        if let Some(plan) = &mut self.state().plan {
            plan.restart = policy;
        }
    }

    /// Unlocks the plan after a failed create.
    pub(super) fn give_back(&self) {
        self.state().taken = false;
    }

    /// The options that follow from the plan; `()` if the plan is not known.
    pub(super) fn options(&self) -> Box<dyn Any + Send> {
        match &self.state().plan {
            Some(plan) => Box::new(options_of(plan)),
            None => Box::new(()),
        }
    }

    /// Calls `change` on the options. If they cannot be changed any more, returns `false` without a call.
    pub(super) fn change(&self, change: &mut dyn FnMut(&mut dyn Any)) -> bool {
        let mut state = self.state();
        let State {
            plan: Some(plan),
            taken: false,
        } = &mut *state
        else {
            return false;
        };
        let mut options = options_of(plan);
        change(&mut options);
        let ContainerOptions {
            config,
            network,
            hosts,
            labels,
            init,
        } = options;
        (plan.config, plan.network, plan.hosts) = (config, network, hosts);
        (plan.labels, plan.init) = (labels, init);
        // Only the engine sets these labels, because they record who owns the container.
        plan.labels.retain(|name, _| !name.starts_with(label::OWN));
        true
    }
}

fn options_of(plan: &Plan) -> ContainerOptions {
    ContainerOptions {
        config: plan.config.clone(),
        network: plan.network.clone(),
        hosts: plan.hosts.clone(),
        labels: plan.labels.clone(),
        init: plan.init,
    }
}
