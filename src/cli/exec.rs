//! `exec`: runs another process in a container that runs, shows its output, and ends with its exit code.

use std::process::ExitCode;

use fnctr_oci::ExecConfig;
use tokio::io::AsyncWrite;

use super::Invocation;
use super::args::containers::ExecArgs;
use super::attach::{feed, write};
use super::connect::with;
use super::failure::Failure;
use super::output::Print;
use super::run::of_options;
use super::standard::{LineEnd, Standard};
use crate::engine::{Exec, Listener, SharedStreams, Stream, Wants};
use crate::{ContainerId, Context};

/// Runs a process in a container.
pub(super) async fn exec(
    invocation: Invocation<'_>,
    args: &ExecArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
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
            terminal: false,
            console_size: None,
        };
        let plan = container.plan_exec(ctx, &config).await?;
        let id = ContainerId::random().to_string();
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
        let input = streams.writer(true).map(|input| Box::new(input) as _);
        let exec = container.exec(ctx, &id, plan, Some(streams)).await?;
        let code = follow(invocation, &exec, output, input).await?;
        let Some(code) = code else {
            let id = container.id();
            return Err(Failure::lost(format!(
                "the process in {id} has ended, and its exit code is lost"
            )));
        };
        if print.is_json() {
            let value = serde_json::json!({ "id": container.id().as_str(), "exit_code": code });
            print.result(&value, String::new);
        }
        // Codes above 255 become 255.
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    })
    .await
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
