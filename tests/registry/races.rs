//! Pulls against what may happen at the same time: a hundred rounds each, of a tiny image.

use std::sync::Arc;
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{Cookie, ErrorKind};

use crate::registry::{Image, Packed};
use crate::rig::{Rig, ctx};

const ROUNDS: u64 = 100;

async fn rig(test: &str) -> Option<(Arc<Rig>, String)> {
    let rig = Rig::set(test).await?;
    rig.registry.push(
        "tiny",
        "1",
        &Image::busybox(Packed::OciGzip, test, &[1000, 70_000]),
    );
    let name = rig.name("tiny:1");
    Some((Arc::new(rig), name))
}

/// A moment that is another one in each round.
fn moment(round: u64, longest: u64) -> Duration {
    Duration::from_micros(round.wrapping_mul(2_654_435_761) % (longest * 1000))
}

/// A cookie that misses its image. A pull that was cancelled while it gave the image its name may have done so since: what
/// containerd was asked to do, it does, whoever has stopped waiting for it.
async fn missing(rig: &Rig, name: &str) -> Box<dyn Cookie> {
    for _ in 0..20 {
        let cookie = rig.cookie(name).await;
        if cookie.validate_image(&ctx()).await.expect("to validate") {
            return cookie;
        }
        cookie.close(&ctx()).await.expect("to close");
        rig.ctr(&["images", "rm", "--sync", name]);
    }
    panic!("{name} comes back whenever it is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_may_be_cancelled_at_any_moment() {
    let Some((rig, name)) = rig("a_pull_may_be_cancelled").await else {
        return;
    };
    let before = rig.world();
    let (mut cancelled, mut pulled) = (0, 0);
    // The moments are spread over what a pull takes here and now: they follow the load of the machine.
    let mut longest = 100;
    for round in 0..ROUNDS {
        let cookie = missing(&rig, &name).await;
        let ctx_of_round = Context::new();
        let canceller = ctx_of_round.clone();
        tokio_util::task::TaskTracker::new().spawn(async move {
            tokio::time::sleep(moment(round, longest)).await;
            canceller.cancel();
        });
        let began = tokio::time::Instant::now();
        match cookie.pull_image(&ctx_of_round).await {
            Ok(()) => {
                longest = u64::try_from(began.elapsed().as_millis()).expect("not ages") * 3 / 2 + 1;
                pulled += 1;
            }
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::Cancelled, "{why:?}");
                longest += longest / 10 + 1;
                cancelled += 1;
            }
        }
        cookie.close(&ctx()).await.expect("to close");
        // A pull that had everything in the moment of its cancellation may have given the image its name.
        let there = !rig
            .cookie(&name)
            .await
            .validate_image(&ctx())
            .await
            .expect("to validate");
        if there {
            rig.remove(&name);
        }
        if round % 10 == 9 {
            settle(&rig, &name, &before, &format!("round {round}"));
        }
    }
    assert!(
        cancelled > 0 && pulled > 0,
        "{cancelled} cancelled, {pulled} pulled: the moments are of no use"
    );
    Arc::into_inner(rig).expect("nobody else").strike().await;
}

/// Like [`Rig::settles`], but an image that a cancelled pull still named is removed first.
#[track_caller]
fn settle(rig: &Rig, name: &str, before: &crate::rig::World, after: &str) {
    for _ in 0..1200 {
        if rig.world() == *before {
            return;
        }
        rig.ctr(&["images", "rm", "--sync", name]);
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{after}: before {before:?}, now {:?}", rig.world());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_may_be_removed_while_it_is_pulled_again() {
    let Some((rig, name)) = rig("the_image_may_be_removed").await else {
        return;
    };
    crate::real::takes_long(
        "the_image_may_be_removed",
        "a hundred rounds of two pulls, each at another moment of a removal",
    );
    let before = rig.world();
    for round in 0..ROUNDS {
        // A cookie may pull once it has missed the image.
        let cookie = missing(&rig, &name).await;
        rig.pull(&name).await.expect("to pull");
        let removing = {
            let (rig, name) = (Arc::clone(&rig), name.clone());
            tokio::task::spawn_blocking(move || {
                std::thread::sleep(moment(round, 40));
                rig.ctr(&["images", "rm", "--sync", &name])
            })
        };
        // This one finds all that the image has, and must not lose it to the removal.
        cookie.pull_image(&ctx()).await.expect("to pull");
        let (removed, said) = removing.await.expect("to remove");
        assert!(removed || said.contains("not found"), "{said}");
        cookie.close(&ctx()).await.expect("to close");
        rig.pull(&name).await.expect("to pull once more");
        assert!(
            !rig.cookie(&name)
                .await
                .validate_image(&ctx())
                .await
                .expect("to validate")
        );
        rig.ctr(&["images", "rm", "--sync", &name]);
    }
    rig.settles(&before, "a hundred removals");
    Arc::into_inner(rig).expect("nobody else").strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collector_may_run_at_any_moment() {
    let Some((rig, name)) = rig("the_collector_may_run").await else {
        return;
    };
    crate::real::takes_long(
        "the_collector_may_run",
        "a hundred pulls, each at another moment of a collection of garbage",
    );
    let before = rig.world();
    for round in 0..ROUNDS {
        let cookie = missing(&rig, &name).await;
        let collecting = {
            let rig = Arc::clone(&rig);
            tokio::task::spawn_blocking(move || {
                std::thread::sleep(moment(round, 60));
                rig.collect();
            })
        };
        cookie.pull_image(&ctx()).await.expect("to pull");
        assert!(
            !cookie.validate_image(&ctx()).await.expect("to validate"),
            "round {round}"
        );
        collecting.await.expect("to collect");
        rig.collect();
        // All of it survives the collector: it is complete.
        let (checked, said) = rig.ctr(&["images", "check", "-q", &format!("name=={name}")]);
        assert!(checked && said.contains(&name), "round {round}: {said}");
        cookie.close(&ctx()).await.expect("to close");
        rig.remove(&name);
    }
    rig.settles(&before, "a hundred collections");
    Arc::into_inner(rig).expect("nobody else").strike().await;
}
