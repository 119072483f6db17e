//! What a real Engine (28.5.2) has answered to 300 requests, and what the server answers to the same: every difference is
//! in a list, with its reason.
//!
//! `fixtures/docker-wire/corpus.jsonl` has a request on each line and, if it is compared, the recorded answer.
//! `fixtures/docker-wire/differences.txt` has the differences. Ids, times, sizes and addresses are not compared. What Docker's own
//! description says of an answer holds, too, where it holds for the recorded one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::swagger::Swagger;
use super::wire::{Docker, Said, parse};
use crate::patience::patient;
use crate::world::Stage;

const CORPUS: &str = include_str!("../../../fixtures/docker-wire/corpus.jsonl");
const DIFFERENCES: &str = include_str!("../../../fixtures/docker-wire/differences.txt");

/// A difference between the recording and the server: where, and what.
type Found = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_from_a_real_engine_is_in_the_list_with_its_reason() {
    let Some(stage) = Stage::set("docker_corpus").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let (mut found, mut compared, mut described) = (Found::new(), 0, 0);
    let swagger = Swagger::read();
    let mut run = Run::new(&docker);
    // What an inspection has shown after a start, in the recording.
    let mut state: Option<(String, Value)> = None;
    for line in CORPUS.lines() {
        let step: Value = serde_json::from_str(line).expect("a step");
        let said = run.step(&step);
        if let Some(said) = said
            && let (Some(probe), Some(recorded)) = (step["probe"].as_str(), step.get("answer"))
        {
            compared += 1;
            compare(probe, recorded, &said, &mut found);
            described += usize::from(describe(&swagger, &step, recorded, &said, &mut found));
            state = recorded
                .get("state")
                .map(|state| (probe.to_owned(), state.clone()));
        } else if let (Some((probe, theirs)), "/containers/st1/json") =
            (&state, step["path"].as_str().unwrap_or(""))
        {
            let mut all = Found::new();
            json_differences(".State", theirs, &run.state(), &mut all);
            found.extend(
                all.into_iter()
                    .map(|(at, what)| (format!("{probe} | {at}"), what)),
            );
        }
    }
    println!(
        "{compared} answers compared, {described} held against Docker's description, {} differences",
        found.len()
    );
    let listed = Listed::read();
    let unlisted: Vec<_> = found
        .iter()
        .filter(|(at, _)| listed.reason(at).is_none())
        .map(|(at, what)| format!("{at} | {what}"))
        .collect();
    if let Ok(file) = std::env::var("FNCTR_WIRE_DIFFERENCES") {
        std::fs::write(file, unlisted.join("\n")).expect("to write the differences");
    }
    assert!(
        unlisted.is_empty(),
        "{} differences are not in the list:\n{}",
        unlisted.len(),
        unlisted.join("\n")
    );
    let stale = listed.stale(&found);
    assert!(stale.is_empty(), "no such differences any more: {stale:#?}");
    assert!(compared >= 250, "only {compared} answers were compared");
    docker.end();
    // Made when a network was first looked for.
    std::fs::remove_dir_all(stage.real.dir().join("cli/sandboxes")).expect("to remove it");
    stage.strike().await;
}

/// The requests, one after the other.
struct Run<'a> {
    docker: &'a Docker,
    /// The id of the container that was made last, if it was made.
    last: Option<String>,
    /// The ids of execs, by the number of the request; `none` for those that Docker refuses.
    execs: BTreeMap<u64, String>,
    image: String,
}

impl<'a> Run<'a> {
    fn new(docker: &'a Docker) -> Self {
        let image = docker.get("/images/busybox/json").json();
        let image = image["Id"].as_str().expect("an id").to_owned();
        Self {
            docker,
            last: None,
            execs: BTreeMap::new(),
            image,
        }
    }

    /// Makes a request; `None` if it is one about a container that was not made.
    fn step(&mut self, step: &Value) -> Option<Said> {
        let text = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
        let (method, mut path) = (text("method"), text("path"));
        if path.contains("{last}") {
            path = path.replace("{last}", self.last.take()?.as_str());
        }
        if let Some((before, rest)) = path.split_once("{exec:") {
            let (number, after) = rest.split_once('}').expect("a number");
            // What is not served has no answer to go on with.
            let exec = self.execs.get(&number.parse::<u64>().expect("a number"))?;
            path = format!("{before}{exec}{after}");
        }
        let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs();
        path = path
            .replace("{image}", &self.image)
            .replace("{ago}", &(now - 30).to_string())
            .replace("{now}", &now.to_string());
        let version = if step["versioned"] == json!(true) {
            "/v1.51"
        } else {
            ""
        };
        let mut body = step["body"].as_str().map(str::to_owned);
        let is_create = method == "POST" && path.starts_with("/containers/create");
        if is_create && path.contains("name=") {
            body = body.map(|body| without_network(&body));
        }
        let headers = step["headers"].as_object().cloned().unwrap_or_default();
        // An answer that had no end in the recording has none here, so one second is as good as a minute.
        let is_endless = step["answer"]["body"]
            .as_str()
            .is_some_and(|body| body.contains("<<TIMEOUT>>"));
        let limit = match is_endless {
            true => Duration::from_secs(1),
            false => patient(Duration::from_secs(30)),
        };
        let said = self.ask(
            &method,
            &format!("{version}{path}"),
            &headers,
            body.as_deref(),
            limit,
        );
        if let Some(number) = step["exec"].as_u64() {
            let made = serde_json::from_slice::<Value>(&said.body).ok();
            let made = made.and_then(|made| made["Id"].as_str().map(str::to_owned));
            let is_refused = step["answer"]["status"]
                .as_u64()
                .is_some_and(|status| status != 201);
            let id = made.or_else(|| is_refused.then(|| "none".to_owned()));
            self.execs.extend(id.map(|id| (number, id)));
        }
        if is_create {
            self.last = serde_json::from_slice::<Value>(&said.body)
                .ok()
                .and_then(|said| said["Id"].as_str().map(str::to_owned));
        }
        Some(said)
    }

    /// The state of the container that could not be started.
    fn state(&self) -> Value {
        self.docker.get("/containers/st1/json").json()["State"].clone()
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &serde_json::Map<String, Value>,
        body: Option<&str>,
        limit: Duration,
    ) -> Said {
        let mut all: BTreeMap<&str, String> =
            [("Host", "x".to_owned()), ("Connection", "close".to_owned())].into();
        if let Some(body) = body {
            all.insert("Content-Length", body.len().to_string());
        }
        for (name, value) in headers {
            all.insert(name, value.as_str().unwrap_or_default().to_owned());
        }
        let head: String = all
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{head}\r\n{}",
            body.unwrap_or_default()
        );
        let mut stream = self.docker.connect();
        stream.set_read_timeout(Some(limit)).expect("a limit");
        stream.write_all(request.as_bytes()).expect("to ask");
        let (mut said, mut part) = (Vec::new(), [0; 65536]);
        loop {
            match stream.read(&mut part) {
                Ok(0) => return parse(&said),
                Ok(read) => said.extend_from_slice(&part[..read]),
                Err(_) if said.is_empty() => {
                    return Said {
                        status: 0,
                        head: String::new(),
                        body: b"<<TIMEOUT>>".to_vec(),
                    };
                }
                Err(_) => {
                    said.extend_from_slice(b"<<TIMEOUT>>");
                    return parse(&said);
                }
            }
        }
    }
}

/// Containers that run have no network here, where one of the host's could be in use.
fn without_network(body: &str) -> String {
    let mut body: Value = serde_json::from_str(body).expect("JSON");
    let host = &mut body["HostConfig"];
    if host.get("NetworkMode").is_none() {
        host["NetworkMode"] = json!("none");
    }
    body.to_string()
}

fn compare(probe: &str, recorded: &Value, said: &Said, found: &mut Found) {
    let mut differs = |at: &str, what: String| {
        found.insert(format!("{probe} | {at}"), what);
    };
    let status = recorded["status"].as_u64().unwrap_or_default();
    if status != u64::from(said.status) {
        let words = String::from_utf8_lossy(&said.body);
        let words: String = words.chars().take(160).collect();
        differs("status", format!("{status} → {} {words}", said.status));
        return;
    }
    let headers = |lines: Vec<String>| -> BTreeSet<String> { lines.into_iter().collect() };
    let theirs = recorded["headers"].as_array().cloned().unwrap_or_default();
    let theirs = headers(
        theirs
            .iter()
            .filter_map(|line| line.as_str().map(str::to_owned))
            .filter(|line| is_compared(line))
            .collect(),
    );
    let ours = headers(
        said.head
            .lines()
            .skip(1)
            .filter(|line| is_compared(line))
            .map(str::to_owned)
            .collect(),
    );
    for line in theirs.symmetric_difference(&ours) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let who = if theirs.contains(line) { "theirs" } else { "ours" };
        differs(&format!("header {name}"), format!("{who}:{value}"));
    }
    let theirs = recorded["body"].as_str().unwrap_or_default();
    let ours = String::from_utf8_lossy(&said.body).into_owned();
    match (
        serde_json::from_str::<Value>(theirs),
        serde_json::from_str::<Value>(&ours),
    ) {
        (Ok(theirs), Ok(ours)) => {
            let mut all = Found::new();
            json_differences("", &theirs, &ours, &mut all);
            // Of statistics, only the fields are compared.
            let is_measured = |what: &str| {
                probe.starts_with("stats ") && what.split(" → ").all(|part| part.parse::<f64>().is_ok())
            };
            for (at, what) in all.into_iter().filter(|(_, what)| !is_measured(what)) {
                differs(&at, what);
            }
        }
        // Cut off in the recording: what there is of it.
        _ if theirs.len() > 300 => {}
        _ => {
            let of = |text: &str| masked(&by_stream(text.trim_end()));
            let (theirs, ours) = (of(theirs), of(&ours));
            if theirs != ours {
                differs("body", format!("{theirs:?} → {ours:?}"));
            }
        }
    }
}

/// Frames of output, first those of one stream and then those of the other: which of two streams is read first is chance.
/// Any other text stays as it is.
fn by_stream(text: &str) -> String {
    let mut streams = BTreeMap::<char, String>::new();
    let mut rest = text;
    while let Some((kind @ ('\u{1}' | '\u{2}'), [0, 0, 0, length @ ..])) =
        rest.chars().next().zip(rest.as_bytes().get(1..8))
    {
        let length = length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        // The newline at the very end was cut off, and a length that is no text is no longer what it was.
        let end = rest.len().min(8 + length);
        let Some(payload) = rest.get(8..end) else {
            return text.to_owned();
        };
        streams.entry(kind).or_default().push_str(payload);
        rest = &rest[end..];
    }
    match streams.is_empty() || !rest.is_empty() {
        true => text.to_owned(),
        false => streams
            .iter()
            .map(|(kind, text)| format!("{:?} {}\n", kind, text.trim_end()))
            .collect(),
    }
}

/// Notes where an answer is not as Docker describes its own, unless the recorded one is not either. Returns whether it is
/// described.
fn describe(swagger: &Swagger, step: &Value, recorded: &Value, said: &Said, found: &mut Found) -> bool {
    let (Some(probe), Some(method), Some(path)) = (
        step["probe"].as_str(),
        step["method"].as_str(),
        step["path"].as_str(),
    ) else {
        return false;
    };
    let Ok(ours) = serde_json::from_slice(&said.body) else {
        return false;
    };
    let Some(violations) = swagger.violations(method, path, said.status, &ours) else {
        return false;
    };
    let theirs = recorded["body"]
        .as_str()
        .and_then(|body| serde_json::from_str(body).ok());
    let theirs = theirs.and_then(|theirs| swagger.violations(method, path, said.status, &theirs));
    let theirs = theirs.unwrap_or_default();
    for (at, what) in violations {
        if !theirs.contains_key(&at) {
            found.insert(format!("{probe} | described {at}"), what);
        }
    }
    true
}

/// Headers that say nothing, or are of the connection.
fn is_compared(line: &str) -> bool {
    const OTHERS: [&str; 9] = [
        "date",
        // A file's size and time, in base 64; `copies` looks into it.
        "x-docker-container-path-stat",
        "server",
        "api-version",
        "docker-experimental",
        "ostype",
        "content-length",
        "transfer-encoding",
        "connection",
    ];
    let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    !OTHERS.contains(&name.as_str())
}

/// Numbers that are different on each host and at each time.
const MEASURED: [&str; 14] = [
    "Created",
    "Size",
    "SharedSize",
    "VirtualSize",
    "Pid",
    "MemTotal",
    "NCPU",
    "NFd",
    "NGoroutines",
    "time",
    "timeNano",
    "value",
    "SizeRw",
    "UsageData",
];

fn json_differences(at: &str, theirs: &Value, ours: &Value, found: &mut Found) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
            for name in names {
                let at = format!("{at}.{}", masked(name));
                match (theirs.get(name), ours.get(name)) {
                    (Some(theirs), Some(ours)) => {
                        let is_measured =
                            MEASURED.contains(&name.as_str()) && theirs.is_number() == ours.is_number();
                        if !is_measured {
                            json_differences(&at, theirs, ours, found);
                        }
                    }
                    (Some(theirs), None) => drop(found.insert(at, format!("missing: {}", short(theirs)))),
                    (None, Some(ours)) => drop(found.insert(at, format!("added: {}", short(ours)))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (theirs, ours) in theirs.iter().zip(ours) {
                json_differences(&format!("{at}[]"), theirs, ours, found);
            }
        }
        (Value::String(theirs), Value::String(ours)) if masked(theirs) == masked(ours) => {}
        (theirs, ours) if theirs == ours => {}
        (theirs, ours) => drop(found.insert(at.to_owned(), format!("{} → {}", short(theirs), short(ours)))),
    }
}

fn short(value: &Value) -> String {
    let text = masked(&value.to_string());
    text.chars().take(160).collect()
}

/// A text without ids and times, as in the recording.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.') {
            word.push(c);
            continue;
        }
        out.push_str(&masked_word(&word));
        word.clear();
        out.push(c);
    }
    out.pop();
    without_ages(&out)
}

/// A text without ages, which depend on how busy the host is.
fn without_ages(text: &str) -> String {
    let text = ["Less than a second", "About a minute"]
        .iter()
        .fold(text.to_owned(), |text, age| text.replace(age, "AGE"));
    let words: Vec<_> = text.split(' ').collect();
    let (mut out, mut rest) = (Vec::new(), words.as_slice());
    while let [word, after @ ..] = rest {
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let unit = after.first().map(|unit| unit.trim_end_matches(['"', '\\']));
        if is_number && unit.is_some_and(|unit| ["second", "seconds", "minutes"].contains(&unit)) {
            let end = after[0].trim_start_matches(char::is_alphabetic);
            out.push(format!("AGE{end}"));
            rest = &after[1..];
        } else {
            out.push((*word).to_owned());
            rest = after;
        }
    }
    out.join(" ")
}

fn masked_word(word: &str) -> String {
    let hex = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let parts: Vec<_> = word
        .split(':')
        .map(|part| match part.len() {
            64 if hex(part) => "ID",
            12 if hex(part) => "SID",
            _ => part,
        })
        .collect();
    let word = parts.join(":");
    let is_time = word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    if is_time { "TIME".to_owned() } else { word }
}

/// The list: on each line `PROBE | WHERE | reason`, where `*` stands for anything.
struct Listed(Vec<[String; 3]>);

impl Listed {
    fn read() -> Self {
        let lines = DIFFERENCES
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let each = lines.map(|line| {
            let parts: Vec<_> = line.splitn(3, " | ").map(|part| part.trim().to_owned()).collect();
            parts
                .try_into()
                .unwrap_or_else(|_| panic!("no reason is given: {line}"))
        });
        Self(each.collect())
    }

    fn reason(&self, at: &str) -> Option<&str> {
        let (probe, place) = at.split_once(" | ")?;
        let found = self
            .0
            .iter()
            .find(|[probes, places, _]| matches(probes, probe) && matches(places, place));
        found.map(|[_, _, reason]| reason.as_str())
    }

    fn stale(&self, found: &Found) -> Vec<String> {
        let is_used = |[probes, places, _]: &&[String; 3]| {
            found.keys().any(|at| {
                at.split_once(" | ")
                    .is_some_and(|(probe, place)| matches(probes, probe) && matches(places, place))
            })
        };
        // The clock or the host may agree with the recording.
        let is_sure = |line: &&[String; 3]| !line[2].starts_with("at times");
        let unused = self.0.iter().filter(is_sure).filter(|line| !is_used(line));
        unused.map(|line| line.join(" | ")).collect()
    }
}

/// Whether a text is as a pattern says.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]))
        }),
    }
}
