//! The private containerd: started once, shared, and ended by the last who uses it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "support/patience.rs"]
mod patience;
#[path = "support/real.rs"]
mod real;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use fnctr::Context;
use fnctr::embedded::{Embedded, Error, Home, Stopped, answers};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The processes of the containerd in `dir`.
fn processes(dir: &Path) -> Vec<i32> {
    let config = dir.join("containerd.toml");
    let config = config.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(config))
        })
        .collect()
}

#[track_caller]
fn assert_nothing_is_left(dir: &Path) {
    assert_eq!(processes(dir), [] as [i32; 0], "processes");
    assert_eq!(real::mounts_under(dir), [] as [&Path; 0], "mounts");
    let sockets: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_socket())
        .map(|entry| entry.path())
        .collect();
    assert_eq!(sockets, [] as [&Path; 0], "sockets");
    assert!(!dir.join("runc").exists(), "the runtime's directory");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The umask of a process.
fn umask_of(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:\t"));
    umask.unwrap().to_owned()
}

/// Whoever shares it may have started another one by then.
async fn kill_and_wait(dir: &Path) {
    let pid = processes(dir)[0];
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    while processes(dir).contains(&pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn ctx() -> Context {
    Context::timeout(Duration::from_secs(60))
}

#[tokio::test]
async fn it_starts_answers_and_leaves_nothing_when_it_stops() {
    if !real::available("embedded containerd: start and stop") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(&ctx(), &Home::under(dir.path())).await.unwrap();
    assert!(answers(&embedded.socket()).await);
    let pids = processes(dir.path());
    assert_eq!(pids.len(), 1);
    let group = nix::unistd::getpgid(Some(Pid::from_raw(pids[0]))).unwrap();
    assert_eq!(
        group.as_raw(),
        pids[0],
        "containerd must not be in the group that Ctrl-C goes to"
    );
    assert_eq!(embedded.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn those_who_start_at_once_share_one_and_the_last_ends_it() {
    if !real::available("embedded containerd: sharing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::under(dir.path());
    let ctx = ctx();
    let (a, b, c) = tokio::join!(
        Embedded::start(&ctx, &home),
        Embedded::start(&ctx, &home),
        Embedded::start(&ctx, &home),
    );
    let mut shares = vec![a.unwrap(), b.unwrap(), c.unwrap()];
    assert_eq!(processes(dir.path()).len(), 1);
    let last = shares.pop().unwrap();
    for share in shares {
        assert_eq!(share.stop(&ctx).await.unwrap(), Stopped::StillShared);
    }
    assert!(answers(&last.socket()).await);
    assert_eq!(last.stop(&ctx).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn one_that_its_user_abandoned_is_shared_by_the_next_and_ended_with_it() {
    if !real::available("embedded containerd: after a crash of its user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::under(dir.path());
    drop(Embedded::start(&ctx(), &home).await.unwrap());
    let abandoned = processes(dir.path());
    assert_eq!(abandoned.len(), 1);
    let next = Embedded::start(&ctx(), &home).await.unwrap();
    assert_eq!(processes(dir.path()), abandoned);
    assert_eq!(next.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn one_that_was_killed_under_its_users_is_started_again() {
    if !real::available("embedded containerd: after its own crash") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::under(dir.path());
    let first = Embedded::start(&ctx(), &home).await.unwrap();
    kill_and_wait(dir.path()).await;
    let second = Embedded::start(&ctx(), &home).await.unwrap();
    assert!(answers(&first.socket()).await);
    assert_eq!(first.stop(&ctx()).await.unwrap(), Stopped::StillShared);
    assert_eq!(second.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn the_last_share_of_one_that_was_killed_ends_at_once_and_the_next_start_works() {
    if !real::available("embedded containerd: the end after its own crash") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::under(dir.path());
    let embedded = Embedded::start(&ctx(), &home).await.unwrap();
    kill_and_wait(dir.path()).await;
    // Not after the ten seconds that one which runs is given to end.
    let stopped = tokio::time::timeout(Duration::from_secs(9), embedded.stop(&ctx())).await;
    assert_eq!(stopped.unwrap().unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
    let next = Embedded::start(&ctx(), &home).await.unwrap();
    assert!(answers(&next.socket()).await);
    assert_eq!(next.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn every_spelling_of_its_place_shares_the_same_one() {
    if !real::available("embedded containerd: spellings of its place") {
        return;
    }
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("r");
    let link = top.path().join("link");
    std::os::unix::fs::symlink("r", &link).unwrap();
    let first = Embedded::start(&ctx(), &Home::under(&dir)).await.unwrap();
    let up = "../".repeat(32);
    let relative = format!("{up}{}", dir.display());
    for other in [link, top.path().join("no/../r"), relative.into()] {
        let share = Embedded::start(&ctx(), &Home::under(&other)).await.unwrap();
        assert_eq!(share.home(), first.home(), "{}", other.display());
        assert_eq!(processes(&dir).len(), 1, "{}", other.display());
        assert_eq!(share.stop(&ctx()).await.unwrap(), Stopped::StillShared);
        assert!(answers(&first.socket()).await, "{}", other.display());
    }
    // And one of them ends what another left.
    drop(first);
    let last = Embedded::start(&ctx(), &Home::under(&top.path().join("no/../r")))
        .await
        .unwrap();
    assert_eq!(last.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(&dir);
}

#[tokio::test]
async fn one_whose_socket_was_removed_is_replaced() {
    if !real::available("embedded containerd: without its socket") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::under(dir.path());
    let first = Embedded::start(&ctx(), &home).await.unwrap();
    let deaf = processes(dir.path());
    fs::remove_file(first.socket()).unwrap();
    let context = Context::timeout(Duration::from_secs(120));
    let second = Embedded::start(&context, &home).await.unwrap();
    assert_ne!(processes(dir.path()), deaf);
    assert!(answers(&second.socket()).await);
    drop(first);
    assert_eq!(second.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn a_server_that_is_not_its_own_keeps_its_socket() {
    if !real::available("embedded containerd: somebody else on its socket") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::under(dir.path());
    home.socket().parent().map(fs::create_dir_all).unwrap().unwrap();
    let listener = tokio::net::UnixListener::bind(home.socket()).unwrap();
    let serve = async { axum::serve(listener, axum::Router::new()).await };
    let share = async {
        let share = Embedded::start(&ctx(), &home).await.unwrap();
        assert_eq!(processes(dir.path()), [] as [i32; 0]);
        let error = share.stop(&ctx()).await.unwrap_err();
        assert!(matches!(error, Error::OutOfReach { .. }), "{error:?}");
        assert!(answers(&home.socket()).await);
    };
    tokio::select! {
        _ = serve => unreachable!("the server ended"),
        () = share => {}
    }
}

#[tokio::test]
async fn nobody_else_can_look_at_it_whatever_the_umask_is_and_its_containers_can_be_entered() {
    if !real::available("embedded containerd: permissions") {
        return;
    }
    let top = tempfile::tempdir().unwrap();
    // For the whole process, but other tests here do not care.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let dir = top.path().join("made");
    let embedded = Embedded::start(&ctx(), &Home::under(&dir)).await;
    nix::sys::stat::umask(before);
    let embedded = embedded.unwrap();
    for made in ["", "root", "runc"] {
        assert_eq!(mode(&dir.join(made)), 0o700, "{made}");
    }
    for file in ["start.lock", "users.lock", "containerd.toml", "containerd.log"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    assert_eq!(umask_of(processes(&dir)[0]), "0022");
    assert_eq!(embedded.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(&dir);
}

#[tokio::test]
async fn a_place_that_others_can_write_is_refused() {
    if !real::available("embedded containerd: an open place") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Embedded::start(&ctx(), &Home::under(dir.path()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Writable { .. }), "{error:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn one_that_cannot_start_says_why_in_its_own_words() {
    if !real::available("embedded containerd: a start that fails") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Where containerd wants its state directory.
    fs::write(dir.path().join("state"), "in the way").unwrap();
    let error = Embedded::start(&ctx(), &Home::under(dir.path()))
        .await
        .unwrap_err();
    let Error::Died { said: Some(said), .. } = &error else {
        panic!("{error:?}")
    };
    assert!(said.contains("not a directory"), "{said}");
    assert!(error.to_string().ends_with(said.as_str()), "{error}");
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn a_start_that_is_interrupted_leaves_nothing() {
    if !real::available("embedded containerd: an interrupted start") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::timeout(Duration::from_millis(20));
    match Embedded::start(&ctx, &Home::under(dir.path())).await {
        Err(Error::Interrupted { .. }) => {}
        other => panic!("containerd does not start in 20 ms: {other:?}"),
    }
    assert_nothing_is_left(dir.path());
}

/// Looks again until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = patience::patient(Duration::from_secs(30));
    assert!(tokio::time::timeout(limit, waited).await.is_ok(), "{what}");
}

#[tokio::test]
async fn one_that_dies_is_started_again_for_as_long_as_it_is_shared() {
    if !real::available("embedded containerd: the watch") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(&ctx(), &Home::under(dir.path())).await.unwrap();
    for _ in 0..2 {
        let died = processes(dir.path());
        kill(Pid::from_raw(died[0]), Signal::SIGKILL).unwrap();
        until("it is not started again", async || {
            processes(dir.path()).first().is_some_and(|pid| *pid != died[0])
                && answers(&embedded.socket()).await
        })
        .await;
    }
    assert_eq!(embedded.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}

#[tokio::test]
async fn its_log_is_cut_while_it_runs() {
    if !real::available("embedded containerd: the log") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(&ctx(), &Home::under(dir.path())).await.unwrap();
    let log = || fs::metadata(embedded.log()).unwrap().len();
    let mut writer = fs::File::options().append(true).open(embedded.log()).unwrap();
    std::io::Write::write_all(&mut writer, &vec![b'x'; (1 << 20) + 1]).unwrap();
    until("the log is not cut", async || log() < 1 << 20).await;
    assert_eq!(mode(&dir.path().join("containerd.log.old")), 0o600);
    // The next that shares it cuts it too, if nobody was there to do it meanwhile.
    std::io::Write::write_all(&mut writer, &vec![b'x'; (1 << 20) + 1]).unwrap();
    let next = Embedded::start(&ctx(), &Home::under(dir.path())).await.unwrap();
    // If the first one is at it just now, the next one leaves it to that.
    until("the log is not cut", async || log() < 1 << 20).await;
    drop(embedded);
    assert_eq!(next.stop(&ctx()).await.unwrap(), Stopped::Ended);
    assert_nothing_is_left(dir.path());
}
