//! A server while calls break: it is ready with every container, or fails and changes nothing; and no end is lost.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::command::fnctr;
use crate::fake_containerd::How;
use crate::kept::{ok, status};
use crate::rig::{Rig, eventually, forever};

/// A server, and whether it is ready; if not, it has ended.
async fn serve(rig: &Rig) -> (Child, bool) {
    let mut server = fnctr(rig, rig.fake.dir(), &["serve"]);
    let out = server.stdout.take().expect("its output");
    let line = BufReader::new(out).lines().next_line().await.expect("a line");
    (server, line.is_some_and(|line| line.starts_with("serving")))
}

/// Ends a server, and returns its exit code and its errors.
async fn end(server: Child) -> (Option<i32>, String) {
    if let Some(pid) = server.id() {
        let ended = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        assert!(ended.is_ok(), "{ended:?}");
    }
    let done = server.wait_with_output().await.expect("its end");
    (
        done.status.code(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    )
}

/// What was called since the faults were reset, by name and occurrence.
fn calls(rig: &Rig) -> Vec<(String, usize)> {
    let mut seen = BTreeMap::new();
    let all = rig.fake.calls().into_iter().chain(rig.fake.faults().streams());
    let calls = all.filter(|call| call != "Events/Publish").map(|call| {
        let nth = seen.entry(call.clone()).or_insert(0);
        *nth += 1;
        (call, *nth)
    });
    calls.collect()
}

fn broken(way: &str) -> How {
    match way {
        "unavailable" => How::BeforeEffect(tonic::Status::unavailable("busy")),
        "internal" => How::BeforeEffect(tonic::Status::internal("no space left on device")),
        _ => How::AfterEffect,
    }
}

const WAYS: [&str; 3] = ["unavailable", "internal", "reply lost"];

#[tokio::test]
async fn a_server_that_meets_a_broken_call_at_its_start_is_ready_or_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let rig = Rig::warm().await;
    rig.fake.script(forever());
    ok(&rig, &["run", "-d", "--name", "c1", "fake", "true"]).await;
    rig.fake.faults().reset();
    let (server, ready) = serve(&rig).await;
    assert!(ready);
    let calls = calls(&rig);
    assert_eq!(end(server).await.0, Some(0));
    for call in ["Containers/ListStream", "Tasks/List", "Events/Subscribe"] {
        assert!(calls.iter().any(|(made, _)| made == call), "{calls:?}");
    }
    let mut failed = 0;
    for (call, nth) in &calls {
        for way in WAYS {
            let what = format!("{call} ({nth}) {way}");
            rig.fake.faults().reset();
            rig.fake.faults().break_call(call, *nth, broken(way));
            let (server, ready) = serve(&rig).await;
            if !ready {
                failed += 1;
            }
            let (code, said) = end(server).await;
            assert_eq!(code, Some(if ready { 0 } else { 1 }), "{what}: {said}");
            assert!(ready || !said.trim().is_empty(), "{what}");
            rig.fake.faults().reset();
            assert_eq!(status(&rig).await, "running", "{what}");
        }
    }
    println!(
        "covered: {} calls x 3 ways, {failed} failed: {calls:?}",
        calls.len()
    );
    ok(&rig, &["rm", "-f", "c1"]).await;
    rig.assert_clean("a removed container").await;
    rig.end().await;
}

#[tokio::test]
async fn an_end_is_written_by_the_server_whatever_call_breaks() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let rig = Rig::warm().await;
    rig.fake.script(forever());
    ok(&rig, &["create", "--name", "c1", "fake", "true"]).await;
    let (server, ready) = serve(&rig).await;
    assert!(ready);
    // A run, its end, and all that the server does about it.
    let one = async |fault: Option<(&str, usize, How)>, what: &str| {
        ok(&rig, &["start", "c1"]).await;
        eventually("the task", || !rig.fake.world().tasks.is_empty()).await;
        // What the server does about the start is over before the end comes.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        rig.fake.faults().reset();
        if let Some((call, nth, how)) = fault {
            rig.fake.faults().break_call(call, nth, how);
        }
        rig.fake.kill_behind("c1");
        eventually(what, || rig.fake.world().tasks.is_empty()).await;
        let made = calls(&rig);
        rig.fake.faults().reset();
        assert_eq!(status(&rig).await, "exited (137)", "{what}");
        made
    };
    // It subscribes anew, and no subscription has a deadline, at which containerd would end it.
    rig.fake.break_events();
    eventually("the break", || rig.fake.subscribers() < 2).await;
    eventually("another subscription", || rig.fake.subscribers() >= 2).await;
    let made = one(None, "an end").await;
    for call in ["Containers/Update", "Tasks/Delete"] {
        assert!(made.contains(&(call.to_owned(), 1)), "{made:?}");
    }
    for (call, nth) in &made {
        for way in WAYS {
            let what = format!("{call} ({nth}) {way}");
            one(Some((call, *nth, broken(way))), &what).await;
        }
    }
    println!("covered: {} calls x 3 ways: {made:?}", made.len());
    assert_eq!(rig.fake.bounded_subscriptions(), 0);
    let (code, said) = end(server).await;
    assert_eq!(code, Some(0), "{said}");
    ok(&rig, &["rm", "c1"]).await;
    rig.assert_clean("a removed container").await;
    rig.end().await;
}
