//! `ps` and `inspect`: show containers to people and programs, whichever process made the containers.

mod row;
mod select;

use std::collections::BTreeMap;
use std::process::ExitCode;

use self::row::{FIELDS, Row};
use self::select::Selection;
use super::Invocation;
use super::args::containers::PsArgs;
use super::connect::{Connection, with};
use super::container_ref::ContainerRef;
use super::failure::Failure;
use super::filter::Filters;
use super::output::{Print, columns, fitted, line};
use super::template::Template;
use crate::Context;
use crate::driver::Timestamp;
use crate::engine::{LastRun, ListedContainer, RunEnd, State};
use crate::sandbox::Listed;

/// The name of a container's current state.
pub(super) fn state_of(container: &ListedContainer) -> &'static str {
    match container.state {
        State::Dead => "dead",
        State::Lost => "lost",
        State::Created => "created",
        State::Running => "running",
        State::Frozen => "frozen",
        State::Restarting => "restarting",
        State::Exited(_) => "exited",
        State::Removing => "removing",
    }
}

/// Lists containers.
pub(super) async fn ps(invocation: Invocation<'_>, args: PsArgs, print: &Print) -> Result<ExitCode, Failure> {
    let filters = Filters::parse(&args.filter, &select::KEYS).map_err(Failure::usage)?;
    let wanted = Selection::new(args.all, filters).map_err(Failure::usage)?;
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let template = args.format.as_deref().map(|text| Template::parse(text, &names));
    let template = template.transpose().map_err(Failure::usage)?;
    let connection = Connection::listing(invocation).await?;
    let listed = async {
        let containers = connection.engine.list(&Context::new()).await?;
        Ok((containers, connection.engine.sandboxes().await))
    };
    let listed = invocation.interrupt.ctx().run(listed).await;
    connection.close().await;
    let (mut containers, sandboxes) = listed.unwrap_or_else(|_| Err(Failure::interrupted()))?;
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    let rows = containers
        .iter()
        .map(|container| (container, Row::of(container, &sandboxes)));
    let rows: Vec<_> = rows
        .filter(|(container, row)| wanted.has(container, row))
        .collect();
    if args.quiet {
        rows.iter().for_each(|(_, row)| line(&row.id));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(template) = template {
        let fields: Vec<_> = rows
            .iter()
            .map(|(container, row)| row.fields(container, args.no_trunc))
            .collect();
        let text = template.render(&fields, &FIELDS.into_iter().collect());
        text.iter().for_each(|text| line(text));
        return Ok(ExitCode::SUCCESS);
    }
    if print.is_json() {
        rows.iter().for_each(|(_, row)| print.json(row));
        return Ok(ExitCode::SUCCESS);
    }
    let mut cells: Vec<_> = rows
        .iter()
        .map(|(container, row)| row.cells(container, args.no_trunc))
        .collect();
    let mut head = row::COLUMNS.to_vec();
    if let Some(at) = head.iter().position(|head| *head == row::NAME)
        && cells.iter().all(|cells| cells[at].is_empty())
    {
        head.remove(at);
        cells.iter_mut().for_each(|cells| drop(cells.remove(at)));
    }
    let width = columns().filter(|_| !args.no_trunc);
    line(&fitted(&head, &cells, &row::MAY_GO, width));
    pools(&containers, &sandboxes).iter().for_each(|pool| line(pool));
    Ok(ExitCode::SUCCESS)
}

/// Returns a line for each network that has a pool of prepared network namespaces.
fn pools(containers: &[ListedContainer], sandboxes: &[Listed]) -> Vec<String> {
    let pooled = sandboxes.iter().filter(|listed| listed.container.is_none());
    let mut networks = BTreeMap::<&str, (usize, usize)>::new();
    for listed in pooled {
        let (all, used) = networks
            .entry(listed.network.as_deref().unwrap_or_default())
            .or_default();
        *all += 1;
        *used += usize::from(
            containers
                .iter()
                .any(|container| container.sandbox() == Some(&listed.id)),
        );
    }
    let line = |(network, (all, used))| format!("pool on {network}: {all} network namespaces, {used} in use");
    networks.into_iter().map(line).collect()
}

/// Shows containers: their records, states, cgroups and specs. The values of environment variables are left out,
/// because they often hold secrets.
pub(super) async fn inspect(
    invocation: Invocation<'_>,
    containers: &[ContainerRef],
    print: &Print,
) -> Result<ExitCode, Failure> {
    let inspected = with(invocation, async |engine| {
        let mut found = Vec::new();
        for container in containers {
            let id = container.id(engine).await?;
            found.push(engine.inspect(&Context::new(), &id).await?);
        }
        Ok((found, engine.sandboxes().await))
    });
    let (found, sandboxes) = inspected.await?;
    for (container, spec) in found {
        let value = whole(&container, &spec, &sandboxes);
        print.result(&value, || {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn whole(container: &ListedContainer, spec: &[u8], sandboxes: &[Listed]) -> serde_json::Value {
    let mut spec: serde_json::Value = serde_json::from_slice(spec).unwrap_or_default();
    let env = spec.pointer_mut("/process/env");
    for variable in env
        .and_then(serde_json::Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let name = variable.as_str().and_then(|line| line.split_once('='));
        *variable = name.map_or_else(String::new, |(name, _)| name.to_owned()).into();
    }
    let mut value = serde_json::to_value(Row::of(container, sandboxes)).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("labels".to_owned(), serde_json::json!(container.labels));
        object.insert("cgroups".to_owned(), serde_json::json!(container.cgroups()));
        object.insert("spec".to_owned(), spec);
        object.insert("last_run".to_owned(), last_run(container.last_run.as_ref()));
        object.insert("start_error".to_owned(), container.start_error.clone().into());
    }
    value
}

/// How the last run of a kept container went; null for a container that is not kept.
fn last_run(last: Option<&LastRun>) -> serde_json::Value {
    let Some(last) = last else {
        return serde_json::Value::Null;
    };
    let end = match last {
        LastRun::Ended(end) => end.clone(),
        LastRun::Never | LastRun::Started { .. } => RunEnd::default(),
    };
    serde_json::json!({
        "started": last.started_at().map(Timestamp::from),
        "ended": end.ended_at.map(Timestamp::from),
        "exit_code": end.code,
        "oom": end.oom,
    })
}
