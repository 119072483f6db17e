//! Every call of a life, broken in every way: the life may fail, and nothing is left.

use std::collections::BTreeMap;

use fnctr::Context;
use fnctr::driver::Status;

use crate::rig::{Rig, SAID, side_by_side};
use crate::ways::Way;

/// The calls of a life by name and occurrence. By name rather than by number, because two of them arrive beside the
/// others, and each way shall meet each call.
pub(crate) async fn calls_of_a_life(rig: &Rig) -> Vec<(String, usize)> {
    rig.fake.faults().reset();
    rig.live_well("measured").await;
    let mut seen = BTreeMap::new();
    let all = rig.fake.calls().into_iter().chain(rig.fake.faults().streams());
    let all = all.filter(|call| !call.starts_with("Events/"));
    all.map(|call| {
        let nth = seen.entry(call.clone()).or_insert(0);
        *nth += 1;
        (call, *nth)
    })
    .collect()
}

/// One life with one broken call, and one after it under the same name.
async fn meet(rig: &Rig, (call, nth): &(String, usize), way: Way) {
    let what = format!("{call} ({nth}) broken by {way:?}");
    let faults = rig.fake.faults();
    let mut met = None;
    for limit in way.limits() {
        let ctx = Context::timeout(limit);
        faults.reset();
        faults.break_call(call, *nth, way.how(&ctx));
        let life = rig.live(&ctx, "c1").await;
        if faults.unmet() == 0 {
            met = Some(life);
            break;
        }
        assert!(ctx.check().is_err(), "{what}: no call met it");
        life.closed.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        rig.assert_clean(&what).await;
    }
    let life = met.unwrap_or_else(|| panic!("{what}: no call met it"));
    match &life.ran {
        Ok(result) => {
            assert!(way.allows(result.status()), "{what}: {result:?}");
            if result.status() == Status::Success {
                assert_eq!(life.said, SAID, "{what}");
            }
        }
        Err(error) => assert_eq!(error.kind(), way.kind(), "{what}: {error:?}"),
    }
    life.closed.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    rig.assert_clean(&what).await;
    faults.reset();
    rig.live_well("c1").await;
}

/// Each case with a driver of its own, since those that hang are met side by side.
async fn hang(calls: &[(String, usize)], warm: bool) {
    let cases = calls.iter().cloned().map(|call| async move {
        let rig = if warm {
            Rig::warm().await
        } else {
            Rig::start().await
        };
        meet(&rig, &call, Way::Hang).await;
        rig.end().await;
    });
    side_by_side(cases).await;
}

#[tokio::test]
async fn a_life_that_meets_a_broken_call_leaves_nothing_and_the_next_one_of_its_name_succeeds() {
    let rig = Rig::warm().await;
    let calls = calls_of_a_life(&rig).await;
    assert_eq!(calls.len(), 10, "{calls:?}");
    for call in &calls {
        for way in Way::AT_ONCE {
            meet(&rig, call, way).await;
        }
    }
    rig.end().await;
    hang(&calls, true).await;
    println!(
        "covered: {} calls x {} ways: {calls:?}",
        calls.len(),
        Way::AT_ONCE.len() + 1
    );
}

#[tokio::test]
async fn so_does_the_first_life_of_an_image() {
    let rig = Rig::start().await;
    let calls = calls_of_a_life(&rig).await;
    rig.end().await;
    assert!(calls.len() > 14, "{calls:?}");
    for call in &calls {
        for way in Way::AT_ONCE {
            let rig = Rig::start().await;
            meet(&rig, call, way).await;
            rig.end().await;
        }
    }
    hang(&calls, false).await;
    println!(
        "covered: {} calls x {} ways: {calls:?}",
        calls.len(),
        Way::AT_ONCE.len() + 1
    );
}
