//! The Tasks service: the processes of containers, by the rules of the shim's state machine.

use std::sync::Arc;

use axum::Router;
use containerd_client::events;
use containerd_client::services::v1 as api;
use containerd_client::types::v1::{Process as View, ProcessInfo, Status as Phase};
use tonic::Status;

use super::Fake;
use super::grpc::{Call, Service};
use super::process::{self, Process};
use super::state::{State, already_exists, not_found};

pub(super) fn routes(fake: &Arc<Fake>) -> Router {
    Service::new(fake, "containerd.services.tasks.v1.Tasks")
        .unary("Create", create)
        .plain("Start", start)
        .unary("Delete", delete)
        .plain("Get", get)
        .plain("List", list)
        .plain("Kill", kill)
        .plain("CloseIO", close_io)
        .plain("Pause", pause)
        .plain("Resume", resume)
        .plain("ListPids", list_pids)
        .unary("Wait", wait)
        .routes()
}

/// The running task of a container; there are no further processes here.
fn task<'a>(state: &'a mut State, call: &Call, id: &str, exec: &str) -> Result<&'a mut Process, Status> {
    let tasks = &mut state.of(call)?.tasks;
    match tasks.get_mut(id) {
        Some(task) if exec.is_empty() => Ok(task),
        Some(_) => Err(not_found("process", exec)),
        None => Err(Status::not_found(format!(
            "no running task found: task {id} not found: not found"
        ))),
    }
}

fn refused(verb: &str, phase: Phase) -> Status {
    let phase = format!("{phase:?}").to_lowercase();
    Status::unknown(format!("cannot {verb} a {phase} process: unknown"))
}

async fn create(
    fake: Arc<Fake>,
    call: Call,
    request: api::CreateTaskRequest,
) -> Result<api::CreateTaskResponse, Status> {
    let namespace = call.namespace()?.to_owned();
    let id = request.container_id;
    let script = {
        let mut state = fake.state();
        let found = state.of(&call)?;
        if !found.containers.contains_key(&id) {
            return Err(not_found("container", &id));
        }
        if found.tasks.contains_key(&id) {
            return Err(already_exists("task", &id));
        }
        state.scripts.get(&id).unwrap_or(&state.default_script).clone()
    };
    if let Some(why) = &script.refused {
        return Err(process::failed(why));
    }
    let paths = [request.stdin, request.stdout, request.stderr];
    let made = process::create(&fake, namespace.clone(), id.clone(), script, paths).await?;
    let pid = made.pid;
    {
        let mut state = fake.state();
        let tasks = &mut state.of(&call)?.tasks;
        if tasks.contains_key(&id) {
            // Dropping `made` ends its process.
            return Err(already_exists("task", &id));
        }
        tasks.insert(id.clone(), made);
    }
    let event = events::TaskCreate {
        container_id: id.clone(),
        pid,
        ..Default::default()
    };
    fake.publish(&namespace, "/tasks/create", &event);
    Ok(api::CreateTaskResponse {
        container_id: id,
        pid,
    })
}

fn start(fake: &Fake, call: &Call, request: api::StartRequest) -> Result<api::StartResponse, Status> {
    let pid = {
        let mut state = fake.state();
        let task = task(&mut state, call, &request.container_id, &request.exec_id)?;
        let Some(start) = task.start.take().filter(|_| task.phase == Phase::Created) else {
            return Err(refused("start", task.phase));
        };
        task.phase = Phase::Running;
        // A process killed this instant does not care.
        let _ = start.send(());
        task.pid
    };
    let event = events::TaskStart {
        container_id: request.container_id,
        pid,
    };
    fake.publish(call.namespace()?, "/tasks/start", &event);
    Ok(api::StartResponse { pid })
}

/// A created task is killed by its deletion, a running one refuses it.
async fn delete(
    fake: Arc<Fake>,
    call: Call,
    request: api::DeleteTaskRequest,
) -> Result<api::DeleteResponse, Status> {
    let id = request.container_id;
    let (pid, mut exit) = {
        let mut state = fake.state();
        let task = task(&mut state, &call, &id, "")?;
        if !matches!(task.phase, Phase::Created | Phase::Stopped) {
            return Err(refused("delete", task.phase));
        }
        // An error means that it has ended.
        let _ = task.signals.send(9);
        (task.pid, task.exit.clone())
    };
    let exit = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
    let exit = exit.ok().flatten().ok_or_else(|| not_found("task", &id))?;
    match fake.state().of(&call)?.tasks.remove(&id) {
        Some(_) => {}
        None => return Err(not_found("task", &id)),
    }
    let event = events::TaskDelete {
        container_id: id,
        pid,
        exit_status: exit.status,
        exited_at: exit.at,
        ..Default::default()
    };
    fake.publish(call.namespace()?, "/tasks/delete", &event);
    Ok(api::DeleteResponse {
        id: String::new(),
        pid,
        exit_status: exit.status,
        exited_at: exit.at,
    })
}

fn view(id: &str, task: &Process) -> View {
    let exit = task.exit.borrow().clone();
    let [stdin, stdout, stderr] = task.paths.clone();
    View {
        // The service of containerd leaves `container_id` empty and puts the id here.
        id: id.into(),
        pid: task.pid,
        status: task.phase.into(),
        stdin,
        stdout,
        stderr,
        exit_status: exit.as_ref().map_or(0, |exit| exit.status),
        exited_at: exit.and_then(|exit| exit.at),
        ..View::default()
    }
}

fn get(fake: &Fake, call: &Call, request: api::GetRequest) -> Result<api::GetResponse, Status> {
    let mut state = fake.state();
    let task = task(&mut state, call, &request.container_id, &request.exec_id)?;
    Ok(api::GetResponse {
        process: Some(view(&request.container_id, task)),
    })
}

fn list(fake: &Fake, call: &Call, _: api::ListTasksRequest) -> Result<api::ListTasksResponse, Status> {
    let mut state = fake.state();
    let tasks = state
        .of(call)?
        .tasks
        .iter()
        .map(|(id, task)| view(id, task))
        .collect();
    Ok(api::ListTasksResponse { tasks })
}

fn kill(fake: &Fake, call: &Call, request: api::KillRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let task = task(&mut state, call, &request.container_id, &request.exec_id)?;
    if task.phase == Phase::Stopped || task.signals.send(request.signal).is_err() {
        return Err(Status::not_found("process already finished: not found"));
    }
    Ok(())
}

fn close_io(fake: &Fake, call: &Call, request: api::CloseIoRequest) -> Result<(), Status> {
    let mut state = fake.state();
    let task = task(&mut state, call, &request.container_id, &request.exec_id)?;
    if request.stdin {
        task.stdin = None;
    }
    Ok(())
}

fn pause(fake: &Fake, call: &Call, request: api::PauseTaskRequest) -> Result<(), Status> {
    shift(
        fake,
        call,
        &request.container_id,
        "pause",
        Phase::Running,
        Phase::Paused,
    )?;
    let event = events::TaskPaused {
        container_id: request.container_id,
    };
    fake.publish(call.namespace()?, "/tasks/paused", &event);
    Ok(())
}

fn resume(fake: &Fake, call: &Call, request: api::ResumeTaskRequest) -> Result<(), Status> {
    shift(
        fake,
        call,
        &request.container_id,
        "resume",
        Phase::Paused,
        Phase::Running,
    )?;
    let event = events::TaskResumed {
        container_id: request.container_id,
    };
    fake.publish(call.namespace()?, "/tasks/resumed", &event);
    Ok(())
}

fn shift(fake: &Fake, call: &Call, id: &str, verb: &str, from: Phase, to: Phase) -> Result<(), Status> {
    let mut state = fake.state();
    let task = task(&mut state, call, id, "")?;
    if task.phase != from {
        return Err(refused(verb, task.phase));
    }
    task.phase = to;
    Ok(())
}

fn list_pids(
    fake: &Fake,
    call: &Call,
    request: api::ListPidsRequest,
) -> Result<api::ListPidsResponse, Status> {
    let mut state = fake.state();
    let task = task(&mut state, call, &request.container_id, "")?;
    Ok(api::ListPidsResponse {
        processes: vec![ProcessInfo {
            pid: task.pid,
            info: None,
        }],
    })
}

async fn wait(fake: Arc<Fake>, call: Call, request: api::WaitRequest) -> Result<api::WaitResponse, Status> {
    let mut exit = task(&mut fake.state(), &call, &request.container_id, &request.exec_id)?
        .exit
        .clone();
    let exit = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
    match exit {
        Ok(Some(exit)) => Ok(api::WaitResponse {
            exit_status: exit.status,
            exited_at: exit.at,
        }),
        _ => Err(not_found("task", &request.container_id)),
    }
}
