//! The retry policy governs every request of a pull, and nothing below it tries again in silence.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{BackOffConfig, Driver as _, ErrorKind};

use crate::cli::run;
use crate::proxy::{Fate, Seen};
use crate::registry::{Image, Packed, digest};
use crate::rig::{Rig, ctx};

fn policy(max_retries: u64) -> BackOffConfig {
    BackOffConfig {
        max_retries,
        interval: 5,
        max_delay: 20,
        min_delay: 1,
    }
}

/// What fails, and with which code it ends.
fn failures() -> Vec<(&'static str, Fate, u16)> {
    vec![
        ("a 503", Fate::status("503 Service Unavailable", &[], ""), 502),
        ("a connection that is cut", Fate::Refuse, 502),
        (
            "a 429 that says when",
            Fate::status("429 Too Many Requests", &[("retry-after", "0")], ""),
            429,
        ),
        ("a 429", Fate::status("429 Too Many Requests", &[], ""), 429),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failed_request_for_a_blob_is_one_try_of_the_policy_and_seen_by_its_checker() {
    let Some(rig) = Rig::set("each_failed_request").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "policy", &[]);
    rig.registry.push("p", "1", &image);
    let name = rig.name("p:1");
    let blob = digest(&image.blobs().pop().expect("a layer").0);
    for (max_retries, requests) in [(0, 1), (2, 3)] {
        for (what, fate, code) in failures() {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&seen);
            let checker = Arc::new(move |why: &fnctr::driver::Error| {
                told.lock().expect("a lock").push(why.code());
                Some("again".to_owned())
            });
            rig.driver
                .set_pull_image_retry_policy(policy(max_retries), checker)
                .expect("a policy");
            let before = rig
                .driver
                .pull_retries()
                .get("again")
                .copied()
                .unwrap_or_default();
            let wanted = blob.clone();
            rig.proxy.reset();
            rig.proxy
                .break_next(usize::MAX, move |seen| seen.is_blob(&wanted), fate);
            let why = rig.pull(&name).await.expect_err(what);
            assert_eq!(why.code(), code, "{what}: {why:?}");
            assert_eq!(
                rig.proxy.count("GET", &blob),
                requests,
                "{what}, {max_retries} retries"
            );
            // It is asked about every failure, the last one too.
            let asked = seen.lock().expect("a lock").clone();
            assert_eq!(asked, vec![code; requests], "{what}");
            let counted = rig
                .driver
                .pull_retries()
                .get("again")
                .copied()
                .unwrap_or_default();
            assert_eq!(counted - before, max_retries, "{what}");
        }
    }
    // A checker that says no ends it at once, whatever the number of tries.
    let never = Arc::new(|_: &fnctr::driver::Error| None);
    rig.driver
        .set_pull_image_retry_policy(policy(9), never)
        .expect("a policy");
    rig.proxy.reset();
    let wanted = blob.clone();
    rig.proxy
        .break_next(usize::MAX, move |seen| seen.is_blob(&wanted), Fate::Refuse);
    rig.pull(&name).await.expect_err("no more tries");
    assert_eq!(rig.proxy.count("GET", &blob), 1);
    rig.proxy.reset();
    rig.pull(&name).await.expect("it is all over");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_a_manifest_that_fails_costs_no_more_than_a_head_and_the_get_that_decides() {
    let Some(rig) = Rig::set("a_manifest_that_fails").await else {
        return;
    };
    let name = rig.name("p:1");
    for (what, fate, code) in failures() {
        rig.proxy.reset();
        rig.proxy.break_next(usize::MAX, |_: &Seen| true, fate);
        let why = rig.pull(&name).await.expect_err(what);
        assert_eq!(why.code(), code, "{what}: {why:?}");
        let asked = rig.proxy.seen().len();
        assert!(asked <= 2, "{what}: {asked} requests");
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_survives_what_passes_by_itself() {
    let Some(rig) = Rig::set("the_command_line_survives").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "cli", &[]);
    rig.registry.push("p", "1", &image);
    let name = rig.name("p:1");
    let blob = digest(&image.blobs().pop().expect("a layer").0);
    for (fate, times) in [
        (Fate::status("503 Service Unavailable", &[], ""), 2),
        (
            Fate::status("429 Too Many Requests", &[("retry-after", "1")], ""),
            4,
        ),
    ] {
        let wanted = blob.clone();
        rig.proxy
            .break_next(times, move |seen| seen.is_blob(&wanted), fate);
        let (code, _, err) = run(&rig, &["pull", &name]);
        assert_eq!(code, 0, "{err}");
        rig.remove(&name);
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_times_out_says_what_it_waited_for() {
    let Some(rig) = Rig::set("a_pull_that_times_out").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "late", &[]);
    rig.registry.push("late", "1", &image);
    let name = rig.name("late:1");
    let address = rig.proxy.address();
    let always = Arc::new(|_: &fnctr::driver::Error| Some("again".to_owned()));
    rig.driver
        .set_pull_image_retry_policy(policy(9), always)
        .expect("a policy");
    let cookie = rig.cookie(&name).await;
    assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
    let soon = [("retry-after", "50")];
    let words = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"buy a plan"}]}"#;
    rig.proxy.break_next(
        usize::MAX,
        |_| true,
        Fate::status("429 Too Many Requests", &soon, words),
    );
    let late = cookie
        .pull_image(&Context::timeout(Duration::from_millis(700)))
        .await;
    let late = late.expect_err("too late");
    assert_eq!((late.kind(), late.code()), (ErrorKind::Timeout, 504));
    let expected = format!(
        "pulling image {name} from registry {address} was interrupted (the last failure: registry {address} limits how \
         often it is asked for manifest 1 of late: try again in 50 s: buy a plan): deadline exceeded"
    );
    assert_eq!(late.report(), expected);
    cookie.close(&ctx()).await.expect("to close");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrys_words_about_a_manifest_come_through_although_a_head_has_none() {
    let Some(rig) = Rig::set("a_registrys_words").await else {
        return;
    };
    let name = rig.name("words:1");
    let json = r#"{"errors":[{"code":"DENIED","message":"ask legal\u001b[31m first"}]}"#;
    for (line, body, words) in [
        ("401 Unauthorized", json, "ask legal [31m first"),
        ("403 Forbidden", json, "ask legal [31m first"),
        ("404 Not Found", json, "ask legal [31m first"),
        ("418 I'm a teapot", "short and stout\n", "short and stout"),
        ("429 Too Many Requests", json, "ask legal [31m first"),
        (
            "451 Unavailable For Legal Reasons",
            "not in your country",
            "not in your country",
        ),
        ("500 Internal Server Error", json, "ask legal [31m first"),
    ] {
        rig.proxy.reset();
        // A HEAD's answer has the head of a GET's, and no body.
        let (line, body) = (line.to_owned(), body.to_owned());
        let shown = line.clone();
        rig.proxy.plan(move |seen| {
            let body = if seen.method == "HEAD" { "" } else { &body };
            Fate::status(&line, &[], body)
        });
        let why = rig.pull(&name).await.expect_err(&shown);
        let status: u16 = shown[..3].parse().expect("a number");
        assert_eq!(why.code(), if status == 500 { 502 } else { status }, "{why:?}");
        assert!(why.report().ends_with(&format!(": {words}")), "{}", why.report());
        assert_eq!(rig.proxy.count("HEAD", ""), 1, "{shown}");
        assert_eq!(rig.proxy.count("GET", ""), 1, "{shown}");
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_head_and_serves_get_works() {
    let Some(rig) = Rig::set("a_registry_that_refuses_head").await else {
        return;
    };
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "405 Method Not Allowed",
        "501 Not Implemented",
    ] {
        let salt = status[..3].to_owned();
        let image = Image::busybox(Packed::OciGzip, &salt, &[]);
        rig.registry.push("get", &salt, &image);
        rig.proxy.break_next(
            usize::MAX,
            |seen| seen.method == "HEAD",
            Fate::status(status, &[], ""),
        );
        let name = rig.name(&format!("get:{salt}"));
        rig.pull(&name)
            .await
            .unwrap_or_else(|why| panic!("{status}: {why:?}"));
        assert_eq!(rig.cat(&name, "/etc/salt").await, salt);
    }
    // One that challenges a HEAD only, one that cuts it off, and one that answers with nothing of use.
    let challenge = [("www-authenticate", "Basic realm=x")];
    for (salt, fate) in [
        ("challenged", Fate::status("401 Unauthorized", &challenge, "")),
        ("cut", Fate::Refuse),
        ("empty", Fate::status("200 OK", &[], "")),
        (
            "gone",
            Fate::status("307 Temporary Redirect", &[("location", "/nowhere")], ""),
        ),
    ] {
        let image = Image::busybox(Packed::OciGzip, salt, &[]);
        rig.registry.push("get", salt, &image);
        let of_manifests = |seen: &Seen| seen.method == "HEAD" && seen.path.contains("/manifests/");
        rig.proxy.break_next(usize::MAX, of_manifests, fate);
        let name = rig.name(&format!("get:{salt}"));
        rig.pull(&name)
            .await
            .unwrap_or_else(|why| panic!("{salt}: {why:?}"));
        assert_eq!(rig.cat(&name, "/etc/salt").await, salt);
    }
    rig.strike().await;
}
