//! The processes of a container, as the host's `ps` shows them.

use std::collections::BTreeSet;
use std::io;

use tokio::process::Command;

use super::run::Run;

/// A row for each process, below titles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessTable {
    pub(crate) titles: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTable {
    /// This host has none.
    #[error("cannot run ps on the host")]
    NoPs(#[source] io::Error),
    /// It does not know what it was asked for; its own words.
    #[error("ps: {0}")]
    Refused(String),
    /// The rows of the container cannot be told from others.
    #[error(
        "the output of ps has no column PID, without which its rows cannot be told from those of other processes"
    )]
    NoPid,
}

impl Run {
    /// Asks the host's `ps` with these arguments, and keeps the rows of the run's processes.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn table(&self, arguments: &str) -> Result<ProcessTable, NoTable> {
        let pids = self.processes();
        let ps = Command::new("ps")
            .args(arguments.split_whitespace())
            .output()
            .await;
        let ps = ps.map_err(NoTable::NoPs)?;
        if !ps.status.success() {
            let why = String::from_utf8_lossy(&ps.stderr).trim().to_owned();
            return Err(NoTable::Refused(why));
        }
        of_text(&String::from_utf8_lossy(&ps.stdout), &pids).ok_or(NoTable::NoPid)
    }
}

/// The rows of these processes; the last column may have spaces. `None` without a column of pids.
fn of_text(text: &str, pids: &BTreeSet<u32>) -> Option<ProcessTable> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next()?.split_whitespace().map(str::to_owned).collect();
    let at = titles.iter().position(|title| title == "PID")?;
    let count = titles.len();
    let rows = lines.filter_map(|line| {
        let row = columns(line, count);
        let pid = row.get(at)?.parse().ok()?;
        pids.contains(&pid).then_some(row)
    });
    let rows = rows.collect();
    Some(ProcessTable { titles, rows })
}

fn columns(line: &str, count: usize) -> Vec<String> {
    let mut columns = Vec::new();
    let mut rest = line.trim();
    while columns.len() + 1 < count
        && let Some((first, after)) = rest.split_once(char::is_whitespace)
    {
        columns.push(first.to_owned());
        rest = after.trim_start();
    }
    columns.push(rest.to_owned());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_has_the_rest_of_the_line() {
        let text = "UID        PID  CMD\nroot         7  sleep  600\nroot         8  sh -c 'a b'\n";
        let ProcessTable { titles, rows } = of_text(text, &BTreeSet::from([8])).unwrap();
        assert_eq!(titles, ["UID", "PID", "CMD"]);
        assert_eq!(rows, [["root", "8", "sh -c 'a b'"]]);
        assert!(of_text("UID CMD\n", &BTreeSet::new()).is_none());
    }
}
