//! Two faults: one that makes an undo necessary, and one that the undo itself meets.

use fnctr::Context;
use fnctr::driver::{Driver, Status};

use crate::rig::{LONG, Rig, run_through, side_by_side};
use crate::ways::Way;

/// What changes something, and so must be undone.
const MADE: [&str; 4] = [
    "Containers/Create",
    "Snapshots/Prepare",
    "Tasks/Create",
    "Tasks/Start",
];
/// What undoes, and what undoing asks.
const UNDONE: [&str; 6] = [
    "Tasks/Delete",
    "Tasks/Kill",
    "Tasks/Wait",
    "Snapshots/Remove",
    "Containers/Get",
    "Containers/Delete",
];

/// Whether both faults were met; either way nothing is left.
async fn meet(rig: &Rig, (made, first): (&str, Way), (undone, second): (&str, Way)) -> bool {
    let what = format!("{made} broken by {first:?}, then {undone} by {second:?}");
    let ctx = first.context();
    let faults = rig.fake.faults();
    faults.reset();
    faults.break_call(made, 1, first.how(&ctx));
    faults.break_call(undone, 1, second.how(&ctx));
    let life = rig.live(&ctx, "c1").await;
    if let Err(error) = life.ran {
        assert_eq!(error.kind(), first.kind(), "{what}: {error:?}");
    }
    life.closed.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    rig.assert_clean(&what).await;
    faults.unmet() == 0
}

#[tokio::test]
async fn an_undo_that_meets_a_fault_of_its_own_still_leaves_nothing() {
    let rig = Rig::warm().await;
    let mut covered = 0;
    let pairs = || {
        MADE.into_iter()
            .flat_map(|made| UNDONE.map(|undone| (made, undone)))
    };
    for (made, undone) in pairs() {
        for first in [Way::Internal, Way::ReplyLost, Way::Cancel] {
            for second in Way::OF_CONTAINERD {
                covered += usize::from(meet(&rig, (made, first), (undone, second)).await);
            }
        }
    }
    rig.fake.faults().reset();
    rig.live_well("c1").await;
    rig.end().await;
    println!("covered: {covered} pairs of faults");
    // Not every undo makes every call, but these pairs are not empty words.
    assert!(covered > 80, "{covered}");
    let hanging = pairs().map(|(made, undone)| async move {
        let rig = Rig::warm().await;
        meet(&rig, (made, Way::Internal), (undone, Way::Hang)).await;
        rig.end().await;
    });
    side_by_side(hanging).await;
}

/// Breaks a call for as long as anybody will try it.
pub(crate) fn break_for_good(rig: &Rig, call: &str) {
    for nth in 1..=100 {
        rig.fake
            .faults()
            .break_call(call, nth, Way::Internal.how(&Context::new()));
    }
}

#[tokio::test]
async fn what_an_undo_could_not_remove_keeps_its_record_and_the_next_instance_removes_it() {
    for made in ["Tasks/Create", "Tasks/Start"] {
        for undone in ["Tasks/Delete", "Snapshots/Remove", "Containers/Delete"] {
            let what = format!("{made} broken, and {undone} for good");
            let rig = Rig::warm().await;
            rig.fake
                .faults()
                .break_call(made, 1, Way::ReplyLost.how(&Context::new()));
            break_for_good(&rig, undone);
            let life = rig.live(&Context::timeout(LONG), "c1").await;
            assert_eq!(life.ran.unwrap_err().kind(), Way::ReplyLost.kind(), "{what}");
            let left = rig.fake.world();
            assert_eq!(
                left.containers,
                ["sweep/c1"],
                "{what}: what is left cannot be found: {left:?}"
            );

            rig.fake.faults().reset();
            rig.driver.close(&Context::timeout(LONG)).await.unwrap();
            let next = rig.another("two").await;
            rig.until_clean(&what).await;
            let (cookie, _) = crate::rig::cookie(&next, "c1").await;
            let ctx = Context::timeout(LONG);
            let ran = run_through(cookie.as_ref(), &ctx).await.unwrap();
            assert_eq!(ran.status(), Status::Success, "{what}");
            cookie.close(&ctx).await.unwrap();
            next.close(&ctx).await.unwrap();
            rig.end().await;
        }
    }
}

#[tokio::test]
async fn a_close_that_could_not_do_all_says_what_and_a_second_one_does_the_rest() {
    for (undone, step) in [
        ("Tasks/Delete", "task"),
        ("Snapshots/Remove", "snapshot"),
        ("Containers/Delete", "record"),
    ] {
        let rig = Rig::warm().await;
        let ctx = Context::timeout(LONG);
        let (cookie, _) = rig.cookie("c1").await;
        let ran = run_through(cookie.as_ref(), &ctx).await.unwrap();
        assert_eq!(ran.status(), Status::Success);
        break_for_good(&rig, undone);
        let error = cookie.close(&ctx).await.unwrap_err().report();
        assert!(error.starts_with("cannot remove c1: "), "{error}");
        assert!(
            error.contains(&format!("its {step} could not be removed")) && error.contains("no space left"),
            "{error}"
        );
        assert_eq!(rig.fake.world().containers, ["sweep/c1"], "{undone}");

        rig.fake.faults().reset();
        cookie.close(&ctx).await.unwrap();
        rig.assert_clean("a second close").await;
        rig.fake.faults().reset();
        cookie.close(&ctx).await.unwrap();
        assert!(rig.fake.calls().is_empty(), "there is nothing more to do");
        rig.live_well("c1").await;
        rig.end().await;
    }
}

#[tokio::test]
async fn what_could_not_be_removed_is_removed_by_the_next_start_of_the_same_instance_too() {
    for undone in ["Tasks/Delete", "Snapshots/Remove", "Containers/Delete"] {
        // By a close, and by the undo of a create.
        for made in [None, Some("Tasks/Create")] {
            let what = format!("{made:?} broken, and {undone} for good");
            let rig = Rig::warm().await;
            if let Some(made) = made {
                rig.fake
                    .faults()
                    .break_call(made, 1, Way::ReplyLost.how(&Context::new()));
            }
            break_for_good(&rig, undone);
            let life = rig.live(&Context::timeout(LONG), "c1").await;
            assert!(life.ran.is_err() || life.closed.is_err(), "{what}");
            assert_eq!(rig.fake.world().containers, ["sweep/c1"], "{what}");
            rig.fake.faults().reset();
            rig.driver.close(&Context::timeout(LONG)).await.unwrap();
            let next = rig.another("one").await;
            rig.until_clean(&what).await;
            next.close(&Context::timeout(LONG)).await.unwrap();
            rig.end().await;
        }
    }
}

#[tokio::test]
async fn a_later_life_of_a_name_is_not_what_was_to_be_removed() {
    let rig = Rig::warm().await;
    let first = rig.created("c1").await;
    break_for_good(&rig, "Containers/Delete");
    first.close(&Context::new()).await.unwrap_err();
    rig.fake.faults().reset();
    // Somebody else removes it and makes another of the name.
    let id = fnctr::ContainerId::new("c1").unwrap();
    let other = rig.driver.adopt(&Context::new(), &id).await.unwrap();
    let note = rig.run.path().join("sweep/.unfinished/c1");
    let noted = std::fs::read(&note).unwrap();
    other.cookie.close(&Context::new()).await.unwrap();
    assert!(!note.exists(), "a close that has done all leaves no note");
    let cookie = rig.created("c1").await;
    std::fs::create_dir_all(note.parent().unwrap()).unwrap();
    std::fs::write(&note, noted).unwrap();
    let next = rig.another("one").await;
    crate::rig::eventually("the note to be dealt with", || !note.exists()).await;
    assert_eq!(rig.fake.world().tasks, ["sweep/c1"], "the later life goes on");
    first.close(&Context::new()).await.unwrap();
    cookie.close(&Context::new()).await.unwrap();
    next.close(&Context::timeout(LONG)).await.unwrap();
    rig.assert_clean("a later life").await;
    rig.end().await;
}

#[tokio::test]
async fn what_is_left_of_a_life_that_somebody_else_removed_is_tried_again_by_a_second_close() {
    let rig = Rig::warm().await;
    let ctx = Context::timeout(LONG);
    let (cookie, _) = rig.cookie("c1").await;
    let ran = run_through(cookie.as_ref(), &ctx).await.unwrap();
    assert_eq!(ran.status(), Status::Success);
    let id = fnctr::ContainerId::new("c1").unwrap();
    let other = rig.driver.adopt(&ctx, &id).await.unwrap();
    // Its files are out of reach of either close, because their directory is no directory for a while.
    let (dir, away) = (rig.run.path().join("sweep"), rig.run.path().join("away"));
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "").unwrap();
    other.cookie.close(&ctx).await.unwrap_err();
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    other.cookie.close(&ctx).await.unwrap();
    // And those that appear again.
    std::fs::create_dir_all(dir.join("c1")).unwrap();
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "").unwrap();
    cookie.close(&ctx).await.unwrap_err();
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    cookie.close(&ctx).await.unwrap();
    rig.assert_clean("a second close").await;
    rig.end().await;
}
