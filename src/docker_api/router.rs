//! The pages of the API, on one screen.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{LOCATION, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};

use super::answer::{self, Answer, Body};
use super::door::Door;
use super::query::{Query, unescaped};
use super::refused::Refused;
use super::request::{Payload, Request};
use super::version::{ApiVersion, NotServed};
use super::{containers, events, execs, images, networks, system, volumes};
use crate::Context;

/// Answers a request.
pub(super) async fn route(request: hyper::Request<Incoming>, door: Arc<Door>, client: Context) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path.contains("//") {
        let clean: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let moved = Answer::empty(StatusCode::MOVED_PERMANENTLY);
        return moved.with(LOCATION, &format!("/{}", clean.join("/")));
    }
    let (version, rest) = match ApiVersion::of_path(path) {
        Ok(found) => found,
        Err(why) => return not_served(&why),
    };
    let body = match is_archive(&head.method, rest) {
        true => Payload::Streamed(body),
        false => match Payload::read(body).await {
            Ok(read) => read,
            Err(refused) => return Answer::Http(answer::refusal(&refused)),
        },
    };
    let request = Request {
        path: rest.to_owned(),
        version,
        query: Query::parse(head.uri.query().unwrap_or_default()),
        method: head.method.clone(),
        headers: head.headers,
        body,
        client,
    };
    let is_head = head.method == Method::HEAD;
    let mut answered = match page(request, &door).await {
        Ok(answer) => answer,
        Err(refused) => {
            let mut response = answer::refusal(&refused);
            if refused != Refused::no_page() {
                answer::add_common(&mut response);
            }
            return Answer::Http(response);
        }
    };
    if let Answer::Http(response) = &mut answered {
        answer::add_common(response);
        if is_head {
            keep_head(response);
        }
    }
    answered
}

/// Calls the handler of a page.
async fn page(request: Request, door: &Arc<Door>) -> Result<Answer, Refused> {
    let path = request.path.clone();
    let parts: Vec<String> = path.split('/').skip(1).map(unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let method = request.method.clone();
    match (method.as_str(), parts.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => Ok(system::ping(method == Method::HEAD)),
        ("GET", ["version"]) => system::version(door).await,
        ("GET", ["info"]) => system::info(door).await,
        ("GET", ["events"]) => events::events(door, &request),
        ("GET", ["plugins"]) => Ok(system::plugins()),
        ("GET", ["containers", "json"]) => containers::list(door, &request).await,
        ("POST", ["containers", "create"]) => containers::create(door, request).await,
        ("POST", ["containers", "prune"]) => containers::prune(door, &request).await,
        ("GET", ["containers", id, "json"]) => containers::inspect(door, id).await,
        ("GET", ["containers", id, "top"]) => containers::top(door, id, &request).await,
        ("GET", ["containers", id, "stats"]) => containers::stats(door, id, &request).await,
        ("GET", ["containers", id, "logs"]) => containers::logs(door, id, &request).await,
        ("POST", ["containers", id, "start"]) => containers::start(door, id, &request).await,
        ("POST", ["containers", id, "stop"]) => containers::stop(door, id, &request).await,
        ("POST", ["containers", id, "restart"]) => containers::restart(door, id, &request).await,
        ("POST", ["containers", id, "kill"]) => containers::kill(door, id, &request).await,
        ("POST", ["containers", id, "rename"]) => containers::rename(door, id, &request).await,
        ("POST", ["containers", id, "update"]) => containers::update(door, id, &request).await,
        ("HEAD", ["containers", id, "archive"]) => containers::stat_path(door, id, &request).await,
        ("GET", ["containers", id, "archive"]) => containers::copy_from(door, id, &request).await,
        ("PUT", ["containers", id, "archive"]) => containers::copy_to(door, id, request).await,
        ("GET", ["containers", id, "export"]) => containers::export(door, id, &request).await,
        ("POST", ["containers", id, "pause"]) => containers::pause(door, id).await,
        ("POST", ["containers", id, "unpause"]) => containers::unpause(door, id).await,
        ("POST", ["containers", id, "wait"]) => containers::wait(door, id, &request),
        ("POST", ["containers", id, "attach"]) => containers::attach(door, id, request).await,
        ("POST", ["containers", id, "resize"]) => containers::resize(door, id, &request).await,
        ("POST", ["containers", id, "exec"]) => execs::create(door, id, request).await,
        ("POST", ["exec", id, "start"]) => execs::start(door, id, request).await,
        ("POST", ["exec", id, "resize"]) => execs::resize(door, id, &request).await,
        ("GET", ["exec", id, "json"]) => execs::inspect(door, id),
        ("DELETE", ["containers", id]) => containers::remove(door, id, &request).await,
        ("GET", ["images", "json"]) => images::list(door, &request).await,
        ("POST", ["images", "create"]) => images::pull(door, request).await,
        ("POST", ["images", "load"]) => images::load(door, request).await,
        ("POST", ["images", "prune"]) => images::prune(door, &request).await,
        ("GET", ["images", "get"]) => {
            images::save(door, request.query.all("names").map(str::to_owned).collect()).await
        }
        ("GET", ["images", name @ .., "json"]) => images::inspect(door, &name.join("/")).await,
        ("GET", ["images", name @ .., "history"]) => images::history(door, &name.join("/")).await,
        ("GET", ["images", name @ .., "get"]) => images::save(door, vec![name.join("/")]).await,
        ("POST", ["images", name @ .., "tag"]) => images::tag(door, &name.join("/"), &request).await,
        ("DELETE", ["images", name @ ..]) if !name.is_empty() => {
            images::remove(door, &name.join("/"), &request).await
        }
        ("GET", ["networks"]) => networks::list(door, &request).await,
        ("POST", ["networks", "create"]) => networks::create(door, &request).await,
        ("POST", ["networks", "prune"]) => networks::prune(door, &request).await,
        ("GET", ["networks", name]) => networks::inspect(door, name, &request).await,
        ("DELETE", ["networks", name]) => networks::remove(door, name).await,
        ("GET", ["volumes"]) => volumes::list(door, &request).await,
        ("POST", ["volumes", "create"]) => volumes::create(door, &request).await,
        ("POST", ["volumes", "prune"]) => volumes::prune(door, &request).await,
        ("GET", ["volumes", name]) => volumes::inspect(door, name).await,
        ("DELETE", ["volumes", name]) => volumes::remove(door, name, &request).await,
        (method, parts) => Err(system::absent(door, method, parts)),
    }
}

/// Whether the body of a request is an archive, which may be long.
fn is_archive(method: &Method, path: &str) -> bool {
    match *method {
        Method::POST => path == "/images/load",
        Method::PUT => path.starts_with("/containers/") && path.ends_with("/archive"),
        _ => false,
    }
}

fn not_served(why: &NotServed) -> Answer {
    match why {
        // Clients of that age read text.
        NotServed::TooOld(_) => {
            Answer::text(StatusCode::BAD_REQUEST, format!("{why}\n")).with(X_CONTENT_TYPE_OPTIONS, "nosniff")
        }
        NotServed::TooNew(_) => Answer::Http(answer::refusal(&Refused::bad(why.to_string()))),
    }
}

/// The answer to HEAD has no body.
fn keep_head(response: &mut Response<Body>) {
    use http_body_util::{BodyExt as _, Empty};

    *response.body_mut() = Empty::new().map_err(|never| match never {}).boxed_unsync();
}
