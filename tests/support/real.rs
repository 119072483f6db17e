//! A private containerd of its own for a test, ended with it.
//!
//! It is started from the outside, with no code of this project, so that a test of that code has something to stand on.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails"
)]

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::patience::patient;

/// That of a service.
const USUAL_UMASK: &str = "022";

const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Why a real containerd cannot be had here, if it cannot.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root".into());
    }
    let path = search_path();
    let runtime = std::env::var("FNCTR_TEST_RUNTIME").unwrap_or_else(|_| "runc".to_owned());
    for program in ["containerd", "containerd-shim-runc-v2", &runtime] {
        if !path.split(':').any(|dir| Path::new(dir).join(program).is_file()) {
            return Some(format!("{program} is not installed"));
        }
    }
    None
}

/// Whether a test on a real containerd can run; says so loudly if not, and fails if `FNCTR_REQUIRE_REAL` is set.
pub(crate) fn available(test: &str) -> bool {
    let Some(why) = obstacle() else { return true };
    assert!(
        std::env::var_os("FNCTR_REQUIRE_REAL").is_none(),
        "{test} must run on a real containerd, but {why}"
    );
    skipped(test, &why);
    false
}

/// Says that a test is skipped, so that nobody takes it for a success.
pub(crate) fn skipped(test: &str, why: &str) {
    tell(&format!("!!! SKIPPED {test}: {why}"));
}

/// Says something past the capture of the test's own output, which holds back what macros print and no more.
pub(crate) fn tell(what: &str) {
    use std::io::Write as _;

    let line = format!("\n{what}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Says why a test takes more than half a minute, so that nobody takes it for one that hangs.
pub(crate) fn takes_long(test: &str, why: &str) {
    tell(&format!("{test} takes most of a minute: {why}"));
}

/// `PATH` for containerd: `FNCTR_TEST_CONTAINERD_DIR` (another version's programs) comes first.
pub(crate) fn search_path() -> String {
    let first = std::env::var("FNCTR_TEST_CONTAINERD_DIR").unwrap_or_default();
    let rest = std::env::var("PATH").unwrap_or_default();
    format!("{first}:{rest}:{SBIN}").trim_matches(':').to_owned()
}

/// A running containerd with everything under one temporary directory.
#[derive(Debug)]
pub(crate) struct Real {
    dir: PathBuf,
    namespace: String,
    umask: &'static str,
    child: Child,
}

impl Real {
    /// Starts one, or says why the test is skipped (see [`available`]). `test` is what a person calls the test.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_in(test, &std::env::temp_dir())
    }

    /// The same, with everything below another directory than the usual one.
    pub(crate) fn start_in(test: &str, place: &Path) -> Option<Self> {
        Self::start_on(test, place, USUAL_UMASK, |_| {})
    }

    /// One with another umask than services have.
    pub(crate) fn start_with_umask(test: &str, umask: &'static str) -> Option<Self> {
        Self::start_on(test, &std::env::temp_dir(), umask, |_| {})
    }

    /// One whose data is on a disk of so many megabytes.
    pub(crate) fn start_small(test: &str, megabytes: u32) -> Option<Self> {
        Self::start_on(test, &std::env::temp_dir(), USUAL_UMASK, |dir| {
            let root = dir.join("root");
            fs::create_dir(&root).unwrap();
            let size = format!("size={megabytes}m");
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("tmpfs"), &root, Some("tmpfs"), flags, Some(size.as_str())).unwrap();
        })
    }

    fn start_on(test: &str, place: &Path, umask: &'static str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        if !available(test) {
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = place.join(format!("fnctr-{unique}"));
        fs::create_dir_all(&dir).unwrap();
        prepare(&dir);
        let child = spawn(&dir, umask);
        let mut real = Self {
            dir,
            namespace: unique,
            umask,
            child,
        };
        real.wait_until_it_answers();
        Some(real)
    }

    /// The socket.
    pub(crate) fn address(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// A containerd namespace that nobody else uses, so that its name also tells this test's cgroups and mounts apart.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A directory for the test's own files, removed with everything else.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// containerd's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What containerd wrote so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The version that `containerd --version` tells, as in `1.6.20~ds1`.
    pub(crate) fn version(&self) -> String {
        let out = Command::new(program()).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let word = text.split_whitespace().find(|word| {
            word.trim_start_matches('v')
                .starts_with(|c: char| c.is_ascii_digit())
        });
        word.unwrap_or_default().trim_start_matches('v').to_owned()
    }

    /// Ends containerd without warning, as a crash does. Containers go on.
    pub(crate) fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again in the same place after [`Real::crash`].
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.dir, self.umask);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let until = Instant::now() + patient(Duration::from_secs(30));
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("containerd ended with {status}:\n{}", self.log());
            }
            if UnixStream::connect(self.address()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("containerd does not listen in time:\n{}", self.log());
    }
}

fn program() -> PathBuf {
    let path = search_path();
    path.split(':')
        .map(|dir| Path::new(dir).join("containerd"))
        .find(|file| file.is_file())
        .unwrap()
}

fn spawn(dir: &Path, umask: &str) -> Child {
    let at = |name: &str| dir.join(name).display().to_string();
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
         \"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.internal.v1.opt\", \
         \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = {:?}\n",
        at("root"),
        at("state"),
        at("c.sock"),
    );
    let file = dir.join("config.toml");
    fs::write(&file, config).unwrap();
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    let path = search_path();
    // A child's umask is its parent's, and a shell is the one that can change it.
    Command::new("/bin/sh")
        .args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")])
        .arg(program())
        .arg("--config")
        .arg(file)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

impl Drop for Real {
    /// Ends containerd, then whatever a failed test left: shims with their containers, mounts, files.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let until = Instant::now() + patient(Duration::from_secs(5));
        let mut ended = false;
        while !ended && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            ended = matches!(self.child.try_wait(), Ok(Some(_)));
        }
        if !ended {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        for shim in shims(&self.address()) {
            eprintln!("left behind: {}", shim.command);
            for child in children(shim.pid) {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
            let _ = kill(Pid::from_raw(shim.pid), Signal::SIGKILL);
        }
        for mount in mounts_under(&self.dir).into_iter().rev() {
            // The small disk of a test is no mistake.
            if mount != self.dir.join("root") {
                eprintln!("left behind: mount {}", mount.display());
            }
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        // Made by the first container for all that follow in its namespace, which end here. What is in it is of a shim that was
        // ended above; the census has told of it if it should not be.
        drop(fs::remove_dir_all(
            Path::new("/run/containerd/runc").join(&self.namespace),
        ));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroups(&hierarchy.path().join(&self.namespace));
        }
        remove_cgroups(&Path::new("/sys/fs/cgroup").join(&self.namespace));
        if let Err(why) = fs::remove_dir_all(&self.dir) {
            eprintln!("cannot remove {}: {why}", self.dir.display());
        }
    }
}

/// A test's cgroup and those in it, with what a runtime that was killed left in them.
fn remove_cgroups(dir: &Path) {
    let inside = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroups(&entry.path());
    }
    let until = Instant::now() + Duration::from_secs(5);
    while dir.is_dir() && fs::remove_dir(dir).is_err() && Instant::now() < until {
        let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|pid| pid.parse().ok()) {
            eprintln!("left behind: process {pid} in {}", dir.display());
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A shim process that serves the containerd at one address.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) pid: i32,
    pub(crate) command: String,
}

/// The shims that were started by the containerd at this address, in any namespace.
pub(crate) fn shims(address: &Path) -> Vec<Shim> {
    let address = address.display().to_string();
    let mut found: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
            let shim =
                words.first()?.contains("containerd-shim") && words.iter().any(|word| *word == address);
            shim.then(|| Shim {
                pid,
                command: words.join(" ").trim().to_owned(),
            })
        })
        .collect();
    found.sort_by_key(|shim| shim.pid);
    found
}

fn children(of: i32) -> Vec<i32> {
    fs::read_dir(format!("/proc/{of}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The mount points below a directory, outermost first.
pub(crate) fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(dir))
        .collect()
}
