//! `start` and `restart`: run containers that are kept.

use std::process::ExitCode;

use super::Invocation;
use super::args::containers::{StartArgs, StopArgs};
use super::attach::{self, Watched};
use super::connect::with;
use super::container_ref::ContainerRef;
use super::containers::each;
use super::failure::Failure;
use super::output::{Print, note};
use super::standard::{LineEnd, Standard};
use super::stop::stop_request;
use super::terminal::RawTerminal;
use crate::detach_keys::DetachKeys;
use crate::driver::{Error, ErrorKind};
use crate::engine::{Container, Custody, Engine, Kind, SharedStreams, StartedBy, Step, Wants};
use crate::{ContainerId, Context};

/// Starts containers. A container that runs already stays as it is.
pub(super) async fn start(
    invocation: Invocation<'_>,
    args: &StartArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    if args.attach {
        return start_attached(invocation, attach::only_one(&args.ids)?, args.interactive, print).await;
    }
    with(invocation, async |engine| {
        let start = async |id: &ContainerId| {
            let container = engine.adopt(&Context::new(), id).await?;
            if container.is_frozen() {
                let text = format!("container {id} is frozen: `fnctr thaw {id}` lets it go on");
                return Err(Error::new(ErrorKind::Conflict, text).into());
            }
            if !container.is_running() {
                begin(engine, &container).await?;
            }
            report_started(id, print);
            Ok(())
        };
        Ok(each(engine, &args.ids, print, start).await)
    })
    .await
}

/// Starts a container, shows its output, and keeps it when it has ended. Attaches to a container that runs already.
async fn start_attached(
    invocation: Invocation<'_>,
    container: &ContainerRef,
    interactive: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let ctx = Context::new();
        let id = &container.id(engine).await?;
        let container = engine.adopt(&ctx, id).await?;
        let watched = |run| Watched {
            invocation,
            container: &container,
            run,
            forwards_stdin: interactive,
            print,
        };
        if container.is_running() {
            let run = &container.run_for(Step::Attach)?;
            let attachment = container.attach(&ctx, Wants::ALL).await?;
            let wishes = attach::signals_for(invocation, run, true);
            return watched(run).follow_attached(attachment, wishes, DetachKeys::default()).await;
        }
        let streams = match interactive {
            true => SharedStreams::with_input(),
            false => SharedStreams::output(),
        };
        let custody = Custody {
            detached: false,
            limit: None,
        };
        let line_end = LineEnd::new();
        let stdout = Standard::new(tokio::io::stdout(), &line_end, invocation.interrupt);
        let terminal = container.has_terminal(&ctx).await?;
        let opened = streams.streams_beside(stdout, tokio::io::stderr(), terminal);
        // Before the start, so that no key is missed.
        let raw_terminal = RawTerminal::enter_if(interactive && terminal)?;
        let started = container.start(&ctx, custody, StartedBy::User, move |_| std::future::ready(Ok(opened)));
        let run = &started.await?;
        let wishes = attach::signals_for(invocation, run, true);
        if let Err(error) = run.share(&streams) {
            tracing::warn!(%id, error = %crate::chain(&error), "other processes cannot attach to the container");
        }
        // If this command can show no more, the container runs on, and another command may take its streams over.
        let code = watched(run).follow_owned(streams.writer(!terminal), &line_end, wishes, raw_terminal).await?;
        match container.settle().await {
            // Another process has started it again, or removed it.
            Err(error) if matches!(error.kind(), Kind::OutOfOrder | Kind::NotFound) => {}
            Err(error) => {
                let error = crate::chain(&error);
                note(&format!("fnctr: warning: {error}; the next fnctr command tries again"));
            }
            Ok(_) => {}
        }
        watched(run).report_exit(code)
    })
    .await
}

/// Stops containers and starts them again. A container that does not run is started.
pub(super) async fn restart(
    invocation: Invocation<'_>,
    args: &StopArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let restart = async |id: &ContainerId| {
            let ctx = Context::new();
            let container = engine.adopt(&ctx, id).await?;
            container.can_start(&ctx).await?;
            if container.is_running() {
                container.note_stop().await?;
                container.stop(&ctx, stop_request(args)).await?;
            }
            begin(engine, &container).await?;
            report_started(id, print);
            Ok(())
        };
        Ok(each(engine, &args.ids, print, restart).await)
    })
    .await
}

/// Starts a container and leaves it running when this process ends. If another process starts it at the same time, that
/// counts too.
async fn begin(engine: &Engine, container: &Container) -> Result<(), Failure> {
    let custody = Custody {
        detached: true,
        limit: None,
    };
    let (ctx, id) = (Context::new(), container.id());
    match container.start_detached(&ctx, custody).await {
        Ok(_) => {
            container.leave().await;
            Ok(())
        }
        Err(error) if error.kind() == Kind::OutOfOrder => match engine.adopt(&ctx, id).await?.is_running() {
            true => Ok(()),
            false => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn report_started(id: &ContainerId, print: &Print) {
    let value = serde_json::json!({ "id": id.as_str(), "started": true });
    print.result(&value, || id.to_string());
}
