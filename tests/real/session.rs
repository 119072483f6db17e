//! A service or a session that ends takes its cgroup's processes along, but nothing that was left running.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::real;

/// A cgroup of the test's own in every hierarchy by which services and sessions are ended.
struct Session(Vec<PathBuf>);

impl Session {
    fn begin() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("fnctr-session-{}-{next}", std::process::id());
        let tops = ["", "unified", "systemd", "freezer"].map(|dir| Path::new("/sys/fs/cgroup").join(dir));
        let made = tops
            .iter()
            .filter(|top| top.join("cgroup.procs").is_file())
            .map(|top| top.join(&name));
        let made: Vec<_> = made.collect();
        assert!(!made.is_empty(), "no cgroups");
        for dir in &made {
            fs::create_dir(dir).expect("a cgroup");
        }
        Self(made)
    }

    /// A command that runs in it.
    fn command(&self, program: &str) -> Command {
        let procs: Vec<_> = self
            .0
            .iter()
            .map(|dir| format!("{}/cgroup.procs", dir.display()))
            .collect();
        let mut command = Command::new("/bin/sh");
        let script = format!(
            "for procs in {}; do echo $$ >$procs || exit 99; done; exec \"$0\" \"$@\"",
            procs.join(" ")
        );
        command.args(["-c", &script, program]).stdin(Stdio::null());
        command
    }

    /// The cgroups of a process that are of this session.
    fn of(&self, pid: i32) -> Vec<String> {
        let name = self.0[0].file_name().expect("a name").to_str().expect("text");
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
        let own = lines.lines().filter(|line| line.contains(name));
        own.map(str::to_owned).collect()
    }

    /// The processes in it.
    fn processes(&self) -> Vec<String> {
        let read = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let text: Vec<_> = self.0.iter().map(read).collect();
        text.iter()
            .flat_map(|text| text.lines().map(str::to_owned))
            .collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for dir in &self.0 {
            if let Err(error) = fs::remove_dir(dir) {
                eprintln!("left behind: {}: {error}", dir.display());
            }
        }
    }
}

fn ok(mut command: Command) -> String {
    let done = command.output().expect("to run");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{command:?}\n{out}\n{err}");
    out
}

#[test]
fn a_private_containerd_and_its_shims_are_not_of_the_session_that_starts_them() {
    if !real::available("a_private_containerd_and_its_shims_are_not_of_the_session") {
        return;
    }
    let root = tempfile::Builder::new()
        .prefix("fnctr-s")
        .tempdir()
        .expect("a directory");
    let path = root.path().canonicalize().expect("a path");
    let archive = crate::image::busybox(&path).display().to_string();
    let session = Session::begin();
    let parent = format!("/fnctr-s{}", std::process::id());
    let fnctr = |args: &[&str]| {
        let mut command = session.command(env!("CARGO_BIN_EXE_fnctr"));
        command.arg("--embedded").arg("--root").arg(&path);
        command.args(["--cgroup-parent", &parent]).args(args);
        command
    };
    ok(fnctr(&["load", &archive]));
    ok(fnctr(&[
        "run", "--detach", "--name", "left", "busybox", "sleep", "600",
    ]));
    assert_eq!(
        session.processes(),
        Vec::<String>::new(),
        "what is left runs in the session"
    );
    let mut run = fnctr(&[
        "run",
        "--name",
        "held",
        "busybox",
        "sh",
        "-c",
        "echo up; exec sleep 600",
    ]);
    let mut run = run.stdout(Stdio::piped()).spawn().expect("to run fnctr");
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(run.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
    let pid = run.id().cast_signed();
    assert_eq!(session.of(pid).len(), session.0.len(), "the test's own setting");
    let containerd = crate::cli::private_containerd(&path);
    let shims = real::shims(&path.join("containerd.sock"));
    assert_eq!(
        (containerd.len(), shims.len()),
        (1, 2),
        "{containerd:?} {shims:?}"
    );
    for pid in containerd.into_iter().chain(shims.iter().map(|shim| shim.pid)) {
        assert_eq!(session.of(pid), Vec::<String>::new(), "{pid}");
    }
    // The session ends as systemd ends one: by its cgroup, and without mercy.
    for pid in session.processes() {
        let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    run.wait().expect("to end");
    let ps = ok(fnctr(&["--json", "ps"]));
    assert_eq!(ps.matches("\"state\":\"running\"").count(), 2, "{ps}");
    ok(fnctr(&["rm", "--force", "left", "held"]));
    assert_eq!(crate::cli::private_containerd(&path), Vec::<i32>::new());
    crate::cli::remove_cgroups(&parent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shims_of_a_containerd_that_runs_already_are_where_that_is() {
    let Some(stage) = crate::world::Stage::set("the_shims_of_a_containerd_that_runs_already").await else {
        return;
    };
    let session = Session::begin();
    let mut command = session.command(env!("CARGO_BIN_EXE_fnctr"));
    let plain = crate::cli::fnctr(
        &stage,
        &["run", "--detach", "--name", "left", "busybox", "sleep", "600"],
    );
    ok({
        command.args(plain.get_args());
        command
    });
    let cgroups = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    let shims = real::shims(&stage.real.address());
    assert_eq!(shims.len(), 1, "{shims:?}");
    assert_eq!(cgroups(shims[0].pid), cgroups(stage.real.pid().cast_signed()));
    ok(crate::cli::fnctr(&stage, &["rm", "--force", "left"]));
    stage.strike().await;
}
