//! `POST /containers/create`.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::body::Body;
use super::front::Front;
use super::mounts::{Lender, Lent};
use super::plan::{Around, plan};
use super::{health, log_driver, mounts, names, ports};
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::image_names;
use crate::docker_api::networks::configured_name;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{Image, Kind, LogPlan, Network, Plan, Platform, Served, Unlimited};
use crate::{ContainerId, ContainerName, Context};

/// How often a name is made up before that counts as hopeless.
const TRIES: u32 = 20;
/// How many of these are tried if other clients take them.
const NAMES: u32 = 3;

/// Creates a container; the image must be there. It comes to its end whether or not the client waits for it.
pub(in crate::docker_api) async fn create(door: &Arc<Door>, request: Request) -> Result<Answer, Refused> {
    let given_name = request.query.get("name").map(names::given).transpose()?;
    let platform = image_names::platform(request.query.get("platform"))?;
    let mut body = Body::read(&request.json()?)?;
    body.config.healthcheck.as_ref().map(health::check).transpose()?;
    log_driver::complete(&mut body.host_config.log_config, &door.default_log);
    log_driver::check(&body.host_config.log_config)?;
    let this = Arc::clone(door);
    let create = async move { create_now(&this, body, given_name, platform).await };
    let served = door.finish(create).await?;
    Ok(Answer::json(
        StatusCode::CREATED,
        &json!({ "Id": served.id().as_str(), "Warnings": [] }),
    ))
}

async fn create_now(
    door: &Arc<Door>,
    mut body: Body,
    given_name: Option<ContainerName>,
    platform: Option<Platform>,
) -> Result<Arc<Served>, Refused> {
    let reference = image_names::reference(&body.config.image)?;
    let is_made_up = given_name.is_none();
    let around = Around {
        id: ContainerId::random(),
        name: match given_name {
            Some(name) => name,
            None => free_name(door)?,
        },
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        joined: joined(door, &body.host_config.network_mode)?,
        lent: lent(door, &body.host_config.volumes_from)?,
    };
    let mut plan = plan(&body, reference, around)?;
    if let Network::Attached { networks, .. } = &mut plan.network
        && let [named] = networks.as_mut_slice()
    {
        let (name, has_names) = configured_name(door, named).await?;
        if !has_names && !body.aliases.is_empty() {
            return Err(Refused::bad(format!(
                "EndpointsConfig[{name}].Aliases: fnctr serves names on networks that it has configured, and this one is another \
                 program's; leave them out"
            )));
        }
        *named = name;
        plan.aliases = plan.aliases.filter(|_| has_names);
    }
    let ctx = Context::new();
    // An id, or the beginning of one, is as good as a name.
    let found = door.engine.resolve(&ctx, &plan).await?;
    let (image, _pin) = match found {
        Some(found) => found,
        None => {
            plan.image = image_names::named_by_id(door, &ctx, &body.config.image).await?;
            let found = door.engine.resolve(&ctx, &plan).await?;
            found.ok_or_else(|| image_names::no_such_image(&body.config.image))?
        }
    };
    if let Some(platform) = platform.filter(|platform| *platform != Platform::host()) {
        let (given, host) = (&body.config.image, Platform::host());
        return Err(Refused::missing(format!(
            "image with reference {given} was found but its platform ({host}) does not match the specified platform \
             ({platform})"
        )));
    }
    let declared = body
        .config
        .exposed_ports
        .iter()
        .chain(&image.config.exposed_ports);
    body.config.exposed_ports = ports::declared_by_all(declared);
    match &mut plan.network {
        Network::Attached { ports, .. } if body.host_config.publish_all_ports => {
            ports::publish_all(ports, &body.config.exposed_ports)?;
        }
        _ => {}
    }
    body.config.volumes = mounts::declared_by_all(&body.config.volumes, &image.config.volumes);
    mounts::add_declared(&mut plan, &body.config.volumes)?;
    body.config.healthcheck = health::merged(body.config.healthcheck.as_ref(), image.config.health.as_ref());
    plan.health = health::plan(body.config.healthcheck.as_ref());
    let host = body.host_config.clone();
    // A directory on a file server that is away blocks whoever looks at it.
    let prepared = tokio::task::spawn_blocking(move || mounts::prepare(&host)).await;
    prepared.map_err(|error| Refused::failed(error.to_string()))??;
    let front = front(&body, &image);
    let env = front.env.iter().filter_map(|line| line.split_once('='));
    let env = env
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let log = log_driver::json_file(&body.host_config.log_config, &body.config.labels, &env)?;
    plan.log = log.map(LogPlan::new);
    plan.front = front.to_value();
    let tries = if is_made_up { NAMES } else { 1 };
    made(door, &ctx, plan, image, tries).await
}

/// Makes the container, under one of so many made-up names: other clients may be given the same one at the same time.
async fn made(
    door: &Door,
    ctx: &Context,
    mut plan: Plan,
    image: Image,
    mut tries: u32,
) -> Result<Arc<Served>, Refused> {
    loop {
        tries -= 1;
        let made = door.server.create(ctx, plan.clone(), image.clone()).await;
        if tries > 0 && made.as_ref().is_err_and(|error| error.kind() == Kind::Conflict) {
            plan.name = Some(free_name(door)?);
            continue;
        }
        return made.map_err(|error| match (error.kind(), &plan.name) {
            (Kind::Conflict, Some(name)) => names::taken(door, name),
            (Kind::Unsupported, _) if is_unlimited(&error) => Refused::failed(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            ),
            _ => error.into(),
        });
    }
}

fn is_unlimited(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<Unlimited>())
}

/// What later answers show of the body and the image.
fn front(body: &Body, image: &Image) -> Front {
    let config = &body.config;
    let (cmd, entrypoint) = match (&config.entrypoint, &config.cmd) {
        (Some(entrypoint), cmd) => (cmd.clone(), Some(entrypoint.clone())),
        (None, Some(cmd)) if !cmd.is_empty() => (Some(cmd.clone()), some(&image.config.entrypoint)),
        (None, _) => (some(&image.config.cmd), some(&image.config.entrypoint)),
    };
    let or = |asked: &str, of_image: &Option<String>| match (asked, of_image) {
        ("", Some(of_image)) => of_image.clone(),
        (asked, _) => asked.to_owned(),
    };
    Front {
        image_id: image.config_digest.to_string(),
        env: environment(&config.env, &image.config.env),
        cmd,
        entrypoint,
        user: or(&config.user, &image.config.user),
        working_dir: or(&config.working_dir, &image.config.working_dir),
        body: body.clone(),
    }
}

fn some(words: &[String]) -> Option<Vec<String>> {
    Some(words.to_vec()).filter(|words| !words.is_empty())
}

/// The body's variables, and those of the image that it does not name.
fn environment(asked: &[String], of_image: &[String]) -> Vec<String> {
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let named: Vec<_> = asked.iter().map(|line| name(line)).collect();
    let kept = of_image.iter().filter(|line| !named.contains(&name(line)));
    asked.iter().chain(kept).cloned().collect()
}

fn free_name(door: &Door) -> Result<ContainerName, Refused> {
    let mut made = (0..TRIES).filter_map(|_| names::made_up());
    let free = made.find(|name| door.server.find(name.as_str()).is_err());
    free.ok_or_else(|| Refused::failed("cannot find a name that no container has; give one"))
}

/// The container whose network is to be joined. One that does not exist is refused at the start, as in Docker.
fn joined(door: &Door, mode: &str) -> Result<Option<ContainerId>, Refused> {
    let Some(given) = mode.strip_prefix("container:") else {
        return Ok(None);
    };
    match door.container(given) {
        Ok(served) => Ok(Some(served.id().clone())),
        Err(_) => Ok(ContainerId::new(given).ok()),
    }
}

/// The containers that lend what they mount.
fn lent(door: &Door, entries: &[String]) -> Result<Vec<Lent>, Refused> {
    let each = entries.iter().map(|entry| {
        let lender = Lender::read(entry)?;
        // Docker takes a name that is not there for a part of a wrong request.
        let served = door.container(lender.container);
        let served = served.map_err(|refused| Refused::bad(refused.message))?;
        Ok(lender.lends(served.plan()?))
    });
    each.collect()
}

/// The networks of a plan, as a client writes them.
pub(super) fn network_mode(plan: &Plan) -> String {
    match &plan.network {
        Network::None | Network::Path(_) => "none".to_owned(),
        Network::Host => "host".to_owned(),
        Network::Of(id) => format!("container:{id}"),
        Network::Attached { networks, .. } => networks.first().map_or("bridge", String::as_str).to_owned(),
    }
}
