//! What networks and registries do: each fault ends in success after more tries, or in one clear error with nothing left.

use std::time::Duration;

use tokio::time::Instant;

use fnctr::driver::{BackOffConfig, Driver as _, ErrorKind, retry_transient};

use crate::proxy::{Fate, Seen};
use crate::registry::{Image, Packed, digest};
use crate::rig::{Rig, World};

async fn rig(test: &str) -> Option<(Rig, Image, World)> {
    let rig = Rig::set(test).await?;
    let image = Image::busybox(Packed::OciGzip, test, &[2 << 20]);
    rig.registry.push("f", "1", &image);
    let before = rig.world();
    Some((rig, image, before))
}

/// The requests for the last layer of an image.
fn last(image: &Image) -> impl Fn(&Seen) -> bool + Send + use<> {
    let (blob, _) = image.blobs().pop().expect("a layer");
    let digest = digest(&blob);
    move |seen| seen.is_blob(&digest)
}

fn manifests(seen: &Seen) -> bool {
    seen.path.contains("/manifests/")
}

/// Which requests a fate is for.
type Which = Box<dyn Fn(&Seen) -> bool + Send>;

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_itself_is_waited_for() {
    let Some((rig, image, before)) = rig("what_passes_by_itself").await else {
        return;
    };
    let name = rig.name("f:1");
    let patient = BackOffConfig {
        max_retries: 5,
        interval: 10,
        max_delay: 50,
        min_delay: 10,
    };
    rig.driver
        .set_pull_image_retry_policy(patient, retry_transient())
        .expect("a policy");
    let server_error = Fate::status("500 Internal Server Error", &[], "oops");
    let soon = Fate::status("429 Too Many Requests", &[("retry-after", "1")], "");
    let challenge = Fate::status("401 Unauthorized", &[("www-authenticate", "Basic realm=x")], "");
    let cases: Vec<(&str, usize, Which, Fate)> = vec![
        ("cut at once", 2, Box::new(last(&image)), Fate::Refuse),
        ("cut at the first byte", 3, Box::new(last(&image)), Fate::Cut(0)),
        ("cut in the middle", 3, Box::new(last(&image)), Fate::Cut(500_000)),
        (
            "stalls",
            1,
            Box::new(last(&image)),
            Fate::Stall(900_000, Duration::from_secs(5)),
        ),
        ("500 for a blob", 2, Box::new(last(&image)), server_error.clone()),
        ("500 for the manifest", 2, Box::new(manifests), server_error),
        // The HEAD, and the GET that decides; they are one try.
        ("429 for the manifest", 2, Box::new(manifests), soon.clone()),
        ("429 for a blob", 2, Box::new(last(&image)), soon),
    ];
    for (what, times, which, fate) in cases {
        let waits = match what {
            "429 for the manifest" => Some(Duration::from_secs(1)),
            "429 for a blob" => Some(Duration::from_secs(2)),
            _ => None,
        };
        rig.proxy.break_next(times, which, fate);
        let began = Instant::now();
        rig.pull(&name)
            .await
            .unwrap_or_else(|why| panic!("{what}: {why:?}"));
        if let Some(waits) = waits {
            assert!(
                began.elapsed() >= waits,
                "{what} was not obeyed: {:?}",
                began.elapsed()
            );
        }
        rig.remove(&name);
        rig.settles(&before, what);
    }
    // A registry that has let us in, and then forgets once that it has.
    rig.proxy.break_next(1, last(&image), challenge);
    let denied = rig
        .pull(&name)
        .await
        .expect_err("it wants a login, and there is none");
    assert_eq!(denied.code(), 401);
    rig.settles(&before, "a sudden 401");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_one_clear_error_and_leaves_nothing() {
    let Some((rig, image, before)) = rig("what_does_not_pass").await else {
        return;
    };
    let name = rig.name("f:1");
    let address = rig.proxy.address();
    let later = Fate::status("429 Too Many Requests", &[("retry-after", "3600")], "");
    let blob = digest(&image.blobs().pop().expect("a layer").0);
    let cases: Vec<(Which, Fate, u16, ErrorKind, String)> = vec![
        (
            Box::new(last(&image)),
            Fate::Cut(0),
            502,
            ErrorKind::Unavailable,
            format!("the connection to registry {address} broke during blob {blob} of f"),
        ),
        (
            Box::new(last(&image)),
            Fate::Stall(0, Duration::from_secs(5)),
            502,
            ErrorKind::Unavailable,
            format!("registry {address} sent nothing for 2s during blob {blob} of f"),
        ),
        (
            Box::new(last(&image)),
            Fate::Lie,
            502,
            ErrorKind::ImageRejected,
            format!("is corrupt: what registry {address} sends as {blob} does not match that digest"),
        ),
        (
            Box::new(last(&image)),
            Fate::status("503 Service Unavailable", &[], "<html>busy</html>"),
            502,
            ErrorKind::Unavailable,
            format!("registry {address} answered 503 for blob {blob} of f"),
        ),
        (
            Box::new(last(&image)),
            Fate::status(
                "404 Not Found",
                &[],
                r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#,
            ),
            404,
            ErrorKind::ImageNotFound,
            format!("registry {address} answered 404 for blob {blob} of f: blob unknown to registry"),
        ),
        (
            Box::new(manifests),
            later,
            429,
            ErrorKind::Busy,
            format!(
                "registry {address} limits how often it is asked for manifest 1 of f: try again in 3600 s"
            ),
        ),
        (
            Box::new(|seen: &Seen| manifests(seen) && seen.method == "GET"),
            Fate::Lie,
            502,
            ErrorKind::ImageRejected,
            format!("registry {address} sent manifest "),
        ),
        (
            Box::new(last(&image)),
            Fate::status("302 Found", &[("location", "/v2/f/again")], ""),
            404,
            ErrorKind::ImageNotFound,
            format!("registry {address} answered 404"),
        ),
    ];
    for (which, fate, code, kind, sentence) in cases {
        let shown = format!("{fate:?}");
        rig.proxy.break_next(usize::MAX, which, fate);
        let why = rig.pull(&name).await.expect_err(&shown);
        assert_eq!((why.code(), why.kind()), (code, kind), "{shown}: {why:?}");
        let report = why.report();
        assert!(
            report.starts_with(&format!("Failed to pull image '{name}': ")),
            "{report}"
        );
        assert!(report.contains(&sentence), "{shown}: {report}");
        assert!(why.is_user_error());
        rig.settles(&before, &shown);
    }
    // One that lies, and breaks off each time before that can be seen.
    let (of_last, mut times) = (last(&image), 0);
    rig.proxy.plan(move |seen| {
        if !of_last(seen) {
            return Fate::Pass;
        }
        times += 1;
        if times % 2 == 1 {
            Fate::Cut(300_000)
        } else {
            Fate::Lie
        }
    });
    let why = rig.pull(&name).await.expect_err("a lie in two parts");
    assert!(why.report().contains("sends as"), "{}", why.report());
    rig.settles(&before, "a lie in two parts");
    rig.proxy.reset();
    rig.pull(&name).await.expect("it is all over");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_policy_begins_a_pull_again_and_its_reasons_are_counted() {
    let Some((rig, ..)) = rig("the_hosts_policy").await else {
        return;
    };
    let policy = BackOffConfig {
        max_retries: 3,
        interval: 10,
        max_delay: 50,
        min_delay: 10,
    };
    rig.driver
        .set_pull_image_retry_policy(policy, retry_transient())
        .expect("a policy");
    // Each try is a HEAD, and the GET that decides when that fails.
    rig.proxy
        .break_next(4, manifests, Fate::status("502 Bad Gateway", &[], ""));
    rig.pull(&rig.name("f:1")).await.expect("at last");
    assert_eq!(
        rig.driver.pull_retries().into_iter().collect::<Vec<_>>(),
        [("unavailable".to_owned(), 2)]
    );
    let gone = rig.pull(&rig.name("f:gone")).await.expect_err("not there");
    assert_eq!((gone.code(), gone.kind()), (404, ErrorKind::ImageNotFound));
    assert_eq!(rig.driver.pull_retries().len(), 1, "a 404 is not tried again");
    rig.strike().await;
}
