//! The life of one mock container.
//!
//! No code here waits while it holds the state: only the process takes time, and it runs on a task of its own.

use std::any::Any;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::process::{self, Process, Waiter};
use super::{MockOptions, MockProgram, Name, World};
use crate::Context;
use crate::driver::{ContainerTask, Cookie, Error, ErrorKind, Phase, Step, WaitResult, lock};

#[derive(Debug)]
pub(super) struct MockCookie {
    world: Arc<World>,
    task: Arc<dyn ContainerTask>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    options: MockOptions,
    created: Option<(Arc<Name>, MockProgram)>,
    process: Option<Process>,
}

impl MockCookie {
    pub(super) fn new(world: Arc<World>, task: Arc<dyn ContainerTask>) -> Self {
        let options = MockOptions {
            command: task.command().to_owned(),
            env: task.env_vars(),
        };
        Self {
            world,
            task,
            state: Mutex::new(State {
                phase: Phase::Fresh,
                options,
                created: None,
                process: None,
            }),
        }
    }

    fn check(&self, ctx: &Context, step: Step) -> Result<(), Error> {
        self.world.open()?;
        step.check(lock(&self.state).phase, self.task.id())?;
        Ok(ctx.check()?)
    }

    /// Freezes or thaws.
    fn set_frozen(&self, ctx: &Context, step: Step, frozen: bool) -> Result<(), Error> {
        self.check(ctx, step)?;
        if let Some(process) = &lock(&self.state).process {
            process.set_frozen(frozen);
        }
        Ok(())
    }
}

#[async_trait]
impl Cookie for MockCookie {
    async fn validate_image(&self, ctx: &Context) -> Result<bool, Error> {
        self.check(ctx, Step::ValidateImage)?;
        let missing = !self.world.has(self.task.image());
        lock(&self.state).phase = if missing { Phase::Missing } else { Phase::Valid };
        Ok(missing)
    }

    async fn pull_image(&self, ctx: &Context) -> Result<(), Error> {
        self.check(ctx, Step::PullImage)?;
        self.world.pull(ctx, self.task.image()).await?;
        let mut state = lock(&self.state);
        // The cookie may have been closed meanwhile.
        Step::PullImage.check(state.phase, self.task.id())?;
        state.phase = Phase::Pulled;
        Ok(())
    }

    async fn create_container(&self, ctx: &Context) -> Result<(), Error> {
        self.check(ctx, Step::CreateContainer)?;
        let mut state = lock(&self.state);
        let command = &state.options.command;
        let Some(program) = self.world.program(command) else {
            let text = format!("command {command:?} is not in image {:?}", self.task.image());
            return Err(Error::new(ErrorKind::InvalidTask, text));
        };
        let name = Arc::new(self.world.claim(self.task.id())?);
        state.created = Some((name, program));
        state.phase = Phase::Created;
        Ok(())
    }

    async fn run(&self, ctx: &Context) -> Result<Box<dyn WaitResult>, Error> {
        self.check(ctx, Step::Run)?;
        let mut state = lock(&self.state);
        let Some((name, program)) = &state.created else {
            Step::Run.check(Phase::Valid, self.task.id())?;
            return Err(Error::new(
                ErrorKind::Internal,
                "a created container has no program",
            ));
        };
        let start = process::Start {
            name: Arc::clone(name),
            program: program.clone(),
            env: state.options.env.clone(),
            task: Arc::clone(&self.task),
        };
        let process = Process::spawn(&self.world, start);
        let waiter = Waiter::new(&process, ctx);
        state.process = Some(process);
        state.phase = Phase::Running;
        Ok(Box::new(waiter))
    }

    async fn freeze(&self, ctx: &Context) -> Result<(), Error> {
        self.set_frozen(ctx, Step::Freeze, true)
    }

    async fn unfreeze(&self, ctx: &Context) -> Result<(), Error> {
        self.set_frozen(ctx, Step::Unfreeze, false)
    }

    async fn close(&self, ctx: &Context) -> Result<(), Error> {
        let ended = {
            let mut state = lock(&self.state);
            state.phase = Phase::Closed;
            state.created = None;
            // The process holds the name until it has ended.
            state.process.as_ref().map(Process::kill)
        };
        if let Some(ended) = ended {
            ctx.run(ended).await?;
        }
        self.task.close();
        Ok(())
    }

    fn container_options(&self) -> Box<dyn Any + Send> {
        Box::new(lock(&self.state).options.clone())
    }

    fn change_container_options(&self, change: &mut dyn FnMut(&mut dyn Any)) -> Result<(), Error> {
        self.world.open()?;
        let mut state = lock(&self.state);
        Step::ChangeOptions.check(state.phase, self.task.id())?;
        change(&mut state.options);
        Ok(())
    }
}

impl Drop for MockCookie {
    /// Kills the process of a cookie that was not closed; otherwise the driver could never be closed.
    fn drop(&mut self) {
        if let Some(process) = &lock(&self.state).process {
            drop(process.kill());
        }
    }
}
