//! `GET /containers/{id}/top`: the processes of a container, as the host's `ps` shows them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tokio::process::Command;

use super::running::running;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;

/// What `ps` is asked for if the client does not say.
const USUAL: &str = "-ef";

/// The processes.
pub(in crate::docker_api) async fn top(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let run = running(&served)?;
    let asked = request.query.get("ps_args").unwrap_or(USUAL);
    let pids = run.processes();
    let ps = Command::new("ps").args(asked.split_whitespace()).output().await;
    let ps = ps.map_err(|error| Refused::failed(format!("cannot run ps on the host: {error}")))?;
    if !ps.status.success() {
        let why = String::from_utf8_lossy(&ps.stderr).trim().to_owned();
        return Err(Refused::bad(format!("ps: {why}")));
    }
    let (titles, rows) = table(&String::from_utf8_lossy(&ps.stdout), &pids)
        .ok_or_else(|| Refused::bad(format!("the output of `ps {asked}` has no column PID")))?;
    Ok(Answer::ok(&json!({ "Titles": titles, "Processes": rows })))
}

/// The titles, and the rows of these processes; the last column may have spaces. `None` without a column of pids.
fn table(text: &str, pids: &BTreeSet<u32>) -> Option<(Vec<String>, Vec<Vec<String>>)> {
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
    Some((titles, rows))
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
        let (titles, rows) = table(text, &BTreeSet::from([8])).unwrap();
        assert_eq!(titles, ["UID", "PID", "CMD"]);
        assert_eq!(rows, [["root", "8", "sh -c 'a b'"]]);
        assert!(table("UID CMD\n", &BTreeSet::new()).is_none());
    }
}
