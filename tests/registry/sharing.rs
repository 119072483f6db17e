//! What many want is fetched once, and what is there not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::ErrorKind;
use tokio::task::JoinSet;

use crate::proxy::Fate;
use crate::registry::{Image, Packed, digest};
use crate::rig::{Rig, ctx};

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_who_want_one_image_cost_one_transfer() {
    let Some(rig) = Rig::set("five_hundred_who_want_one_image").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "crowd", &[1 << 20, 2 << 20, 500_000]);
    rig.registry.push("crowd", "1", &image);
    let name = rig.name("crowd:1");
    let mut cookies = Vec::new();
    for _ in 0..500 {
        let cookie = rig.cookie(&name).await;
        assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
        cookies.push(cookie);
    }
    let mut pulls = JoinSet::new();
    for cookie in cookies {
        pulls.spawn(async move {
            cookie.pull_image(&ctx()).await.expect("to pull");
            assert!(!cookie.validate_image(&ctx()).await.expect("to validate"));
            cookie.close(&ctx()).await.expect("to close");
        });
    }
    while let Some(done) = pulls.join_next().await {
        done.expect("every one of them");
    }
    for (blob, _) in image.blobs() {
        assert_eq!(rig.proxy.count("GET", &digest(&blob)), 1);
    }
    assert_eq!(rig.proxy.count("GET", "/blobs/"), 5);
    assert_eq!(rig.proxy.count("GET", "/manifests/"), 1);
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_two_images_share_is_fetched_once() {
    let Some(rig) = Rig::set("a_layer_that_two_images_share").await else {
        return;
    };
    let one = Image::busybox(Packed::OciGzip, "shared", &[2 << 20]);
    let mut two = one.clone();
    two.layers.push(crate::registry::tar_of(
        &[("more".to_owned(), b"x".to_vec(), 0o644)],
        &[],
    ));
    rig.registry.push("one", "1", &one);
    rig.registry.push("two", "1", &two);
    let (one_name, two_name) = (rig.name("one:1"), rig.name("two:1"));
    let (first, second) = tokio::join!(rig.pull(&one_name), rig.pull(&two_name));
    first.expect("one");
    second.expect("two");
    for (blob, _) in two.blobs() {
        assert_eq!(
            rig.proxy.count("GET", &digest(&blob)),
            1,
            "{:?}",
            rig.proxy.seen()
        );
    }
    // The layers' snapshots are there, so the layers need not be.
    let both = rig.world();
    rig.remove(&two_name);
    assert!(rig.world().blobs.len() < both.blobs.len());
    rig.proxy.reset();
    rig.pull(&two_name).await.expect("two again");
    let (last, _) = two.blobs().pop().expect("a layer");
    assert_eq!(rig.proxy.count("GET", "/blobs/"), 2);
    assert_eq!(rig.proxy.count("GET", &digest(&last)), 1);
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_began_may_leave_and_who_came_later_is_served() {
    let Some(rig) = Rig::set("who_began_may_leave").await else {
        return;
    };
    rig.registry
        .push("slow", "1", &Image::busybox(Packed::OciPlain, "slow", &[2 << 20]));
    // Nothing of a blob comes until two of the three have left.
    let held = Arc::new(AtomicBool::new(true));
    let hold = Arc::clone(&held);
    rig.proxy.plan(move |seen| match seen.path.contains("/blobs/") {
        true => Fate::Held(Arc::clone(&hold)),
        false => Fate::Pass,
    });
    let rig = Arc::new(rig);
    let about_to_pull = Arc::new(AtomicU32::new(0));
    let waiter = |patience: Context| {
        let (rig, about_to_pull) = (Arc::clone(&rig), Arc::clone(&about_to_pull));
        let work = async move {
            let cookie = rig.cookie(&rig.name("slow:1")).await;
            assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
            about_to_pull.fetch_add(1, Ordering::Relaxed);
            let pulled = cookie.pull_image(&patience).await;
            cookie.close(&ctx()).await.expect("to close");
            pulled
        };
        tokio_util::task::TaskTracker::new().spawn(work)
    };
    let (began, came) = (Context::new(), Context::new());
    let first = waiter(began.clone());
    while rig.proxy.count("GET", "/blobs/") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (second, third) = (waiter(ctx()), waiter(came.clone()));
    while about_to_pull.load(Ordering::Relaxed) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nobody outside sees them join; each has only a function to call.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (patience, waiter) in [(began, first), (came, third)] {
        patience.cancel();
        let left = waiter.await.expect("to end").expect_err("it left");
        assert_eq!(left.kind(), ErrorKind::Cancelled);
    }
    held.store(false, Ordering::Relaxed);
    second.await.expect("to end").expect("it goes on");
    let seen: Vec<_> = rig
        .proxy
        .seen()
        .into_iter()
        .map(|seen| (seen.method, seen.path))
        .collect();
    assert_eq!(rig.proxy.count("GET", "/blobs/"), 3, "{seen:#?}");
    let rig = Arc::into_inner(rig).expect("nobody else");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_everybody_has_left_nothing_is_left() {
    let Some(rig) = Rig::set("when_everybody_has_left").await else {
        return;
    };
    rig.registry
        .push("slow", "1", &Image::busybox(Packed::OciPlain, "left", &[2 << 20]));
    rig.proxy.plan(|_| Fate::Slow(Duration::from_millis(20)));
    let before = rig.world();
    let cookie = rig.cookie(&rig.name("slow:1")).await;
    assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
    let left = cookie
        .pull_image(&Context::timeout(Duration::from_millis(300)))
        .await;
    assert_eq!(left.expect_err("too late").kind(), ErrorKind::Timeout);
    rig.settles(&before, "a pull that everybody has left");
    let asked = rig.proxy.seen().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.proxy.seen().len(), asked, "nobody is asked any more");
    cookie.close(&ctx()).await.expect("to close");
    rig.strike().await;
}
