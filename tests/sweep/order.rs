//! What a life costs: which calls, how many, in which order.

use fnctr::Context;
use fnctr::driver::Status;

use crate::fake_containerd::{Script, Step};
use crate::rig::{Rig, cookie, forever};

/// The table of the engine: what a life of a known image costs.
const LIFE: [&str; 9] = [
    "Images/Get",
    "Containers/Create",
    "Snapshots/Prepare",
    "Tasks/Create",
    "Tasks/Wait",
    "Tasks/Start",
    "Tasks/Delete",
    "Snapshots/Remove",
    "Containers/Delete",
];

/// Tasks/Wait and Tasks/CloseIO are sent beside the others, so they arrive when they arrive, but within bounds.
#[track_caller]
fn assert_beside(calls: &mut Vec<String>, call: &str, after: &str, before: &str) {
    let at = |calls: &[String], name: &str| calls.iter().position(|call| call == name);
    let found = at(calls, call).unwrap_or_else(|| panic!("no {call} in {calls:?}"));
    calls.remove(found);
    let (after, before) = (at(calls, after).unwrap(), at(calls, before).unwrap());
    assert!(
        after < found && found <= before,
        "{call} is out of place in {calls:?}"
    );
}

#[tokio::test]
async fn a_life_of_a_known_image_costs_nine_calls_in_the_order_of_the_table_and_its_input_one_more() {
    let rig = Rig::warm().await;
    rig.live_well("c1").await;
    let mut calls = rig.fake.calls();
    assert_eq!(calls.len(), LIFE.len() + 1, "{calls:?}");
    assert_beside(&mut calls, "Tasks/CloseIO", "Tasks/Create", "Tasks/Delete");
    assert_beside(&mut calls, "Tasks/Wait", "Tasks/Create", "Tasks/Delete");
    assert_eq!(
        calls,
        LIFE.into_iter()
            .filter(|call| *call != "Tasks/Wait")
            .collect::<Vec<_>>()
    );
    assert!(!rig.fake.faults().streams().contains(&"Content/Read".to_owned()));
    rig.end().await;
}

#[tokio::test]
async fn a_life_without_input_costs_exactly_nine_calls() {
    let rig = Rig::warm().await;
    rig.fake.script(Script::steps([Step::Out(b"quiet".to_vec())]));
    let (stdout, said) = fnctr::driver::Output::capture(100);
    let task = fnctr::driver::Task {
        id: "c1".into(),
        image: "fake".into(),
        stdout: stdout.into(),
        disable_net: true,
        ..fnctr::driver::Task::default()
    };
    let ctx = Context::new();
    let cookie = fnctr::driver::Driver::create_cookie(&rig.driver, &ctx, std::sync::Arc::new(task)).await;
    let cookie = cookie.unwrap();
    let ran = crate::rig::run_through(cookie.as_ref(), &ctx).await.unwrap();
    assert_eq!((ran.status(), said.text().as_str()), (Status::Success, "quiet"));
    cookie.close(&ctx).await.unwrap();
    let mut calls = rig.fake.calls();
    let mut table = LIFE.map(str::to_owned).to_vec();
    calls.sort();
    table.sort();
    assert_eq!(calls, table);
    rig.assert_clean("a life without input").await;
    rig.end().await;
}

#[tokio::test]
async fn what_the_first_life_of_an_image_learns_is_not_asked_again() {
    let rig = Rig::start().await;
    rig.fake.faults().reset();
    rig.live_well("c1").await;
    let first = rig.fake.calls();
    for learned in ["Snapshots/View", "Leases/Create", "Snapshots/Stat"] {
        assert!(
            first.iter().any(|call| call == learned),
            "{learned} is not in {first:?}"
        );
    }
    assert!(rig.fake.faults().streams().contains(&"Content/Read".to_owned()));
    assert!(first.len() > LIFE.len() + 1);
    rig.end().await;
}

#[tokio::test]
async fn the_record_is_made_first_and_removed_last_when_a_create_fails_too() {
    let rig = Rig::warm().await;
    rig.fake.script(Script {
        refused: Some("no such executable".into()),
        ..Script::default()
    });
    let life = rig.live(&Context::new(), "c1").await;
    assert!(life.ran.unwrap_err().report().contains("no such executable"));
    life.closed.unwrap();
    let calls = rig.fake.calls();
    let order = [
        "Images/Get",
        "Containers/Create",
        "Snapshots/Prepare",
        "Tasks/Create",
        "Tasks/Delete",
        "Snapshots/Remove",
        "Containers/Delete",
    ];
    assert_eq!(calls, order);
    rig.assert_clean("a create that the runtime refused").await;
    rig.end().await;
}

/// The fake's processes are in the test's own cgroup, which is never touched, so freezing goes through containerd here.
#[tokio::test]
async fn freezing_through_containerd_asks_once_how_it_stands_and_acts_only_if_it_must() {
    let rig = Rig::warm().await;
    rig.fake.script(forever());
    let (cookie, _) = cookie(&rig.driver, "c1").await;
    let ctx = Context::new();
    cookie.validate_image(&ctx).await.unwrap();
    cookie.create_container(&ctx).await.unwrap();
    let running = cookie.run(&ctx).await.unwrap();
    rig.settled().await;
    rig.fake.faults().reset();
    cookie.freeze(&ctx).await.unwrap();
    assert_eq!(rig.fake.calls(), ["Tasks/Get", "Tasks/Pause"]);
    cookie.freeze(&ctx).await.unwrap();
    assert_eq!(rig.fake.calls()[2..], ["Tasks/Get"], "it is frozen already");
    cookie.unfreeze(&ctx).await.unwrap();
    assert_eq!(rig.fake.calls()[3..], ["Tasks/Get", "Tasks/Resume"]);
    cookie.freeze(&ctx).await.unwrap();
    // A frozen container is closed like any other.
    cookie.close(&ctx).await.unwrap();
    assert_eq!(running.wait(&ctx).await.exit_code(), Some(137));
    rig.assert_clean("a close of a frozen container").await;
    rig.end().await;
}
