//! A private containerd for tests: its root, state and socket are in a temporary directory, and it ends with the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::Session;
use crate::{Context, Namespace};

/// A containerd for one test. Dropping it ends the process and removes the directory.
#[derive(Debug)]
pub(crate) struct Private {
    process: Child,
    directory: TempDir,
}

impl Private {
    /// Starts a containerd. If the test cannot run here, prints the reason on stderr and returns `None`.
    pub(crate) async fn start() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("fc").tempdir().unwrap();
        let root = nix::unistd::geteuid().is_root();
        let config = directory.path().join("config.toml");
        std::fs::write(&config, config_text(&directory)).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        // Another version of containerd than the system's, with its shim, to test against.
        let first = std::env::var("FNCTR_TEST_CONTAINERD_DIR").unwrap_or_default();
        let path = format!("{first}:{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let binary = if first.is_empty() {
            "containerd".into()
        } else {
            Path::new(&first).join("containerd")
        };
        let spawned = Command::new(binary)
            .env("PATH", path.trim_start_matches(':'))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let process = match spawned {
            Ok(process) if root => process,
            spawned => {
                let why = if root {
                    format!("containerd cannot be started: {spawned:?}")
                } else {
                    "it needs root".to_owned()
                };
                eprintln!("SKIPPED, NOT PASSED: a test on a real containerd did not run: {why}");
                assert!(
                    std::env::var_os("FNCTR_REQUIRE_REAL").is_none(),
                    "this test must run on a real containerd"
                );
                return None;
            }
        };
        let private = Self { process, directory };
        private.ready().await;
        Some(private)
    }

    /// The path of the socket.
    pub(crate) fn address(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The directory of the content and the snapshots.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A directory that is removed with the containerd.
    pub(crate) fn scratch(&self) -> PathBuf {
        let path = self.directory.path().join("scratch");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The pid of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// The containerd namespace, named after the directory. runc keeps the records of all namespaces of the same name
    /// in one place, so with one name for all, the first test that ends would remove the records of the others.
    fn namespace(&self) -> Namespace {
        let name = self.directory.path().file_name().unwrap();
        Namespace::new(name.to_str().unwrap()).unwrap()
    }

    /// A session in the containerd namespace of this instance.
    pub(crate) async fn session(&self) -> Session {
        Session::connect(&patience(), &self.address(), &self.namespace())
            .await
            .unwrap()
    }

    /// Kills the process and waits until it has ended.
    pub(crate) async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    async fn ready(&self) {
        let namespace = self.namespace();
        for _ in 0..600 {
            let ctx = patience();
            if let Ok(session) = Session::connect(&ctx, &self.address(), &namespace).await
                && session.version().version(&ctx).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.directory.path().join("log"));
        panic!("containerd did not come up: {log:?}");
    }
}

impl Drop for Private {
    /// Removes what a test that failed half-way may have left: a shim, its container and their mounts.
    fn drop(&mut self) {
        let address = self.address().display().to_string();
        for shim in pids() {
            let command = std::fs::read(format!("/proc/{shim}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            if command.contains("containerd-shim") && command.split('\0').any(|word| word == address) {
                pids().filter(|pid| parent(*pid) == Some(shim)).for_each(kill);
                kill(shim);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let below: Vec<_> = below
            .filter(|at| Path::new(at).starts_with(self.directory.path()))
            .collect();
        for at in below.into_iter().rev() {
            nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH).ok();
        }
        let records = Path::new("/run/containerd/runc").join(self.namespace().as_str());
        drop(std::fs::remove_dir(records));
    }
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
}

/// A context with a timeout, so that a test fails and does not hang.
pub(crate) fn patience() -> Context {
    Context::timeout(Duration::from_secs(60))
}

fn config_text(directory: &TempDir) -> String {
    let at = directory.path().display();
    format!(
        "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{at}/s\"\n[ttrpc]\naddress = \"{at}/t\"\n"
    )
}
