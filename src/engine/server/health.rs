//! Probes the health of containers that run.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fnctr_oci::ExecConfig;
use tracing::Instrument as _;

use super::served::Served;
use super::shared::Shared;
use crate::engine::attach::SharedStreams;
use crate::engine::error::Kind;
use crate::engine::find::State;
use crate::engine::health::{HealthCheck, HealthStatus, NO_CODE, Probe};
use crate::engine::label;
use crate::engine::run::Run;
use crate::events::{Action, Event, Kind as EventKind};
use crate::stdio::{Listener, Wants};
use crate::{ContainerId, Context, clock};

/// How many bytes of a probe's output are kept, as in Docker.
const MOST: usize = 4096;
/// How long the end of a run may take to be known, after that of a process in it.
const SETTLING: Duration = Duration::from_millis(200);
/// How long the end of a probe that was killed may take to be known.
const ENDING: Duration = Duration::from_secs(2);

/// Begins to probe the health of a container's run, unless a task does so already, or it has no check.
pub(super) fn begin(shared: &Arc<Shared>, served: &Arc<Served>) {
    let Ok(plan) = served.plan() else { return };
    let Some(check) = plan.health.clone().filter(|check| !check.command.is_empty()) else {
        return;
    };
    let Some(run) = served.run_to_probe() else {
        return;
    };
    let (this, served) = (Arc::clone(shared), Arc::clone(served));
    let work = async move {
        let life = this.life.clone();
        let probing = async {
            tokio::select! {
                _ = run.wait_exit() => {}
                () = probe_again_and_again(&life, &served, &run, &check) => {}
            }
        };
        // The server has ended.
        let _ = life.run(probing).await;
    };
    shared.deps.background.tracker.spawn(work.in_current_span());
}

async fn probe_again_and_again(life: &Context, served: &Served, run: &Run, check: &HealthCheck) {
    loop {
        let status = served
            .health()
            .map_or(HealthStatus::Starting, |health| health.status);
        tokio::time::sleep(check.until_next(status, since_start(served))).await;
        let (started_at, at) = (clock::now(), since_start(served));
        // One that is frozen is not asked.
        let Some((code, output)) = probe(life, served, check).await else {
            continue;
        };
        if code != 0 {
            // The end of a run ends its probes first. It is known a moment later, and this task ends with it.
            tokio::time::sleep(SETTLING).await;
            if !served.container().is_running() {
                continue;
            }
        }
        let result = Probe {
            started_at,
            ended_at: clock::now(),
            code,
            output,
        };
        if let Some(status) = served.note_probe(run, check, result, at) {
            tell(served, status);
        }
    }
}

/// How long ago the run was started, by the host's clock.
fn since_start(served: &Served) -> Duration {
    let last = served.look().last_run;
    let started: Option<SystemTime> = last.and_then(|last| last.started_at());
    started.and_then(clock::age).unwrap_or_default()
}

/// Executes the check once, and returns its exit code and output; `None` if the container cannot be asked now.
async fn probe(life: &Context, served: &Served, check: &HealthCheck) -> Option<(i64, String)> {
    let config = ExecConfig {
        command: check.command.clone(),
        ..ExecConfig::default()
    };
    let timeout = check.timeout();
    let ctx = life.with_timeout(timeout);
    let container = served.container();
    let streams = SharedStreams::output();
    let listener = streams.listen_patiently(Wants {
        stdout: true,
        stderr: true,
    });
    let id = ContainerId::random();
    let started = async {
        let plan = container.plan_exec(&ctx, &config).await?;
        container.tell_exec_created(id.as_str(), &plan);
        container.exec(&ctx, id.as_str(), plan, Some(streams)).await
    };
    let exec = match started.await {
        Ok(exec) => exec,
        Err(error) if error.kind() == Kind::OutOfOrder => return None,
        Err(error) => return Some((NO_CODE, crate::chain(&error))),
    };
    let mut output = Vec::new();
    let ended = async { tokio::join!(exec.ended(), read(listener, &mut output)).0 };
    let ended = ctx.run(ended).await;
    match ended {
        Ok(end) => {
            let code = end.code.map_or(NO_CODE, i64::from);
            Some((code, text(&output)))
        }
        Err(_) => {
            exec.kill().await;
            drop(tokio::time::timeout(ENDING, exec.ended()).await);
            if served.look().state == State::Frozen {
                return None;
            }
            let said = format!("Health check exceeded timeout ({})", go(timeout));
            let said = match output.is_empty() {
                true => said,
                false => format!("{said}: {}", text(&output)),
            };
            Some((NO_CODE, said))
        }
    }
}

/// Reads output to its end, and keeps the beginning.
async fn read(mut listener: Listener, output: &mut Vec<u8>) {
    while let Ok(chunk) = listener.next().await {
        let room = MOST.saturating_sub(output.len());
        output.extend(chunk.bytes.iter().take(room));
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// A duration as Go writes it, to the millisecond.
fn go(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return format!("{millis}ms");
    }
    let rest = match millis {
        0 => (seconds % 60).to_string(),
        millis => format!("{}.{millis:03}", seconds % 60)
            .trim_end_matches('0')
            .to_owned(),
    };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn tell(served: &Served, status: HealthStatus) {
    let event = Event::new(EventKind::Container, Action::HealthStatus, served.id().as_str());
    let event = event.with(label::HEALTH, status.name());
    served.container().deps().record(event);
}

impl Served {
    /// The current run, if it runs and no task probes its health yet; the caller starts one.
    fn run_to_probe(&self) -> Option<Run> {
        let run = self.container().run().filter(|run| run.exit_now().is_none())?;
        self.begins_health(&run).then_some(run)
    }
}
