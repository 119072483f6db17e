//! `logs`: shows the output of a container that was kept.

use std::process::ExitCode;

use tokio::io::AsyncWrite;

use super::Invocation;
use super::args::containers::LogsArgs;
use super::attach::write;
use super::connect::with;
use super::failure::Failure;
use super::standard::{LineEnd, Standard};
use crate::Context;
use crate::engine::{LogEntry, LogQuery, Stream};

/// Shows the output, each stream on that of this process.
pub(super) async fn logs(invocation: Invocation<'_>, args: &LogsArgs) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let (ctx, interrupted) = (Context::new(), invocation.interrupt.ctx());
        let container = engine.adopt(&ctx, &args.container.id(engine).await?).await?;
        let query = LogQuery {
            // Anything but a number, such as `all`.
            tail: args.tail.parse().ok(),
            since: args.since,
            until: args.until,
        };
        let mut log = container.read_log(&ctx, query, args.follow).await?;
        let line_end = LineEnd::new();
        let mut stdout = Standard::new(tokio::io::stdout(), &line_end, invocation.interrupt);
        let mut stderr = tokio::io::stderr();
        loop {
            // A signal ends this command; the container is not its own.
            let Ok(next) = interrupted.run(log.next()).await else {
                return Err(Failure::interrupted());
            };
            let Some(entries) = next.map_err(|error| Failure::host(&error))? else {
                return Ok(ExitCode::SUCCESS);
            };
            // Written together as long as they are of one stream.
            for same in entries.chunk_by(|a, b| a.stream == b.stream) {
                match same.first().map(|entry| entry.stream) {
                    Some(Stream::Stderr) => show(args, same, &mut stderr).await?,
                    _ => show(args, same, &mut stdout).await?,
                }
            }
        }
    })
    .await
}

async fn show(
    args: &LogsArgs,
    entries: &[LogEntry],
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    let mut text = String::new();
    for entry in entries {
        if args.timestamps {
            text.push_str(&entry.stamp());
            text.push(' ');
        }
        if args.details {
            text.push_str(&entry.details());
            text.push(' ');
        }
        text.push_str(&entry.text);
    }
    write(to, text.as_bytes()).await
}
