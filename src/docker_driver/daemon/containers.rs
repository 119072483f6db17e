//! Calls about containers.

use std::collections::{BTreeMap, HashMap};

use bollard::errors::Error as Client;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::failed::{Cause, Failed};
use super::{ANSWER, Daemon};
use crate::driver::Timestamp;
use crate::{ContainerName, Context};

const NOT_MODIFIED: u16 = 304;

/// What the engine says about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::docker_driver) struct State {
    /// Whether it runs now.
    pub(in crate::docker_driver) is_running: bool,
    /// Whether it has run and ended, and the engine has written down how.
    pub(in crate::docker_driver) is_over: bool,
    /// The exit code of its last run.
    pub(in crate::docker_driver) exit_code: Option<i64>,
    /// Whether the kernel has killed a process of it for lack of memory.
    pub(in crate::docker_driver) is_oom: bool,
}

/// A container in a list.
#[derive(Debug, Clone)]
pub(in crate::docker_driver) struct Listed {
    pub(in crate::docker_driver) id: String,
    pub(in crate::docker_driver) labels: BTreeMap<String, String>,
}

impl Daemon {
    /// Creates a container, and returns the engine's id for it.
    ///
    /// # Cancellation
    /// The container may exist if this is dropped.
    pub(in crate::docker_driver) async fn create(
        &self,
        name: &ContainerName,
        body: ContainerCreateBody,
    ) -> Result<String, Failed> {
        let options = CreateContainerOptionsBuilder::default()
            .name(name.as_str())
            .build();
        let created = answered(self.calls.create_container(Some(options), body)).await;
        match created {
            Ok(created) => {
                for warning in created.warnings {
                    tracing::warn!(%name, warning, "the engine warns about a container");
                }
                Ok(created.id)
            }
            Err(error) => Err(Failed::of("create container", name.as_str(), error)),
        }
    }

    /// Starts a container. One that runs already stays as it is.
    ///
    /// # Cancellation
    /// The container may have been started if this is dropped.
    pub(in crate::docker_driver) async fn start(&self, id: &str) -> Result<(), Failed> {
        let started = answered(self.calls.start_container(id, None::<StartContainerOptions>)).await;
        done("start container", id, started)
    }

    /// Pauses every process of a container.
    ///
    /// # Cancellation
    /// The container may be paused if this is dropped.
    pub(in crate::docker_driver) async fn pause(&self, id: &str) -> Result<(), Failed> {
        let paused = answered(self.calls.pause_container(id)).await;
        done("pause container", id, paused)
    }

    /// Lets the processes of a container continue.
    ///
    /// # Cancellation
    /// The container may be paused no more if this is dropped.
    pub(in crate::docker_driver) async fn unpause(&self, id: &str) -> Result<(), Failed> {
        let thawed = answered(self.calls.unpause_container(id)).await;
        done("unpause container", id, thawed)
    }

    /// Ends a container if it runs, and removes it with its anonymous volumes.
    ///
    /// # Cancellation
    /// The container may be removed if this is dropped.
    pub(in crate::docker_driver) async fn remove(&self, id: &str) -> Result<(), Failed> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let removed = answered(self.calls.remove_container(id, Some(options))).await;
        done("remove container", id, removed)
    }

    /// Waits until a container does not run, and returns its exit code.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn wait(&self, id: &str) -> Result<i64, Failed> {
        let options = WaitContainerOptionsBuilder::default()
            .condition("not-running")
            .build();
        let failed = |cause| Failed::new("wait for container", id, cause);
        match self.waits.wait_container(id, Some(options)).next().await {
            // The engine could not wait, as when it is shut down.
            Some(Ok(ended)) if ended.status_code < 0 => {
                let why = ended.error.and_then(|error| error.message);
                Err(failed(Cause::Broken(why.unwrap_or_default())))
            }
            Some(Ok(ended)) => Ok(ended.status_code),
            // The client takes every other code for a failure.
            Some(Err(Client::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(Failed::of("wait for container", id, error)),
            None => Err(failed(Cause::Broken(
                "the engine has ended its answer without an exit code".to_owned(),
            ))),
        }
    }

    /// The state of a container.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn state(&self, id: &str) -> Result<State, Failed> {
        let inspected = answered(self.calls.inspect_container(id, None::<InspectContainerOptions>)).await;
        let inspected = inspected.map_err(|error| Failed::of("inspect container", id, error))?;
        let state = inspected.state.unwrap_or_default();
        let is_running = state.running.unwrap_or_default();
        Ok(State {
            is_running,
            is_over: !is_running && state.finished_at.as_deref().is_some_and(is_a_time),
            exit_code: state.exit_code,
            is_oom: state.oom_killed.unwrap_or_default(),
        })
    }

    /// All containers with this label, running or not.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(in crate::docker_driver) async fn list(
        &self,
        ctx: &Context,
        (name, value): (&str, &str),
    ) -> Result<Vec<Listed>, Failed> {
        let label = format!("{name}={value}");
        let filters = HashMap::from([("label".to_owned(), vec![label.clone()])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let listing = ctx.run(self.calls.list_containers(Some(options))).await;
        let call = "list containers with the label";
        let listed = listing.map_err(|why| Failed::new(call, &label, why.into()))?;
        let listed = listed.map_err(|error| Failed::of(call, &label, error))?;
        Ok(listed
            .into_iter()
            .filter_map(|container| {
                Some(Listed {
                    id: container.id?,
                    labels: container.labels.unwrap_or_default().into_iter().collect(),
                })
            })
            .collect())
    }
}

/// The whole answer to a call, within [`ANSWER`]. The client's own limit is that of the answer's beginning.
async fn answered<T>(call: impl Future<Output = Result<T, Client>>) -> Result<T, Client> {
    let answer = tokio::time::timeout(ANSWER, call).await;
    answer.unwrap_or(Err(Client::RequestTimeoutError))
}

/// Go's zero time is year 1.
fn is_a_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok_and(|at| at.unix_ms() > 0)
}

/// Status 304 says that there was nothing to do.
fn done(call: &'static str, id: &str, answer: Result<(), Client>) -> Result<(), Failed> {
    match answer {
        Err(Client::DockerResponseServerError { status_code, .. }) if status_code == NOT_MODIFIED => Ok(()),
        answer => answer.map_err(|error| Failed::of(call, id, error)),
    }
}
