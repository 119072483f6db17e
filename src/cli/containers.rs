//! `ps`, `inspect`, `freeze`, `thaw`, `kill`, `rm`: containers that an earlier process may have made.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::At;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, plain, table};
use crate::driver::{Error, ErrorKind, Timestamp};
use crate::engine::{Seen, State};
use crate::sandbox::Listed;
use crate::{ByteSize, ContainerId, Context};

/// A container in `ps` and `inspect`.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    image: String,
    command: String,
    state: &'static str,
    /// The `fnctr run` that waited for it was killed.
    orphaned: bool,
    exit_code: Option<u32>,
    pid: Option<u32>,
    created: Option<Timestamp>,
    network: Option<String>,
    addresses: Vec<String>,
}

impl Row {
    fn of(seen: &Seen, sandboxes: &[Listed]) -> Self {
        let sandbox = seen
            .sandbox()
            .and_then(|id| sandboxes.iter().find(|listed| listed.id == id));
        let addresses = sandbox.map_or(&[][..], |listed| &listed.addresses).iter();
        let exit_code = match seen.state {
            State::Exited(code) => Some(code),
            _ => None,
        };
        Self {
            id: seen.id.to_string(),
            image: seen.image.clone(),
            command: seen.command.clone(),
            state: state_of(seen),
            orphaned: seen.is_orphaned(),
            exit_code,
            pid: seen.pid,
            created: seen.created_at.map(Into::into),
            network: sandbox.and_then(|listed| listed.network.clone()),
            addresses: addresses.map(|address| address.ip.to_string()).collect(),
        }
    }
}

/// The word for what a container does now.
pub(super) fn state_of(seen: &Seen) -> &'static str {
    match seen.state {
        State::Dead => "dead",
        State::Lost => "lost",
        State::Created => "created",
        State::Running => "running",
        State::Frozen => "frozen",
        State::Exited(_) => "exited",
    }
}

/// Lists containers.
pub(super) async fn ps(at: At<'_>, print: &Print) -> Result<ExitCode, Failure> {
    let listed = with(at, async |driver| {
        let seen = driver.list(&Context::new()).await?;
        Ok((seen, driver.engine().sandboxes().await))
    });
    let (mut seen, sandboxes) = listed.await?;
    seen.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    if print.is_json() {
        seen.iter()
            .for_each(|container| print.json(&Row::of(container, &sandboxes)));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = seen
        .iter()
        .map(|container| {
            let row = Row::of(container, &sandboxes);
            let mut state = row
                .exit_code
                .map_or_else(|| row.state.to_owned(), |code| format!("exited ({code})"));
            if row.orphaned {
                state.push_str(", orphaned");
            }
            let pid = row.pid.map(|pid| pid.to_string()).unwrap_or_default();
            vec![
                row.id,
                row.image,
                plain(&row.command).chars().take(40).collect(),
                state,
                pid,
                row.addresses.join(" "),
                age(container.created_at),
            ]
        })
        .collect();
    super::output::line(&table(
        &["ID", "IMAGE", "COMMAND", "STATE", "PID", "ADDRESS", "CREATED"],
        &rows,
    ));
    for pool in pools(&seen, &sandboxes) {
        super::output::line(&pool);
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each network on which network namespaces are prepared.
fn pools(seen: &[Seen], sandboxes: &[Listed]) -> Vec<String> {
    let pooled = sandboxes.iter().filter(|listed| listed.container.is_none());
    let mut networks = BTreeMap::<&str, (usize, usize)>::new();
    for listed in pooled {
        let (all, used) = networks
            .entry(listed.network.as_deref().unwrap_or_default())
            .or_default();
        *all += 1;
        *used += usize::from(seen.iter().any(|seen| seen.sandbox() == Some(&listed.id)));
    }
    let line = |(network, (all, used))| format!("pool on {network}: {all} network namespaces, {used} in use");
    networks.into_iter().map(line).collect()
}

/// Shows one container: its record, its state, its cgroups and the spec it runs by. The environment's values are left
/// out, because that is where secrets travel.
pub(super) async fn inspect(at: At<'_>, id: &ContainerId, print: &Print) -> Result<ExitCode, Failure> {
    let looked = with(at, async |driver| {
        let seen = driver.inspect(&Context::new(), id).await?;
        Ok((seen, driver.engine().sandboxes().await))
    });
    let (seen, sandboxes) = looked.await?;
    let mut spec: serde_json::Value = serde_json::from_slice(&seen.spec).unwrap_or_default();
    if let Some(env) = spec
        .pointer_mut("/process/env")
        .and_then(serde_json::Value::as_array_mut)
    {
        for variable in env {
            let name = variable
                .as_str()
                .and_then(|line| line.split_once('='))
                .map(|(name, _)| name.to_owned());
            *variable = name.unwrap_or_default().into();
        }
    }
    let mut value = serde_json::to_value(Row::of(&seen, &sandboxes)).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert(
            "labels".to_owned(),
            serde_json::to_value(&seen.labels).unwrap_or_default(),
        );
        object.insert(
            "cgroups".to_owned(),
            serde_json::to_value(seen.cgroups()).unwrap_or_default(),
        );
        object.insert("spec".to_owned(), spec);
    }
    print.result(&value, || {
        serde_json::to_string_pretty(&value).unwrap_or_default()
    });
    Ok(ExitCode::SUCCESS)
}

/// Freezes a container, and says how long it took; then takes memory back from it if asked to, and says how much.
pub(super) async fn freeze(
    at: At<'_>,
    id: &ContainerId,
    reclaim: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    turn(at, id, print, true, reclaim).await
}

/// Thaws a container, and says how long it took.
pub(super) async fn thaw(at: At<'_>, id: &ContainerId, print: &Print) -> Result<ExitCode, Failure> {
    turn(at, id, print, false, false).await
}

async fn turn(
    at: At<'_>,
    id: &ContainerId,
    print: &Print,
    freeze: bool,
    reclaim: bool,
) -> Result<ExitCode, Failure> {
    let (us, reclaimed) = with(at, async |driver| {
        let ctx = Context::new();
        let container = driver.take_over(&ctx, id).await?;
        // A host that cannot leaves the container as it is.
        if reclaim && let Err(error) = container.can_reclaim() {
            container.detach().await;
            return Err(crate::containerd_driver::translate(error).into());
        }
        let began = Instant::now();
        let turned = if freeze {
            container.freeze(&ctx).await
        } else {
            container.thaw(&ctx).await
        };
        let took = began.elapsed();
        let reclaimed = match (&turned, reclaim) {
            (Ok(()), true) => Some(container.reclaim(&ctx).await),
            _ => None,
        };
        container.detach().await;
        turned.map_err(crate::containerd_driver::translate)?;
        let reclaimed = reclaimed
            .transpose()
            .map_err(crate::containerd_driver::translate)?;
        Ok((took.as_secs_f64() * 1e6, reclaimed.map(|back| back.bytes)))
    })
    .await?;
    let (state, word) = if freeze {
        ("frozen", "froze")
    } else {
        ("running", "thawed")
    };
    let mut result = serde_json::json!({ "id": id.as_str(), "state": state, "us": us });
    if let (Some(bytes), Some(result)) = (reclaimed, result.as_object_mut()) {
        result.insert("reclaimed".to_owned(), bytes.into());
    }
    print.result(&result, || match reclaimed {
        Some(bytes) => format!("{word} {id} in {us:.1} µs, took {} back", ByteSize(bytes)),
        None => format!("{word} {id} in {us:.1} µs"),
    });
    Ok(ExitCode::SUCCESS)
}

/// Sends a signal.
pub(super) async fn kill(
    at: At<'_>,
    id: &ContainerId,
    signal: u32,
    print: &Print,
) -> Result<ExitCode, Failure> {
    with(at, async |driver| {
        Ok(driver.signal(&Context::new(), id, signal).await?)
    })
    .await?;
    print.result(
        &serde_json::json!({ "id": id.as_str(), "signal": signal }),
        || id.to_string(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Removes containers; each that cannot be removed is reported, and the others are removed all the same.
pub(super) async fn rm(
    at: At<'_>,
    ids: &[ContainerId],
    force: bool,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    with(at, async |driver| {
        for id in ids {
            match remove(driver, id, force).await {
                Ok(()) => print.result(&serde_json::json!({ "id": id.as_str(), "removed": true }), || {
                    id.to_string()
                }),
                Err(error) => {
                    code = ExitCode::FAILURE;
                    print.failure(&error.into());
                }
            }
        }
        Ok(())
    })
    .await?;
    Ok(code)
}

async fn remove(driver: &crate::ContainerdDriver, id: &ContainerId, force: bool) -> Result<(), Error> {
    let ctx = Context::new();
    let seen = match driver.inspect(&ctx, id).await {
        // A runtime or a containerd that was killed may have left what no record stands for.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let removed = driver.engine().remove_remains(id, force).await;
            return match removed.map_err(crate::containerd_driver::translate)? {
                true => Ok(()),
                false => Err(error),
            };
        }
        seen => seen?,
    };
    if !force && matches!(seen.state, State::Running | State::Frozen | State::Lost) {
        let text = format!("container {id} is running: kill it first, or remove it with --force");
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    let container = driver.take_over(&ctx, id).await?;
    container
        .close()
        .await
        .map_err(crate::containerd_driver::translate)
}

/// `TERM`, `SIGTERM`, `term` or `15`.
pub(super) fn parse_signal(text: &str) -> Result<u32, String> {
    use nix::sys::signal::Signal;

    let unknown = || format!("{text:?} is not a signal, such as TERM or 15");
    if let Ok(number) = text.parse::<u32>() {
        // Real-time signals have numbers only.
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    let signal: Signal = name.parse().map_err(|_| unknown())?;
    u32::try_from(signal as i32).map_err(|_| unknown())
}

fn age(created: Option<SystemTime>) -> String {
    let Some(age) = created.and_then(|at| at.elapsed().ok()) else {
        return String::new();
    };
    match age.as_secs() {
        s @ 0..=119 => format!("{s} s ago"),
        s @ 120..=7199 => format!("{} min ago", s / 60),
        s @ 7200..=172_799 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(parse_signal(text), Ok(15), "{text}");
        }
        for bad in ["", "0", "-9", "999", "SIGNOPE", "TERM "] {
            assert!(parse_signal(bad).is_err(), "{bad:?}");
        }
    }
}
