//! Pulling an image while calls break: no lease and no unfinished write is left, and the next pull succeeds.

use std::collections::BTreeMap;
use std::sync::Arc;

use fnctr::Context;
use fnctr::driver::{Cookie, Driver, Task};
use serde_json::json;

use crate::proxy::{Fate, Proxy};
use crate::registry::{Image, OCI_MANIFEST, Packed, architecture, digest, tar_of};
use crate::rig::{LONG, Rig, side_by_side};
use crate::ways::Way;

/// A registry with one image of two layers, which it has in memory.
async fn registry() -> Proxy {
    let layer = |name: &str| tar_of(&[(name.to_owned(), b"x".to_vec(), 0o755)], &[]);
    let image = Image {
        layers: vec![layer("bin/true"), layer("etc/motd")],
        packed: Packed::OciPlain,
        config: json!({"architecture": architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]}}),
    };
    let mut blobs = BTreeMap::new();
    let manifest = image.manifest(|bytes| {
        blobs.insert(digest(bytes), bytes.to_vec());
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let proxy = Proxy::start("127.0.0.1:1".to_owned()).await;
    proxy.plan(move |seen| {
        let (_, version) = seen.path.rsplit_once('/').unwrap();
        let (kind, body) = match blobs.get(version) {
            Some(blob) => ("application/octet-stream", blob.clone()),
            None => (OCI_MANIFEST, manifest.clone()),
        };
        let headers = vec![
            ("content-type".to_owned(), kind.to_owned()),
            ("docker-content-digest".to_owned(), digest(&body)),
            ("content-length".to_owned(), body.len().to_string()),
        ];
        Fate::Answer("200 OK".to_owned(), headers, body)
    });
    proxy
}

async fn cookie(rig: &Rig, registry: &Proxy) -> Box<dyn Cookie> {
    let task = Task {
        id: "p1".into(),
        image: format!("{}/a/b:1", registry.address()),
        disable_net: true,
        ..Task::default()
    };
    rig.driver
        .create_cookie(&Context::new(), Arc::new(task))
        .await
        .unwrap()
}

/// A cookie that has missed the image, and may pull it.
async fn missing(rig: &Rig, registry: &Proxy) -> Box<dyn Cookie> {
    let cookie = cookie(rig, registry).await;
    assert!(cookie.validate_image(&Context::timeout(LONG)).await.unwrap());
    cookie
}

async fn pull_well(rig: &Rig, registry: &Proxy) {
    let ctx = Context::timeout(LONG);
    let cookie = cookie(rig, registry).await;
    if cookie.validate_image(&ctx).await.unwrap() {
        cookie.pull_image(&ctx).await.unwrap();
        assert!(
            !cookie.validate_image(&ctx).await.unwrap(),
            "it is there and whole"
        );
    }
    cookie.close(&ctx).await.unwrap();
    rig.until_clean("a pull").await;
}

async fn calls_of_a_pull(registry: &Proxy) -> Vec<(String, usize)> {
    let rig = Rig::start().await;
    let cookie = missing(&rig, registry).await;
    rig.fake.faults().reset();
    cookie.pull_image(&Context::timeout(LONG)).await.unwrap();
    let all = rig.fake.calls().into_iter().chain(rig.fake.faults().streams());
    let mut seen = BTreeMap::new();
    let calls = all.filter(|call| !call.starts_with("Events/")).map(|call| {
        let nth = seen.entry(call.clone()).or_insert(0);
        *nth += 1;
        (call, *nth)
    });
    let calls = calls.collect();
    cookie.close(&Context::timeout(LONG)).await.unwrap();
    rig.end().await;
    calls
}

/// Takes half a minute: each of some forty calls is broken in five ways, and one of these is to hang until a deadline.
#[tokio::test]
async fn a_pull_that_meets_a_broken_call_leaves_no_lease_and_the_next_one_succeeds() {
    let registry = Arc::new(registry().await);
    let calls = calls_of_a_pull(&registry).await;
    for must in [
        "Content/Write",
        "Diff/Apply",
        "Images/Create",
        "Leases/AddResource",
        "Leases/Create",
        "Leases/Delete",
        "Snapshots/Commit",
    ] {
        assert!(
            calls.iter().any(|(call, _)| call == must),
            "{must} is not in {calls:?}"
        );
    }
    for call in &calls {
        for way in Way::AT_ONCE {
            meet(&registry, call, way).await;
        }
    }
    let hanging = calls.iter().cloned().map(|call| {
        let registry = Arc::clone(&registry);
        async move { meet(&registry, &call, Way::Hang).await }
    });
    side_by_side(hanging).await;
    println!(
        "covered: {} calls x {} ways: {calls:?}",
        calls.len(),
        Way::AT_ONCE.len() + 1
    );
}

/// One pull with one broken call, and one after it.
async fn meet(registry: &Proxy, (call, nth): &(String, usize), way: Way) {
    let what = format!("{call} ({nth}) broken by {way:?}");
    for limit in way.limits() {
        let rig = Rig::start().await;
        let cookie = missing(&rig, registry).await;
        let ctx = Context::timeout(limit);
        rig.fake.faults().reset();
        rig.fake.faults().break_call(call, *nth, way.how(&ctx));
        if let Err(error) = cookie.pull_image(&ctx).await {
            assert_eq!(error.kind(), way.kind(), "{what}: {error:?}");
            assert!(
                !matches!(way, Way::Internal) || error.report().contains("disk"),
                "{what}: {error:?}"
            );
        }
        rig.until_clean(&what).await;
        let met = rig.fake.faults().unmet() == 0;
        assert!(met || ctx.check().is_err(), "{what}: no call met it");
        cookie.close(&Context::timeout(LONG)).await.unwrap();
        rig.fake.faults().reset();
        pull_well(&rig, registry).await;
        rig.end().await;
        if met {
            return;
        }
    }
    panic!("{what}: no call met it");
}

#[tokio::test]
async fn a_pull_that_is_dropped_at_any_of_its_calls_unwinds_on_its_own() {
    let registry = registry().await;
    for (call, nth) in calls_of_a_pull(&registry).await {
        let rig = Rig::start().await;
        let cookie = missing(&rig, &registry).await;
        let arrived = Context::new();
        rig.fake.faults().reset();
        rig.fake
            .faults()
            .break_call(&call, nth, Way::Cancel.how(&arrived));
        let ctx = Context::new();
        tokio::select! {
            biased;
            _ = arrived.done() => {}
            _ = cookie.pull_image(&ctx) => panic!("{call} never came"),
        }
        rig.until_clean(&format!("a pull that was dropped at {call} ({nth})"))
            .await;
        cookie.close(&Context::timeout(LONG)).await.unwrap();
        pull_well(&rig, &registry).await;
        rig.end().await;
    }
}
