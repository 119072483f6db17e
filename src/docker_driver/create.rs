//! Creates the container of a plan: its network is chosen, and what a lost answer has left is found again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::container::{Container, Network};
use super::daemon::{Daemon, Wants};
use super::docker_models::{ContainerCreateBody, HostConfig};
use super::error;
use super::plan::{Plan, Wish};
use super::removal::insist;
use super::shared::Shared;
use crate::Context;
use crate::driver::Error;
use crate::ids::unique;
use crate::pauses::Pauses;

/// The label that distinguishes one attempt to create a container from all others. If the engine's answer is lost, what
/// the attempt has created is found by it, and a container of the same name that somebody else has created is not.
const ATTEMPT: &str = "fn-agent-attempt";
/// How long a container whose creation was not answered is looked for.
const SEARCH: Duration = Duration::from_secs(60);
/// The first and the longest pause in between.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Creates a container with these streams. An error leaves nothing behind.
///
/// # Cancellation
/// Not safe to drop half-way; runs on a tracked task.
pub(super) async fn create(shared: &Arc<Shared>, plan: Plan, wants: Wants) -> Result<Arc<Container>, Error> {
    let mut body = plan.options.body;
    attach(&mut body, wants);
    let network = choose(shared, &plan.network, &mut body);
    let attempt = unique();
    let labels = body.labels.get_or_insert_default();
    labels.insert(ATTEMPT.to_owned(), attempt.clone());
    match shared.daemon.create(&plan.name, body).await {
        Ok(id) => {
            let Shared {
                daemon,
                tracker,
                grace,
                ..
            } = &**shared;
            Ok(Container::new(id, daemon, network, tracker, *grace))
        }
        Err(failed) => {
            match failed.is_unknown() {
                // The engine may be away for long, and the caller has its answer: there is none.
                true => drop(
                    shared
                        .tracker
                        .spawn(forsake(Arc::clone(shared), attempt, network)),
                ),
                false => give_back(&shared.daemon, network, shared.grace).await,
            }
            Err(error::not_created(failed))
        }
    }
}

/// The engine keeps exactly the streams that the task has.
fn attach(body: &mut ContainerCreateBody, wants: Wants) {
    let on = |is_on: bool| is_on.then_some(true);
    body.attach_stdin = on(wants.stdin);
    body.open_stdin = on(wants.stdin);
    // The end of our input is the end of the container's.
    body.stdin_once = on(wants.stdin);
    body.attach_stdout = on(wants.stdout);
    body.attach_stderr = on(wants.stderr);
    // A terminal would mix the two outputs into one.
    body.tty = None;
}

/// Sets the container's network, unless the host has chosen one through the options: a prepared one, else the least
/// used of those that are configured, else the default, on which a container has the hostname of this machine.
fn choose(shared: &Shared, wish: &Wish, body: &mut ContainerCreateBody) -> Network {
    let mut network = Network::default();
    let Wish::Any(networks) = wish else { return network };
    let host = body.host_config.get_or_insert_default();
    if host.network_mode.is_some() {
        return network;
    }
    // A container that joins another one's network has that one's hostname.
    let may_share = body.hostname.is_none() && !may_change_its_network(host);
    if let Some(pool) = shared.pool.as_ref().filter(|_| may_share) {
        network.lease = pool.take();
        if let Some(slot) = network.lease.as_ref().and_then(|lease| lease.slot()) {
            host.network_mode = Some(format!("container:{}", slot.id()));
            return network;
        }
        tracing::warn!("no prepared network is ready; using another one");
    }
    network.place = shared.networks.least_used(networks);
    match &network.place {
        Some(place) => host.network_mode = Some(place.name().to_owned()),
        None if body.hostname.is_none() => body.hostname = hostname(),
        None => {}
    }
    network
}

/// Whether the host's own changes of the options let the container change its network, which the next container of the
/// slot would find.
fn may_change_its_network(host: &HostConfig) -> bool {
    let is_some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let sets = host
        .sysctls
        .iter()
        .flatten()
        .any(|(name, _)| name.starts_with("net"));
    // With these, or by a mount, a process may write to /proc/sys.
    let opens = host.masked_paths.is_some() || host.readonly_paths.is_some();
    let mut options = host.security_opt.iter().flatten();
    let binds = host
        .binds
        .iter()
        .flatten()
        .filter_map(|bind| bind.split(':').next());
    let mounts = host
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| mount.source.as_deref());
    let leads_to_proc = |source: &str| source == "/" || Path::new(source).starts_with("/proc");
    host.privileged == Some(true)
        || is_some(&host.cap_add)
        || sets
        || opens
        || options.any(|option| option.starts_with("systempaths"))
        || binds.chain(mounts).any(leads_to_proc)
}

/// The name of this machine.
fn hostname() -> Option<String> {
    let uname = nix::sys::utsname::uname().ok()?;
    let name = uname.nodename().to_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Gives a network back that no container has. A slot of a pool that has ended is removed.
async fn give_back(daemon: &Daemon, mut network: Network, grace: Duration) {
    if let Some(slot) = network.give_back()
        && let Err(failed) = insist(daemon, slot.id(), grace).await
    {
        tracing::error!(error = %crate::chain(&failed), "the container of a prepared network stays");
    }
}

/// Looks for a container whose creation was not answered, and removes it. Its network is kept until then. The engine may
/// still be creating it, so an answer that there is none is not the last.
async fn forsake(shared: Arc<Shared>, attempt: String, network: Network) {
    let ctx = shared.life.with_timeout(SEARCH);
    let mut pauses = Pauses::new(AGAIN.0, AGAIN.1);
    let (daemon, grace) = (shared.daemon.clone(), shared.grace);
    // Not to keep the driver alive.
    drop(shared);
    let mut is_last = false;
    loop {
        match daemon.list(&Context::timeout(grace), (ATTEMPT, &attempt)).await {
            Ok(listed) if listed.is_empty() => {}
            Ok(listed) => {
                for container in listed {
                    if let Err(failed) = insist(&daemon, &container.id, grace).await {
                        tracing::error!(error = %crate::chain(&failed), "a container that nobody knows stays");
                    }
                }
                break;
            }
            Err(failed) => {
                let error = crate::chain(&failed);
                tracing::warn!(error, "cannot look for a container that may have been created");
            }
        }
        if is_last {
            tracing::info!(
                label = ATTEMPT,
                attempt,
                "no container was found whose creation was not answered"
            );
            break;
        }
        // A driver that ends does not wait any longer, and looks once more.
        is_last = ctx.run(pauses.wait()).await.is_err();
    }
    give_back(&daemon, network, grace).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_streams_that_a_task_has_are_attached() {
        let mut body = ContainerCreateBody::default();
        let wants = Wants {
            stdin: false,
            stdout: true,
            stderr: false,
        };
        attach(&mut body, wants);
        let body = serde_json::to_value(&body).unwrap();
        assert_eq!(body, serde_json::json!({ "AttachStdout": true }));
    }
}
