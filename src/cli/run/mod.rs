//! `fnctr run`: runs one function, from its image to its exit code.

mod cidfile;
mod end;
mod env;
mod report;
mod task;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::time::Instant;

use self::cidfile::CidFile;
use self::report::Phases;
use super::At;
use super::args::run::{PullPolicy, RunArgs};
use super::connect::Connection;
use super::failure::Failure;
use super::interrupt::Wishes;
use super::output::{Print, line, note};
use super::pull;
use super::standard::LineEnd;
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{Cookie as _, WaitResult};
use crate::engine::Custody;
use crate::{ContainerOptions, ContainerdDriver, Context};

/// Runs one container.
pub(super) async fn run(at: At<'_>, mut args: RunArgs, print: &Print) -> Result<ExitCode, Failure> {
    let (image, command) = task::words(&mut args)?;
    task::check(&args)?;
    let line_end = LineEnd::new();
    let mut task = task::task(&args, image, &line_end, at.interrupt, print)?;
    let mut cid_file = CidFile::create(&args.cidfile)?;
    let connection = Connection::open(at, |config| {
        config.enable_readonly_rootfs = args.read_only;
        config.max_tmpfs_inodes = args.tmpfs_inodes.unwrap_or_default();
        config.disable_unprivileged_containers = args.image_user;
        config.image_enable_volume = args.allow_volumes;
    })
    .await?;
    let ran = async {
        let engine = &connection.engine;
        if let Some(name) = pull::name_of_id(at.interrupt.ctx(), engine, &task.image).await? {
            task.image = name;
        }
        let driver = &connection.driver(at).await?;
        let image = task.image.clone();
        let custody = Custody {
            detached: args.detach,
            limit: args.timeout,
        };
        let life = Life {
            at,
            driver,
            cookie: &driver.cookie(Arc::new(task))?.kept_for(custody),
            args: &args,
            image: &image,
            line_end: &line_end,
            print,
        };
        life.live(command, &mut cid_file).await
    };
    let ran = ran.await;
    connection.close().await;
    ran
}

/// The life of one function, and what it needs.
struct Life<'a> {
    at: At<'a>,
    driver: &'a ContainerdDriver,
    cookie: &'a ContainerdCookie,
    args: &'a RunArgs,
    image: &'a str,
    line_end: &'a LineEnd,
    print: &'a Print,
}

impl Life<'_> {
    /// Runs the function from validation to close. The container is closed even if an earlier step fails.
    async fn live(&self, command: Vec<String>, cid_file: &mut Option<CidFile>) -> Result<ExitCode, Failure> {
        let Self { at, cookie, args, .. } = *self;
        let ctx = at.interrupt.ctx();
        let mut ms = Phases::default();
        let started = self.start(command, cid_file, &mut ms).await;
        if args.detach && started.is_ok() {
            cookie.leave().await;
            self.print.result(
                &serde_json::json!({ "id": cookie.id(), "image": self.image }),
                || cookie.id().to_owned(),
            );
            return Ok(ExitCode::SUCCESS);
        }
        let ended = match started {
            Ok((waiting, wishes)) => {
                let ended = end::Wait {
                    at,
                    cookie,
                    waiting: waiting.as_ref(),
                    limit: args.timeout,
                    grace: args.stop_timeout,
                };
                let ended = ended.over(wishes);
                Ok(timed(&mut ms.wait, ended).await)
            }
            Err(failure) => Err(failure),
        };
        let closed = timed(&mut ms.close, cookie.close(ctx)).await;
        let ended = ended?;
        if self.print.is_json() && !self.line_end.is_clean() {
            line("");
        }
        report::report(cookie.id(), self.image, &ended, ms, self.print);
        // A failed close does not change the function's result, and the next command removes what was left behind.
        if let Err(error) = closed {
            note(&format!(
                "fnctr: warning: {}; the next fnctr command tries again",
                error.report()
            ));
        }
        Ok(ExitCode::from(report::exit_code(&ended, at.interrupt.code())))
    }

    async fn start(
        &self,
        command: Vec<String>,
        cid_file: &mut Option<CidFile>,
        ms: &mut Phases,
    ) -> Result<(Box<dyn WaitResult>, Wishes), Failure> {
        let Self { cookie, args, .. } = *self;
        let ctx = self.at.interrupt.ctx();
        {
            let cookie: &dyn crate::driver::Cookie = cookie;
            let mut chosen = Ok(());
            let mut command = Some(command);
            cookie.change_options(|options: &mut ContainerOptions| {
                chosen = task::choose(options, args, command.take().unwrap_or_default());
            })?;
            chosen?;
        }
        self.fetch(ctx, ms).await?;
        timed(&mut ms.create, cookie.create_container(ctx)).await?;
        if let Some(file) = cid_file {
            file.write(cookie.id())?;
        }
        // From now on signals can be passed on to a function, even before its start has been reported.
        let wishes = self.at.interrupt.pass_on();
        Ok((timed(&mut ms.run, cookie.run(ctx)).await?, wishes))
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
                "image {image} is not here, and --pull never forbids to pull it"
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

async fn timed<T>(ms: &mut f64, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let out = work.await;
    // Round to a microsecond, because finer digits are noise.
    *ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    out
}
