//! The resource suite: each limit of a task, seen from inside (what the function can and cannot do) and from outside
//! (what the kernel holds, read here without any code of the driver).
//!
//! Each test says on which layout it saw what it saw, past the capture of its output: a log of these lines is the proof
//! that a limit was enforced on this kernel. What a layout cannot serve is said to be skipped, with the reason.

mod brief;
mod cpu;
mod files;
mod inside;
mod memory;
mod outside;
mod pids;
mod rlimits;

use fnctr::Context;
use fnctr::driver::{Captured, Cookie, Input, Output, Task, WaitResult};
pub(crate) use outside::Outside;
use tokio::io::{DuplexStream, duplex};

use crate::real::tell;
use crate::world::{Stage, ctx, started};

/// A container that runs a script, with a way to look at it from both sides.
struct Held {
    cookie: Box<dyn Cookie>,
    wait: Box<dyn WaitResult>,
    /// A script that reads goes on when this is dropped, and waits to be looked at until then.
    stdin: DuplexStream,
    said: Captured,
    outside: Outside,
}

impl Held {
    /// Starts it; `said` collects what the script prints.
    async fn start(stage: &Stage, task: Task, script: &str) -> Self {
        let (output, said) = Output::capture(1 << 20);
        let (input, stdin) = duplex(16);
        let id = task.id.clone();
        let task = Task {
            input: Input::from_reader(input).into(),
            stdout: output.into(),
            ..task
        };
        let (cookie, wait) = started(&stage.driver, task, script).await;
        let outside = Outside::find(stage.real.namespace(), &id);
        Self {
            cookie,
            wait,
            stdin,
            said,
            outside,
        }
    }

    /// Waits until the script has printed this line.
    async fn until_it_says(&self, line: &str) -> String {
        let said = || self.said.text();
        let patience: Context = ctx();
        while !said().lines().any(|said| said == line) {
            assert!(patience.check().is_ok(), "no {line:?} in {:?}", said());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        said()
    }

    /// Ends it, whatever it does.
    async fn close(self) {
        self.cookie.close(&ctx()).await.expect("to close");
        drop(self.wait.wait(&ctx()).await);
    }
}

/// Says what was seen, and where.
pub(crate) fn seen(what: &str) {
    tell(&format!("seen on {}: {what}", outside::layout()));
}

/// Says what could not be tried here, and why.
pub(crate) fn skipped(what: &str, why: &str) {
    tell(&format!("SKIPPED on {}: {what}: {why}", outside::layout()));
}
