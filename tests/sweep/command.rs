//! The command `fnctr` while calls break.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::fake_containerd::How;
use crate::rig::{NS, Rig};
use crate::undo::break_for_good;

/// The command, on the fake containerd of this rig, with `root` for its files.
pub(crate) fn fnctr(rig: &Rig, root: &Path, args: &[&str]) -> Child {
    prepared(rig, root, args).spawn().expect("to run fnctr")
}

/// The same, to be run.
pub(crate) fn prepared(rig: &Rig, root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
    command.arg("--address").arg(rig.fake.socket());
    command.args(["--namespace", NS, "--root"]).arg(root).args(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_function_that_ended_well_has_ended_well_whatever_is_left_and_the_next_command_removes_it() {
    if !nix::unistd::geteuid().is_root() {
        return; // The command wants root.
    }
    let rig = Rig::warm().await;
    break_for_good(&rig, "Tasks/Delete");
    let command = |args| fnctr(&rig, rig.run.path(), args).wait_with_output();
    let ran = command(&["run", "--name", "c1", "fake", "true"]).await.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert!(
        said.contains("warning: cannot remove c1: its task could not be removed"),
        "{said}"
    );
    assert_eq!(rig.fake.world().containers, ["sweep/c1"]);
    rig.fake.faults().reset();
    assert!(command(&["ps"]).await.unwrap().status.success());
    assert_eq!(rig.fake.world().containers, Vec::<String>::new());
    rig.end().await;
}

#[tokio::test]
async fn a_removal_whose_caller_is_interrupted_takes_all_the_names_that_it_began_with() {
    let rig = Rig::start().await;
    let tagged = fnctr(&rig, rig.fake.dir(), &["tag", "fake", "other:1"])
        .wait_with_output()
        .await
        .unwrap();
    assert!(tagged.status.success(), "{tagged:?}");
    let listed = fnctr(&rig, rig.fake.dir(), &["images", "--quiet"])
        .wait_with_output()
        .await
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let id = listed.lines().next().unwrap();

    let child = Arc::new(OnceLock::<u32>::new());
    let interrupted = Arc::clone(&child);
    let interrupt = move || {
        let pid = interrupted.get().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.unwrap().success());
        // The reply must come after the caller has gone.
        std::thread::sleep(Duration::from_millis(300));
    };
    rig.fake.faults().reset();
    rig.fake
        .faults()
        .break_call("Images/Delete", 1, How::Cancel(Box::new(interrupt)));
    let removing = fnctr(&rig, rig.fake.dir(), &["rmi", "--force", id]);
    child.set(removing.id().unwrap()).unwrap();
    let removed = removing.wait_with_output().await.unwrap();
    assert_eq!(removed.status.code(), Some(130), "{removed:?}");
    let calls = rig.fake.calls();
    let deletes = calls.iter().filter(|call| *call == "Images/Delete").count();
    assert_eq!(deletes, 2, "an image was left with some of its names: {calls:?}");
    rig.end().await;
}
