//! `fnctr run`: runs one function, from its image to its exit code. `fnctr create`: makes one to be started later.

mod cidfile;
mod end;
mod env;
mod report;
mod task;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::time::Instant;

use self::cidfile::CidFile;
pub(super) use self::env::of_options;
use self::report::Phases;
use super::Invocation;
use super::args::run::{ContainerArgs, CreateArgs, PullPolicy, RunArgs};
use super::connect::Connection;
use super::failure::Failure;
use super::interrupt::Wishes;
use super::output::{Print, line, note};
use super::pull;
use super::standard::LineEnd;
use super::terminal::{self, RawTerminal};
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{Cookie as _, Task, WaitResult};
use crate::engine::{Custody, SharedStreams};
use crate::{ContainerOptions, ContainerdDriver, Context};

/// Runs one container.
pub(super) async fn run(
    invocation: Invocation<'_>,
    mut args: RunArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let (image, command) = task::words(&mut args.container, "run")?;
    task::check_run(&args)?;
    let line_end = LineEnd::new();
    let mut task = task::task(&args.container, image)?;
    let shared = task::attached(&mut task, &args, &line_end, invocation.interrupt, print);
    let custody = Custody {
        detached: args.detach,
        limit: args.timeout,
    };
    let is_kept = !args.rm.unwrap_or(!args.detach);
    let log = task::log(&args.container)?.filter(|_| is_kept);
    with_cookie(
        invocation,
        &args.container,
        task,
        async |driver, cookie, image, cid_file| {
            let life = Life {
                invocation,
                making: Making {
                    driver,
                    cookie: &cookie
                        .looked_after(custody, is_kept)
                        .logged(log)
                        .restarted(args.container.restart),
                    args: &args.container,
                    image,
                },
                args: &args,
                shared,
                is_kept,
                line_end: &line_end,
                print,
            };
            life.live(command, cid_file).await
        },
    )
    .await
}

/// Creates one container, and leaves it to be started later.
pub(super) async fn create(
    invocation: Invocation<'_>,
    mut args: CreateArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let (image, command) = task::words(&mut args.container, "create")?;
    task::check(&args.container)?;
    let task = task::task(&args.container, image)?;
    let log = task::log(&args.container)?;
    let custody = Custody {
        detached: true,
        limit: None,
    };
    with_cookie(
        invocation,
        &args.container,
        task,
        async |driver, cookie, image, cid_file| {
            let cookie = &cookie
                .looked_after(custody, true)
                .logged(log)
                .restarted(args.container.restart);
            let making = Making {
                driver,
                cookie,
                args: &args.container,
                image,
            };
            let created = async {
                making.choose(command)?;
                making
                    .fetch(invocation.interrupt.ctx(), &mut Phases::default())
                    .await?;
                cookie.create_kept(invocation.interrupt.ctx()).await?;
                if let Some(file) = cid_file {
                    file.write(cookie.id())?;
                }
                Ok::<_, Failure>(())
            };
            if let Err(failure) = created.await {
                if let Err(error) = cookie.close(invocation.interrupt.ctx()).await {
                    unclosed(&error);
                }
                return Err(failure);
            }
            cookie.leave().await;
            print.result(&serde_json::json!({ "id": cookie.id(), "image": image }), || {
                cookie.id().to_owned()
            });
            Ok(ExitCode::SUCCESS)
        },
    )
    .await
}

/// Connects, and calls `work` with the cookie of a task, its driver and the full name of its image.
async fn with_cookie(
    invocation: Invocation<'_>,
    args: &ContainerArgs,
    mut task: Task,
    work: impl AsyncFnOnce(
        &ContainerdDriver,
        ContainerdCookie,
        &str,
        &mut Option<CidFile>,
    ) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let mut cid_file = CidFile::create(&args.cidfile)?;
    let volumes = task::volumes(args);
    let connection = Connection::open(invocation, |config| {
        config.enable_readonly_rootfs = args.read_only;
        config.max_tmpfs_inodes = args.tmpfs_inodes.unwrap_or_default();
        config.disable_unprivileged_containers = args.image_user;
        config.image_enable_volume = args.allow_volumes;
    })
    .await?;
    let worked = async {
        if let Some(name) =
            pull::name_of_id(invocation.interrupt.ctx(), &connection.engine, &task.image).await?
        {
            task.image = name;
        }
        let driver = &connection.driver(invocation).await?;
        let image = task.image.clone();
        // Boxed: the future of a command would be nested deeper than the compiler follows.
        Box::pin(work(
            driver,
            driver
                .cookie(Arc::new(task))?
                .named(task::name_beside_id(args))
                .with_volumes(volumes),
            &image,
            &mut cid_file,
        ))
        .await
    };
    let worked = worked.await;
    connection.close().await;
    worked
}

/// The cookie of a container that is to be made, and what that needs.
struct Making<'a> {
    driver: &'a ContainerdDriver,
    cookie: &'a ContainerdCookie,
    args: &'a ContainerArgs,
    image: &'a str,
}

/// The life of one function, and what it needs.
struct Life<'a> {
    invocation: Invocation<'a>,
    making: Making<'a>,
    args: &'a RunArgs,
    /// The output that other processes may read too.
    shared: Option<SharedStreams>,
    /// Whether the container stays after its end.
    is_kept: bool,
    line_end: &'a LineEnd,
    print: &'a Print,
}

impl Life<'_> {
    /// Runs the function from validation to close. The container is closed even if an earlier step fails.
    async fn live(&self, command: Vec<String>, cid_file: &mut Option<CidFile>) -> Result<ExitCode, Failure> {
        let Self { invocation, args, .. } = *self;
        let Making { cookie, image, .. } = self.making;
        let ctx = invocation.interrupt.ctx();
        let mut ms = Phases::default();
        let started = self.start(command, cid_file, &mut ms).await;
        if args.detach && started.is_ok() {
            cookie.leave().await;
            self.print
                .result(&serde_json::json!({ "id": cookie.id(), "image": image }), || {
                    cookie.id().to_owned()
                });
            return Ok(ExitCode::SUCCESS);
        }
        let has_run = started.is_ok();
        let ended = match started {
            Ok(Started {
                waiting,
                wishes,
                raw_terminal,
            }) => {
                let ended = end::Wait {
                    invocation,
                    cookie,
                    waiting: waiting.as_ref(),
                    limit: args.timeout,
                    grace: args.stop_timeout,
                };
                let ended = async {
                    tokio::select! {
                        ended = ended.over(wishes) => ended,
                        never = self.follow_size() => match never {},
                    }
                };
                let ended = timed(&mut ms.wait, ended).await;
                // Before anything is written for the user.
                drop(raw_terminal);
                Ok(ended)
            }
            Err(failure) => Err(failure),
        };
        let closed = async {
            let settled = match self.is_kept && has_run {
                true => cookie.settle().await,
                false => Ok(()),
            };
            settled.and(cookie.close(ctx).await)
        };
        let closed = timed(&mut ms.close, closed).await;
        let ended = ended?;
        if self.print.is_json() && !self.line_end.is_clean() {
            line("");
        }
        report::report(cookie.id(), image, &ended, ms, self.print);
        // A failed close does not change the function's result, and the next command removes what was left behind.
        if let Err(error) = closed {
            unclosed(&error);
        }
        Ok(ExitCode::from(report::exit_code(
            &ended,
            invocation.interrupt.code(),
        )))
    }

    async fn start(
        &self,
        command: Vec<String>,
        cid_file: &mut Option<CidFile>,
        ms: &mut Phases,
    ) -> Result<Started, Failure> {
        let cookie = self.making.cookie;
        let ctx = self.invocation.interrupt.ctx();
        self.making.choose(command)?;
        self.making.fetch(ctx, ms).await?;
        let raw_terminal = RawTerminal::enter_if(self.args.interactive && self.making.args.tty)?;
        timed(&mut ms.create, cookie.create_container(ctx)).await?;
        if let Some(shared) = &self.shared {
            cookie.share(shared);
        }
        if let Some(file) = cid_file {
            file.write(cookie.id())?;
        }
        // From now on signals can be passed on to a function, even before its start has been reported.
        let wishes = self.invocation.interrupt.pass_on();
        Ok(Started {
            waiting: timed(&mut ms.run, cookie.run(ctx)).await?,
            wishes,
            raw_terminal,
        })
    }

    /// Gives the function's terminal the size of this process's. Never returns.
    async fn follow_size(&self) -> Infallible {
        if !self.making.args.tty {
            return std::future::pending().await;
        }
        let ctx = self.invocation.interrupt.ctx();
        terminal::follow_size(async |size| {
            if let Ok(run) = self.making.cookie.started() {
                terminal::resized(run.resize(ctx, size).await);
            }
        })
        .await
    }
}

/// A function that was started.
struct Started {
    waiting: Box<dyn WaitResult>,
    /// The signals to this process.
    wishes: Wishes,
    /// This process's terminal, if it stands for the function's.
    raw_terminal: Option<RawTerminal>,
}

impl Making<'_> {
    /// Applies the arguments to the options of the container.
    fn choose(&self, command: Vec<String>) -> Result<(), Failure> {
        let cookie: &dyn crate::driver::Cookie = self.cookie;
        let mut chosen = Ok(());
        let mut command = Some(command);
        cookie.change_options(|options: &mut ContainerOptions| {
            chosen = task::choose(options, self.args, command.take().unwrap_or_default());
        })?;
        chosen
    }

    /// Validates the image, and pulls it if it is missing or `--pull` requires it.
    async fn fetch(&self, ctx: &Context, ms: &mut Phases) -> Result<(), Failure> {
        let Self {
            driver,
            cookie,
            args,
            image,
            ..
        } = *self;
        if args.pull == PullPolicy::Always {
            timed(&mut ms.pull, pull::watched(ctx, driver, image)).await?;
        }
        if !timed(&mut ms.validate, cookie.validate_image(ctx)).await? {
            return Ok(());
        }
        if args.pull == PullPolicy::Never {
            return Err(Failure::usage(format!(
                "image {image} is not here, and --pull never forbids pulling it"
            )));
        }
        // Both calls share one transfer. The first shows its progress, and the second records it in the cookie.
        let both = async { tokio::join!(pull::watched(ctx, driver, image), cookie.pull_image(ctx)) };
        let (shown, pulled) = timed(&mut ms.pull, both).await;
        pulled?;
        shown?;
        cookie.validate_image(ctx).await?;
        Ok(())
    }
}

fn unclosed(error: &crate::driver::Error) {
    note(&format!(
        "fnctr: warning: {}; the next fnctr command tries again",
        error.report()
    ));
}

async fn timed<T>(ms: &mut f64, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let out = work.await;
    // Round to a microsecond, because finer digits are noise.
    *ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    out
}
