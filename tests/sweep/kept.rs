//! The start of a kept container while calls break: it runs, or is as it was before, and nothing else is left.

use std::collections::BTreeMap;
use std::process::Output;

use crate::command::fnctr;
use crate::fake_containerd::How;
use crate::rig::Rig;

pub(crate) async fn run(rig: &Rig, args: &[&str]) -> Output {
    let done = fnctr(rig, rig.fake.dir(), args).wait_with_output().await;
    done.expect("to run fnctr")
}

pub(crate) async fn ok(rig: &Rig, args: &[&str]) -> String {
    let done = run(rig, args).await;
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {err}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

pub(crate) async fn status(rig: &Rig) -> String {
    let listed = ok(rig, &["ps", "--all", "--format", "{{.Status}}"]).await;
    listed.trim().to_owned()
}

/// The calls of a start, by name and occurrence. Some are those of every command.
async fn calls_of_a_start(rig: &Rig) -> Vec<(String, usize)> {
    rig.fake.faults().reset();
    ok(rig, &["start", "c1"]).await;
    let mut seen = BTreeMap::new();
    let all = rig.fake.calls().into_iter().chain(rig.fake.faults().streams());
    let calls = all.filter(|call| !call.starts_with("Events/")).map(|call| {
        let nth = seen.entry(call.clone()).or_insert(0);
        *nth += 1;
        (call, *nth)
    });
    calls.collect()
}

#[tokio::test]
async fn a_start_that_meets_a_broken_call_is_a_run_or_leaves_the_container_as_it_was() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let rig = Rig::warm().await;
    assert_eq!(
        ok(&rig, &["create", "--name", "c1", "fake", "true"]).await,
        "c1\n"
    );
    assert_eq!(status(&rig).await, "created");
    let calls = calls_of_a_start(&rig).await;
    let own = [
        "Containers/Update",
        "Snapshots/Mounts",
        "Tasks/Create",
        "Tasks/Start",
    ];
    for call in own {
        assert!(calls.contains(&(call.to_owned(), 1)), "{calls:?}");
    }
    assert_eq!(ok(&rig, &["wait", "c1"]).await, "0\n");
    let mut runs = 0;
    for (call, nth) in &calls {
        for broken in ["unavailable", "internal", "reply lost"] {
            let what = format!("{call} ({nth}) {broken}");
            let before = status(&rig).await;
            assert_eq!(before, "exited (0)", "{what}");
            let how = match broken {
                "unavailable" => How::BeforeEffect(tonic::Status::unavailable("busy")),
                "internal" => How::BeforeEffect(tonic::Status::internal("no space left on device")),
                _ => How::AfterEffect,
            };
            rig.fake.faults().reset();
            rig.fake.faults().break_call(call, *nth, how);
            let started = run(&rig, &["start", "c1"]).await;
            rig.fake.faults().reset();
            let said = String::from_utf8_lossy(&started.stderr).into_owned();
            if started.status.success() {
                runs += 1;
                assert_eq!(ok(&rig, &["wait", "c1"]).await, "0\n", "{what}");
            } else {
                assert!(!said.is_empty(), "{what}");
            }
            // The next command settles what a broken call has left.
            let mut after = status(&rig).await;
            if after != "exited (0)" {
                // A call whose reply was lost after the record says that a run begins.
                assert!(
                    !started.status.success() && call != "Containers/Get",
                    "{what}: {after}"
                );
                ok(&rig, &["start", "c1"]).await;
                assert_eq!(ok(&rig, &["wait", "c1"]).await, "0\n", "{what}: {after}");
                after = status(&rig).await;
            }
            assert_eq!(after, "exited (0)", "{what}: {said}");
            let world = rig.fake.world();
            assert!(world.tasks.is_empty(), "{what}: {world:?}");
        }
    }
    println!(
        "covered: {} calls x 3 ways, {runs} of them ran: {calls:?}",
        calls.len()
    );
    ok(&rig, &["rm", "c1"]).await;
    rig.assert_clean("a removed container").await;
    rig.end().await;
}
