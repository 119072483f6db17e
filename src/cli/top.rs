//! `top`: shows the processes of a container.

use std::process::ExitCode;

use super::Invocation;
use super::args::containers::TopArgs;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, line};
use crate::Context;
use crate::driver::{Error, ErrorKind};
use crate::engine::Step;

/// Shows the processes of a running container, as the host's `ps` does.
pub(super) async fn top(
    invocation: Invocation<'_>,
    args: &TopArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(invocation, async |engine| {
        let ctx = Context::new();
        let container = engine.adopt(&ctx, &args.container.id(engine).await?).await?;
        let run = container.run_for(Step::Find)?;
        let arguments = match args.ps_args.is_empty() {
            true => "-ef".to_owned(),
            false => args.ps_args.join(" "),
        };
        let table = run.table(&arguments).await;
        let table = table.map_err(|error| Error::new(ErrorKind::Internal, crate::chain(&error)))?;
        if print.is_json() {
            for row in &table.rows {
                let row: serde_json::Map<_, _> = table
                    .titles
                    .iter()
                    .zip(row)
                    .map(|(title, cell)| (title.clone(), cell.as_str().into()))
                    .collect();
                print.result(&serde_json::Value::Object(row), String::new);
            }
            return Ok(ExitCode::SUCCESS);
        }
        for text in lines(&table.titles, &table.rows) {
            line(&text);
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// A table whose columns are as wide as their longest cell; the last one is as it is.
fn lines(titles: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let all = || std::iter::once(titles).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..titles.len()).map(width).collect();
    let shown = all().map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["root", "7", "sleep 600"]), row(["nobody", "1234", "sh"])];
        assert_eq!(
            lines(&row(["UID", "PID", "CMD"]), &rows),
            ["UID     PID   CMD", "root    7     sleep 600", "nobody  1234  sh"]
        );
    }
}
