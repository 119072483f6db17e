//! `exec`: runs another process in a container that runs, shows its output, and ends with its exit code.

use std::convert::Infallible;
use std::process::ExitCode;

use fnctr_oci::ExecConfig;
use tokio::io::AsyncWrite;

use super::Invocation;
use super::args::containers::ExecArgs;
use super::attach::{feed, report_exit, write};
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use super::run::of_options;
use super::standard::{LineEnd, Standard};
use super::terminal::{self, RawTerminal};
use crate::engine::{Exec, Listener, SharedStreams, Stream, Wants};
use crate::{ContainerId, Context};

/// Runs a process in a container.
pub(super) async fn exec(
    invocation: Invocation<'_>,
    args: &ExecArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    terminal::check(args.interactive, args.tty)?;
    with(invocation, async |engine| {
        let ctx = invocation.interrupt.ctx();
        let container = engine.adopt(ctx, &args.container.id(engine).await?).await?;
        let env = of_options(&args.env)?;
        let config = ExecConfig {
            command: args.command.clone(),
            env: env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            cwd: args.workdir.clone(),
            user: args.user.clone(),
            terminal: args.tty,
            console_size: terminal::size().filter(|_| args.tty),
        };
        let plan = container.plan_exec(ctx, &config).await?;
        let id = ContainerId::random().to_string();
        container.tell_exec_created(&id, &plan);
        if args.detach {
            container.exec(ctx, &id, plan, None).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let streams = match args.interactive {
            true => SharedStreams::with_input(),
            false => SharedStreams::output(),
        };
        // Before the start, so that nothing is missed.
        let output = streams.listen_patiently(Wants::ALL);
        // The end of a terminal's input would hang it up.
        let input = streams.writer(!args.tty).map(|input| Box::new(input) as _);
        let raw_terminal = RawTerminal::enter_if(args.interactive && args.tty)?;
        let exec = container.exec(ctx, &id, plan, Some(streams)).await?;
        let code = tokio::select! {
            code = follow(invocation, &exec, output, input) => code?,
            never = follow_size(&exec, args.tty) => match never {},
        };
        drop(raw_terminal);
        let id = container.id();
        report_exit(id, &format!("the process in {id}"), code, print)
    })
    .await
}

/// Gives the terminal of an exec the size of this process's. Never returns.
async fn follow_size(exec: &Exec, has_terminal: bool) -> Infallible {
    if !has_terminal {
        return std::future::pending().await;
    }
    let ctx = &Context::new();
    terminal::follow_size(async |size| terminal::resized(exec.resize(ctx, size).await)).await
}

/// Copies output and input until the process has ended. Returns its exit code, or `None` if it is lost. A signal ends this
/// command alone, as with Docker.
async fn follow(
    invocation: Invocation<'_>,
    exec: &Exec,
    mut output: Listener,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
) -> Result<Option<u32>, Failure> {
    let line_end = LineEnd::new();
    let mut stdout = Standard::new(tokio::io::stdout(), &line_end, invocation.interrupt);
    let mut stderr = tokio::io::stderr();
    let show = async {
        while let Ok(chunk) = output.next().await {
            match chunk.stream {
                Stream::Stderr => write(&mut stderr, &chunk.bytes).await?,
                _ => write(&mut stdout, &chunk.bytes).await?,
            }
        }
        Ok::<_, Failure>(exec.ended().await.code)
    };
    let interrupted: &Context = invocation.interrupt.ctx();
    tokio::select! {
        code = show => code,
        never = feed(input) => match never {},
        _ = interrupted.cancelled() => Err(Failure::interrupted()),
    }
}
