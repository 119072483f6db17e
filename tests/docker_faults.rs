//! The driver `docker` on an engine that breaks: answers are lost, refused or late, and what was begun is undone.

#![cfg(unix)]
#![expect(
    clippy::expect_used,
    reason = "a test fails by a panic that says what it expected"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fnctr::driver::{BackOffConfig, Config, Cookie, Driver as _, ErrorKind, Status, Task, retry_transient};
use fnctr::{Context, DockerDriver, DockerSettings};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// What the engine does with a request.
enum Does {
    /// It answers.
    Says(u16, Value),
    /// It answers after this time.
    Later(Duration, u16, Value),
    /// It answers once the container is removed, or after a minute.
    AtTheRemoval(u16, Value),
    /// It closes the connection.
    HangsUp,
}

type Rules = Arc<dyn Fn(&str, usize, &Value) -> Option<Does> + Send + Sync>;

/// An engine with one image, whose containers run until they are removed, except for what the rules say.
struct Engine {
    dir: TempDir,
    /// Method and path of each request, without the version.
    asked: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Engine {
    /// `rules` gets the request, how often it was made before, and its body.
    fn start(rules: impl Fn(&str, usize, &Value) -> Option<Does> + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("d.sock")).expect("a socket");
        let (asked, rules): (Arc<Mutex<Vec<String>>>, Rules) = (Arc::default(), Arc::new(rules));
        let mut server = JoinSet::new();
        let log = Arc::clone(&asked);
        server.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, rules) = (Arc::clone(&log), Arc::clone(&rules));
                clients.spawn(async move { drop(answer(stream, &log, &rules).await) });
            }
        });
        Self {
            dir,
            asked,
            _server: server,
        }
    }

    async fn driver(&self) -> DockerDriver {
        let config = Config {
            docker: format!("unix://{}/d.sock", self.dir.path().display()),
            ..Config::default()
        };
        let settings = DockerSettings {
            close_grace: Duration::from_secs(5),
            ..DockerSettings::default()
        };
        DockerDriver::connect(&ctx(), config, settings)
            .await
            .expect("a driver")
    }

    fn asked(&self, request: &str) -> usize {
        let asked = self.asked.lock().expect("a lock");
        asked.iter().filter(|known| known.starts_with(request)).count()
    }

    /// Waits until this was asked.
    async fn hears(&self, request: &str) {
        for _ in 0..1000 {
            if self.asked(request) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{request} was not asked: {:?}", self.asked.lock());
    }
}

async fn answer(stream: UnixStream, log: &Mutex<Vec<String>>, rules: &Rules) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    // A client may put a version of the API before the path.
    let bare = match path.strip_prefix("/v1.") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
        None => path,
    };
    let request = format!("{method} {bare}");
    let (before, is_removed) = {
        let mut log = log.lock().expect("a lock");
        log.push(request.clone());
        let last = |what: &str| log.iter().rposition(|known| known.starts_with(what));
        let is_removed = last("DELETE /containers/0123") > last("POST /containers/create");
        let before = log.iter().filter(|known| **known == request).count() - 1;
        (before, is_removed)
    };
    let does = rules(&request, before, &body);
    let does = does.unwrap_or_else(|| usual(&request, is_removed));
    let (status, value) = match does {
        Does::HangsUp => return Ok(()),
        Does::Says(status, value) => (status, value),
        Does::AtTheRemoval(status, value) => {
            let removals = || {
                let log = log.lock().expect("a lock");
                log.iter().filter(|known| known.starts_with("DELETE")).count()
            };
            let before = removals();
            for _ in 0..6000 {
                if removals() > before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (status, value)
        }
        Does::Later(time, status, value) => {
            tokio::time::sleep(time).await;
            (status, value)
        }
    };
    let text = if value.is_null() {
        String::new()
    } else {
        format!("{value}\n")
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}

fn usual(request: &str, is_removed: bool) -> Does {
    let running = json!({ "State": { "Running": true, "FinishedAt": "0001-01-01T00:00:00Z" } });
    match request {
        "GET /version" => Does::Says(200, json!({ "ApiVersion": "1.51", "Version": "28.5.2" })),
        "GET /images/busybox/json" => Does::Says(200, json!({ "Id": "sha256:aa" })),
        "POST /containers/create" => Does::Says(201, json!({ "Id": "0123", "Warnings": [] })),
        "GET /containers/0123/json" if !is_removed => Does::Says(200, running),
        "POST /containers/0123/wait" => Does::AtTheRemoval(200, json!({ "StatusCode": 137 })),
        "DELETE /containers/0123"
        | "POST /containers/0123/start"
        | "POST /containers/0123/pause"
        | "POST /containers/0123/unpause" => Does::Says(204, Value::Null),
        _ => Does::Says(404, json!({ "message": format!("no {request}") })),
    }
}

fn refused(status: u16, message: &str) -> Option<Does> {
    Some(Does::Says(status, json!({ "message": message })))
}

fn ctx() -> Context {
    Context::timeout(Duration::from_secs(30))
}

fn task(image: &str) -> Task {
    Task {
        id: "c1".to_owned(),
        image: image.to_owned(),
        disable_net: true,
        ..Task::default()
    }
}

async fn valid(driver: &DockerDriver) -> Box<dyn Cookie> {
    let cookie = driver
        .create_cookie(&ctx(), Arc::new(task("busybox")))
        .await
        .expect("a cookie");
    assert!(!cookie.validate_image(&ctx()).await.expect("to validate"));
    cookie
}

#[tokio::test]
async fn a_container_whose_creation_was_not_answered_is_found_by_its_label_and_removed() {
    let created: Arc<Mutex<Value>> = Arc::default();
    let seen = Arc::clone(&created);
    let engine = Engine::start(move |request, before, body| match request {
        "POST /containers/create" => {
            *seen.lock().expect("a lock") = body["Labels"].clone();
            Some(Does::HangsUp)
        }
        // Away for a moment.
        "GET /containers/json" if before == 0 => Some(Does::HangsUp),
        "GET /containers/json" => Some(Does::Says(200, json!([{ "Id": "0123", "Labels": {} }]))),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    let error = cookie.create_container(&ctx()).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    engine.hears("DELETE /containers/0123").await;
    assert!(created.lock().expect("a lock")["fn-agent-attempt"].is_string());
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn a_name_that_is_taken_leaves_its_owner_alone() {
    let taken = "Conflict. The container name \"/c1\" is already in use by container \"4567\".";
    let engine = Engine::start(move |request, _, _| match request {
        "POST /containers/create" => refused(409, taken),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    let error = cookie.create_container(&ctx()).await.expect_err("a conflict");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
    assert_eq!(engine.asked("DELETE"), 0);
}

#[tokio::test]
async fn a_freeze_that_fails_leaves_the_container_running() {
    let engine = Engine::start(|request, before, _| match request {
        "POST /containers/0123/pause" if before == 0 => refused(500, "the cgroup is busy"),
        "POST /containers/0123/pause" => refused(409, "Container 0123 is already paused"),
        "POST /containers/0123/unpause" => refused(500, "Container 0123 is not paused"),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    cookie.create_container(&ctx()).await.expect("to create");
    drop(cookie.run(&Context::new()).await.expect("to run"));
    let error = cookie.freeze(&ctx()).await.expect_err("to fail");
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert_eq!(engine.asked("POST /containers/0123/unpause"), 1);
    cookie.freeze(&ctx()).await.expect("what is frozen is frozen");
    cookie.unfreeze(&ctx()).await.expect("what runs runs");
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn the_end_of_the_caller_s_time_ends_a_step_whose_answer_is_out_and_a_close_undoes_it() {
    const LATE: Duration = Duration::from_secs(3);
    let engine = Engine::start(|request, before, _| match request {
        "POST /containers/create" if before == 0 => {
            Some(Does::Later(LATE, 201, json!({ "Id": "0123", "Warnings": [] })))
        }
        "POST /containers/0123/start" | "POST /containers/0123/pause" if before == 0 => {
            Some(Does::Later(LATE, 204, Value::Null))
        }
        _ => None,
    });
    let driver = engine.driver().await;
    let short = || Context::timeout(Duration::from_millis(100));
    let cookie = valid(&driver).await;
    let error = cookie
        .create_container(&short())
        .await
        .expect_err("no answer yet");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(engine.asked("DELETE"), 0);
    // Once the late one is removed, it can be created again.
    engine.hears("DELETE /containers/0123").await;
    cookie.create_container(&ctx()).await.expect("to create");
    let error = cookie.run(&short()).await.expect_err("no answer yet");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    cookie.close(&ctx()).await.expect("to close");
    assert_eq!(engine.asked("DELETE /containers/0123"), 2);

    let cookie = valid(&driver).await;
    cookie.create_container(&ctx()).await.expect("to create");
    drop(cookie.run(&Context::new()).await.expect("to run"));
    let error = cookie.freeze(&short()).await.expect_err("no answer yet");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    // Whoever is told of an error goes on using it.
    engine.hears("POST /containers/0123/unpause").await;
    cookie.freeze(&ctx()).await.expect("to freeze");
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
    assert_eq!(engine.asked("DELETE /containers/0123"), 3);
}

#[tokio::test]
async fn an_engine_that_goes_away_and_comes_back_tells_the_end_later() {
    let ended = json!({ "State": {
        "Running": false, "ExitCode": 3, "OOMKilled": false, "FinishedAt": "2026-11-23T19:00:23.271828Z",
    } });
    let engine = Engine::start(move |request, before, _| match (request, before) {
        ("POST /containers/0123/wait", 0) => Some(Does::HangsUp),
        // As an engine says that is shut down.
        ("POST /containers/0123/wait", 1) => Some(Does::Says(
            200,
            json!({ "Error": { "Message": "context canceled" }, "StatusCode": -1 }),
        )),
        ("GET /containers/0123/json", 0) => Some(Does::HangsUp),
        ("GET /containers/0123/json", _) => Some(Does::Says(200, ended.clone())),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    cookie.create_container(&ctx()).await.expect("to create");
    let wait = cookie.run(&Context::new()).await.expect("to run");
    let result = wait.wait(&ctx()).await;
    assert_eq!(
        (result.status(), result.exit_code()),
        (Status::Error, Some(3)),
        "{result:?}"
    );
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn a_removal_is_insisted_on() {
    let engine = Engine::start(|request, before, _| match (request, before) {
        ("DELETE /containers/0123", 0) => Some(Does::HangsUp),
        ("DELETE /containers/0123", 1) => refused(409, "removal of container 0123 is already in progress"),
        ("DELETE /containers/0123", 2) => refused(500, "device or resource busy"),
        ("DELETE /containers/0123", _) => refused(404, "No such container: 0123"),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    cookie.create_container(&ctx()).await.expect("to create");
    cookie.close(&ctx()).await.expect("to close");
    cookie.close(&ctx()).await.expect("to close again");
    assert_eq!(engine.asked("DELETE /containers/0123"), 4);
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn a_removal_that_fails_is_an_error_and_the_next_close_tries_again() {
    let engine = Engine::start(|request, before, _| match request {
        "DELETE /containers/0123" if before < 14 => refused(500, "device or resource busy"),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    cookie.create_container(&ctx()).await.expect("to create");
    let mut closes = 1;
    while let Err(error) = cookie.close(&ctx()).await {
        assert!(error.report().contains("device or resource busy"), "{error:?}");
        closes += 1;
    }
    assert!((2..=4).contains(&closes), "{closes}");
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn pulls_of_one_image_are_one_and_are_retried_by_the_policy() {
    let engine = Engine::start(|request, before, _| match (request, before) {
        ("POST /images/create", 0) => refused(500, "connection refused"),
        ("POST /images/create", 1) => Some(Does::Says(
            200,
            json!({ "errorDetail": { "message": "unexpected EOF" }, "error": "unexpected EOF" }),
        )),
        ("POST /images/create", _) => Some(Does::Later(
            Duration::from_millis(300),
            200,
            json!({ "status": "Status: Downloaded newer image" }),
        )),
        _ => None,
    });
    let driver = engine.driver().await;
    let policy = BackOffConfig {
        max_retries: 5,
        ..BackOffConfig::default()
    };
    driver
        .set_pull_image_retry_policy(policy, retry_transient())
        .expect("a policy");
    let pull = async || {
        let cookie = driver
            .create_cookie(&ctx(), Arc::new(task("r.io/a:1")))
            .await
            .expect("a cookie");
        assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
        let pulled = cookie.pull_image(&ctx()).await;
        cookie.close(&ctx()).await.expect("to close");
        pulled
    };
    let (one, two, three) = tokio::join!(pull(), pull(), pull());
    one.and(two).and(three).expect("to pull");
    assert_eq!(engine.asked("POST /images/create"), 3);
    assert_eq!(driver.pull_retries().values().sum::<u64>(), 2);
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn a_registry_s_refusal_keeps_its_code() {
    let engine = Engine::start(|request, _, _| match request {
        "POST /images/create" => refused(404, "manifest for r.io/a:1 not found: manifest unknown"),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = driver
        .create_cookie(&ctx(), Arc::new(task("r.io/a:1")))
        .await
        .expect("a cookie");
    assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
    let error = cookie.pull_image(&ctx()).await.expect_err("to fail");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::ImageNotFound, 404),
        "{error:?}"
    );
    let says = "Failed to pull image 'r.io/a:1': manifest for r.io/a:1 not found: manifest unknown";
    assert_eq!(error.report(), says);
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn an_image_that_vanishes_before_the_create_is_try_again() {
    let engine = Engine::start(|request, _, _| match request {
        "POST /containers/create" => refused(404, "No such image: busybox:latest"),
        _ => None,
    });
    let driver = engine.driver().await;
    let cookie = valid(&driver).await;
    let error = cookie.create_container(&ctx()).await.expect_err("it is gone");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Busy, 503), "{error:?}");
    cookie.close(&ctx()).await.expect("to close");
    driver.close(&ctx()).await.expect("to close");
}

#[tokio::test]
async fn an_engine_speaks_the_newest_version_that_both_know() {
    let engine = Engine::start(|request, before, _| match request {
        // As an engine that has dropped the oldest versions.
        "GET /version" if before == 0 => refused(400, "client version 1.40 is too old"),
        _ => None,
    });
    let driver = engine.driver().await;
    assert_eq!(engine.asked("GET /version"), 2);
    driver.close(&ctx()).await.expect("to close");
}
