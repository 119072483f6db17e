//! The images that nobody uses go when there are too many, the oldest first; those that are used stay, whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use fnctr::ContainerdDriver;
use fnctr::driver::{Config, Cookie, Driver as _, ErrorKind, Status};

use crate::registry::{Image, Packed};
use crate::rig::{Rig, configured, cookie, ctx, pull, registries};

/// What one image of these tests has that no other has, in bytes: a layer that nothing compresses, packed and unpacked.
const OWN: u64 = 2 * 4_000_000;

struct Shelf {
    rig: Rig,
    names: Vec<String>,
}

impl Shelf {
    /// A registry with so many images: one common layer, and one of their own.
    async fn set(test: &str, images: usize) -> Option<Self> {
        let rig = Rig::set(test).await?;
        let names = (0..images).map(|at| {
            let repository = format!("cache/{at}");
            let mut image = Image::busybox(Packed::OciGzip, "common", &[]);
            let own = Image::busybox(Packed::OciGzip, &format!("own{at}"), &[4_000_000]);
            image.layers.extend(own.layers.into_iter().skip(1));
            rig.registry.push(&repository, "1", &image);
            rig.name(&format!("{repository}:1"))
        });
        let names = names.collect();
        Some(Self { rig, names })
    }

    /// A driver with room for the common layer and so many images.
    async fn driver(&self, room: u64, exempt: &str) -> ContainerdDriver {
        let config = Config {
            image_clean_max_size: (room * OWN) + OWN / 2,
            image_clean_exempt_tags: exempt.to_owned(),
            ..Config::default()
        };
        configured(&self.rig.real, registries(&self.rig.real), config)
            .await
            .expect("a driver")
    }

    fn there(&self) -> BTreeSet<usize> {
        let (listed, names) = self.rig.ctr(&["images", "ls", "-q"]);
        assert!(listed, "{names}");
        let is_there = |at: &usize| names.lines().any(|line| line == self.names[*at]);
        (0..self.names.len()).filter(is_there).collect()
    }

    /// Waits until just these images are there, and then a while longer.
    #[track_caller]
    fn settles(&self, expected: &[usize]) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let expected: BTreeSet<_> = expected.iter().copied().collect();
            let mut there = BTreeSet::new();
            for _ in 0..1200 {
                there = self.there();
                if there == expected {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    assert_eq!(self.there(), expected, "{at}");
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("{at}: {there:?} are there, and not {expected:?}");
        }
    }
}

async fn runs(cookie: &dyn Cookie) {
    cookie.create_container(&ctx()).await.expect("to create");
    let result = cookie.run(&ctx()).await.expect("to run").wait(&ctx()).await;
    assert_eq!(result.status(), Status::Success, "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_that_was_used_longest_ago_goes_first_and_its_bytes_with_it() {
    let Some(shelf) = Shelf::set("the_image_that_was_used_longest_ago", 4).await else {
        return;
    };
    let empty = shelf.rig.world();
    let driver = shelf.driver(2, "").await;
    for at in [0, 1] {
        pull(&driver, &shelf.names[at], None).await.expect("to pull");
    }
    shelf.settles(&[0, 1]).await;
    let full = shelf.rig.world();
    // Used once more, so it is the younger one.
    pull(&driver, &shelf.names[0], None).await.expect("to validate");
    pull(&driver, &shelf.names[2], None).await.expect("to pull");
    shelf.settles(&[0, 2]).await;
    let metrics = driver.metrics();
    for line in [
        "fnctr_image_evictions_total 1",
        "fnctr_images{state=\"idle\"} 2",
        &format!("fnctr_image_space_bytes{{what=\"limit\"}} {}", 2 * OWN + OWN / 2),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let now = shelf.rig.world();
    assert_eq!(
        (now.blobs.len(), now.snapshots.len()),
        (full.blobs.len(), full.snapshots.len()),
        "the common layer stays, and nothing of the image that went does"
    );
    assert_eq!(shelf.rig.cat(&shelf.names[0], "/etc/salt").await, "common");
    // A limit below everything takes all of it.
    driver.close(&ctx()).await.expect("to close");
    let config = Config {
        image_clean_max_size: 1,
        ..Config::default()
    };
    let real = &shelf.rig.real;
    let strict = configured(real, registries(real), config)
        .await
        .expect("a driver");
    shelf.settles(&[]).await;
    shelf.rig.settles(&empty, "a limit that nothing fits");
    strict.close(&ctx()).await.expect("to close");
    shelf.rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_image_is_kept_from_before_its_pull_on_and_fetched_once() {
    let Some(shelf) = Shelf::set("a_pulled_image_is_kept", 1).await else {
        return;
    };
    let driver = shelf.driver(0, "").await;
    let cookie = cookie(&driver, &shelf.names[0], None).await;
    assert!(cookie.validate_image(&ctx()).await.expect("to validate"));
    cookie.pull_image(&ctx()).await.expect("to pull");
    // It is larger than all that may be there, and the cleaner has been told of it.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!cookie.validate_image(&ctx()).await.expect("to validate"));
    assert_eq!(
        shelf.rig.proxy.count("GET", "/blobs/"),
        3,
        "two layers and a configuration"
    );
    cookie.close(&ctx()).await.expect("to close");
    shelf.settles(&[]).await;
    driver.close(&ctx()).await.expect("to close");
    shelf.rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_kept_from_its_validation_to_the_close() {
    let Some(shelf) = Shelf::set("an_image_is_kept_from_its_validation", 4).await else {
        return;
    };
    let driver = shelf.driver(0, "").await;
    let held = cookie(&driver, &shelf.names[0], None).await;
    assert!(held.validate_image(&ctx()).await.expect("to validate"));
    held.pull_image(&ctx()).await.expect("to pull");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        !held.validate_image(&ctx()).await.expect("to validate"),
        "it stays until then"
    );
    pull(&driver, &shelf.names[1], None).await.expect("to pull");
    shelf.settles(&[0]).await;
    runs(held.as_ref()).await;
    shelf.settles(&[0]).await;
    held.close(&ctx()).await.expect("to close");
    shelf.settles(&[]).await;
    driver.close(&ctx()).await.expect("to close");
    shelf.rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exempt_and_what_others_run_stays() {
    let Some(shelf) = Shelf::set("what_is_exempt", 4).await else {
        return;
    };
    // Another process, as far as this driver can tell: it knows nothing of the other's pins.
    let other = &shelf.rig.driver;
    pull(other, &shelf.names[1], None).await.expect("to pull");
    pull(other, &shelf.names[2], None).await.expect("to pull");
    pull(other, &shelf.names[3], None).await.expect("to pull");
    let running = cookie(other, &shelf.names[2], None).await;
    running.validate_image(&ctx()).await.expect("to validate");
    running.create_container(&ctx()).await.expect("to create");
    let driver = shelf
        .driver(0, &format!("  {} nobody/has:this ", shelf.names[1]))
        .await;
    // Those that were here before it count, too.
    shelf.settles(&[1, 2]).await;
    let result = running.run(&ctx()).await.expect("to run").wait(&ctx()).await;
    assert_eq!(result.status(), Status::Success, "{result:?}");
    running.close(&ctx()).await.expect("to close");
    pull(&driver, &shelf.names[0], None).await.expect("to pull");
    shelf.settles(&[1]).await;
    driver.close(&ctx()).await.expect("to close");

    let config = Config {
        image_clean_max_size: 1,
        image_clean_exempt_tags: "fine fine/NOT".to_owned(),
        ..Config::default()
    };
    let refused = configured(&shelf.rig.real, registries(&shelf.rig.real), config).await;
    let refused = refused.expect_err("a tag that is none");
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    assert!(
        refused.report().contains("image_clean_exempt_tags") && refused.report().contains("fine/NOT"),
        "{}",
        refused.report()
    );
    shelf.rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_come_and_go_never_lose_their_image_to_the_cleaner() {
    const ROUNDS: usize = 12;
    let Some(shelf) = Shelf::set("functions_that_come_and_go", 3).await else {
        return;
    };
    let before = shelf.rig.world();
    // Nothing fits, so whatever is idle for a moment is removed.
    let driver = shelf.driver(0, "").await;
    let lives = |names: Vec<String>| {
        let driver = driver.clone();
        async move {
            for name in names.iter().cycle().take(ROUNDS) {
                let cookie = cookie(&driver, name, None).await;
                if cookie.validate_image(&ctx()).await.expect("to validate") {
                    cookie.pull_image(&ctx()).await.expect("to pull");
                    let missing = cookie.validate_image(&ctx()).await.expect("to validate");
                    assert!(!missing, "{name} was pulled and is not there");
                }
                runs(cookie.as_ref()).await;
                cookie.close(&ctx()).await.expect("to close");
            }
        }
    };
    let turned = |by: usize| {
        let mut names = shelf.names.clone();
        names.rotate_left(by);
        names
    };
    tokio::join!(
        lives(turned(0)),
        lives(turned(1)),
        lives(turned(2)),
        lives(turned(0))
    );
    shelf.settles(&[]).await;
    shelf.rig.settles(&before, "all of them");
    let pulls = shelf.rig.proxy.count("GET", "/blobs/");
    eprintln!("{ROUNDS} rounds of 4 took {pulls} GETs of blobs");
    driver.close(&ctx()).await.expect("to close");
    shelf.rig.strike().await;
}
