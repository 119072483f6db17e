//! The plan of what goes wrong, and the log of what was called. One list serves both: call `k` is the k-th of the log.

use std::fmt;
use std::sync::Mutex;

use tonic::Status;

/// How a call breaks.
pub enum How {
    /// It fails with this status and changes nothing.
    BeforeEffect(Status),
    /// It takes effect, but the caller learns only that the server is unavailable.
    AfterEffect,
    /// This is called when the request arrives; then the call goes on as usual. Cancel a context in it.
    Cancel(Box<dyn Fn() + Send + Sync>),
    /// It changes nothing and is never answered, until the caller's deadline.
    Hang,
}

impl fmt::Debug for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeEffect(status) => write!(f, "BeforeEffect({:?})", status.code()),
            Self::AfterEffect => f.write_str("AfterEffect"),
            Self::Cancel(_) => f.write_str("Cancel"),
            Self::Hang => f.write_str("Hang"),
        }
    }
}

/// The plan and the log.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Plan>);

#[derive(Debug, Default)]
struct Plan {
    at: Vec<(usize, How)>,
    of: Vec<(String, usize, How)>,
    unary: Vec<String>,
    streaming: Vec<String>,
}

impl Faults {
    /// Breaks the `k`-th unary call from now on, counted from 1 in the order of arrival.
    pub fn break_at(&self, k: usize, how: How) {
        let mut plan = self.0.lock().unwrap();
        let k = plan.unary.len() + k;
        plan.at.push((k, how));
    }

    /// Breaks the `n`-th call from now on (from 1) of one method, as in `Tasks/Create`. Streaming methods too.
    pub fn break_call(&self, method: &str, n: usize, how: How) {
        self.0.lock().unwrap().of.push((method.into(), n, how));
    }

    /// Forgets the plan and the log.
    pub fn reset(&self) {
        *self.0.lock().unwrap() = Plan::default();
    }

    /// The unary calls in the order of arrival.
    pub fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().unary.clone()
    }

    /// The streaming calls in the order of arrival, and `Events/Publish`. They are apart because a subscription, and
    /// what a client publishes to see whether it is in force, come when they come.
    pub fn streams(&self) -> Vec<String> {
        self.0.lock().unwrap().streaming.clone()
    }

    /// Faults that no call has met yet. A sweep past the last call of an operation leaves its fault here.
    pub fn unmet(&self) -> usize {
        let plan = self.0.lock().unwrap();
        plan.at.len() + plan.of.len()
    }

    pub(super) fn arrive(&self, method: &str, streaming: bool) -> Option<How> {
        let mut plan = self.0.lock().unwrap();
        let mut met = None;
        if streaming || method == "Events/Publish" {
            plan.streaming.push(method.into());
        } else {
            plan.unary.push(method.into());
            let k = plan.unary.len();
            if let Some(found) = plan.at.iter().position(|(at, _)| *at == k) {
                met = Some(plan.at.swap_remove(found).1);
            }
        }
        for (_, left, _) in plan.of.iter_mut().filter(|(of, ..)| of == method) {
            *left -= 1;
        }
        if let Some(found) = plan.of.iter().position(|(_, left, _)| *left == 0) {
            met = Some(plan.of.swap_remove(found).2);
        }
        met
    }
}
