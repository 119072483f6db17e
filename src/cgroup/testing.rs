//! Shared by the tests of this directory: mount tables of real layouts, and cgroups of the running kernel.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::{Paths, Root, Version};

/// A systemd host with only the v2 tree.
pub(super) const UNIFIED: &str = "\
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
28 27 0:25 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
29 28 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

/// v1 controllers, each on its own mount, and a v2 tree beside them.
pub(super) const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

/// v1 only, with controllers that share a mount.
pub(super) const V1: &str = "\
25 20 0:22 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
30 25 0:27 / /sys/fs/cgroup/memory rw,nosuid,relatime shared:11 - cgroup cgroup rw,memory
31 25 0:28 / /sys/fs/cgroup/freezer rw,nosuid,relatime shared:12 - cgroup cgroup rw,freezer
";

/// Inside a container without a cgroup namespace: the mount shows the container's part of the tree.
pub(super) const NESTED: &str = "\
700 690 0:60 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
712 711 0:26 /docker/0123 /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
";

fn skipped(why: &str) {
    eprintln!("\n*** SKIPPED, this host cannot test it: {why} ***\n");
}

/// Polls until `done` returns true, for at most a minute.
#[track_caller]
pub(super) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "still not: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A cgroup of the running kernel with processes in it. Dropping it removes both.
pub(super) struct Cgroup {
    paths: Paths,
    dir: PathBuf,
    children: Vec<Child>,
    counted: TempDir,
}

impl Cgroup {
    /// A cgroup in the v2 tree only.
    pub(super) fn v2(name: &str) -> Option<Self> {
        let all = Self::name(name)?;
        let Some(dir) = all.v2 else {
            skipped("no v2 tree");
            return None;
        };
        let paths = Paths {
            v2: Some(dir.clone()),
            ..Paths::default()
        };
        Self::make(paths, dir, "cgroup.freeze")
    }

    /// A cgroup in the v1 freezer only.
    pub(super) fn v1(name: &str) -> Option<Self> {
        let all = Self::name(name)?;
        let Some(dir) = all.freezer else {
            skipped("no v1 freezer");
            return None;
        };
        let paths = Paths {
            freezer: Some(dir.clone()),
            ..Paths::default()
        };
        Self::make(paths, dir, "freezer.state")
    }

    fn name(name: &str) -> Option<Paths> {
        match Root::probe() {
            Ok(root) => Some(
                root.of_path(&format!("/fnctr-cg-test-{}-{name}", std::process::id()))
                    .unwrap(),
            ),
            Err(error) => {
                skipped(&error.to_string());
                None
            }
        }
    }

    fn make(paths: Paths, dir: PathBuf, needs: &str) -> Option<Self> {
        if let Err(error) = fs::create_dir(&dir) {
            skipped(&format!("cannot make {}: {error}", dir.display()));
            return None;
        }
        let cgroup = Self {
            paths,
            dir,
            children: Vec::new(),
            counted: tempfile::tempdir().unwrap(),
        };
        if !cgroup.dir.join(needs).exists() {
            skipped(&format!("this kernel has no {needs}"));
            return None;
        }
        Some(cgroup)
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Starts `processes` in the cgroup, one of which counts without end.
    pub(super) fn spawn(&mut self, processes: usize) {
        let counting = format!("while :; do echo; done >> {}", self.counter().display());
        self.start(processes, &counting);
        eventually("counting", || self.count() > 0);
    }

    /// Starts a process in the cgroup that counts by forking a process for each step.
    pub(super) fn spawn_forking(&mut self) {
        let counter = self.counter();
        let script = format!(
            "echo $$ > {}/cgroup.procs; while :; do /bin/echo; done >> {}",
            self.dir.display(),
            counter.display()
        );
        let child = Command::new("sh")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.children.push(child);
        eventually("counting", || self.count() > 0);
    }

    fn start(&mut self, processes: usize, last: &str) {
        // One process moves into the cgroup and forks the others there: moving each one would take milliseconds.
        let script = format!(
            "echo $$ > {}/cgroup.procs; i=1; while [ $i -lt {processes} ]; do sleep 600 & i=$((i+1)); done; {last}",
            self.dir.display()
        );
        let child = Command::new("sh")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.children.push(child);
        eventually("all processes inside", || self.processes().len() == processes);
    }

    fn counter(&self) -> PathBuf {
        self.counted.path().join("count")
    }

    /// How far the counting process has counted.
    pub(super) fn count(&self) -> u64 {
        fs::metadata(self.counter()).map_or(0, |file| file.len())
    }

    /// Asserts that the counting process continues.
    #[track_caller]
    pub(super) fn assert_runs(&self) {
        let before = self.count();
        eventually("counting on", || self.count() > before);
    }

    /// Asserts that the counting process is stopped.
    #[track_caller]
    pub(super) fn assert_stands(&self) {
        let before = self.count();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(self.count(), before, "a frozen process counted on");
    }

    fn processes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Waits until the last process has ended.
    #[track_caller]
    pub(super) fn wait_empty(&mut self) {
        eventually("empty", || {
            for child in &mut self.children {
                child.try_wait().unwrap();
            }
            match fs::read_to_string(self.dir.join("cgroup.events")) {
                Ok(events) => events.contains("populated 0"),
                Err(_) => self.processes().is_empty(),
            }
        });
    }

    /// Removes the empty cgroup.
    pub(super) fn remove(&self) {
        fs::remove_dir(&self.dir).unwrap();
    }

    /// Kills the processes one by one, the only way on a v1 host.
    pub(super) fn kill(&self) {
        for pid in self.processes() {
            // A process that has ended meanwhile needs no signal.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.dir.exists() {
            return;
        }
        let v2 = self.paths.v2.is_some();
        let (file, text) = if v2 {
            ("cgroup.freeze", "0")
        } else {
            ("freezer.state", "THAWED")
        };
        fs::write(self.dir.join(file), text).ok();
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.dir).is_err() && Instant::now() < until {
            self.kill();
            for child in &mut self.children {
                child.try_wait().ok();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A cgroup with a memory limit in every hierarchy of this host, as a runtime creates it.
pub(super) struct Limited(Paths);

impl Limited {
    /// Creates the cgroup with a memory limit in bytes.
    pub(super) fn new(name: &str, limit: u64) -> Option<Self> {
        let limited = Self(Cgroup::name(name)?);
        if let Err(error) = limited.make() {
            skipped(&error);
            return None;
        }
        let Some((version, memory)) = limited.0.controller(&limited.0.memory) else {
            skipped("no memory controller");
            return None;
        };
        let file = memory.join(match version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        });
        if !file.exists() {
            skipped("the memory controller is not enabled for children of the root");
            return None;
        }
        fs::write(file, limit.to_string()).unwrap();
        Some(limited)
    }

    /// Creates a cgroup without a limit inside this one. This cgroup must then hold no process of its own.
    pub(super) fn below(&self, name: &str) -> Self {
        let inside = |dir: &Option<PathBuf>| dir.as_ref().map(|dir| dir.join(name));
        let all = &self.0;
        let child = Self(Paths {
            v2: inside(&all.v2),
            memory: inside(&all.memory),
            cpu: inside(&all.cpu),
            cpuacct: inside(&all.cpuacct),
            pids: inside(&all.pids),
            blkio: inside(&all.blkio),
            freezer: inside(&all.freezer),
        });
        if let (None, Some(v2)) = (&all.memory, &all.v2) {
            fs::write(v2.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        child.make().unwrap();
        child
    }

    /// Creates the directories. Several hierarchies may share one.
    pub(super) fn make(&self) -> Result<(), String> {
        for dir in self.0.dirs() {
            if let Err(error) = fs::create_dir(dir)
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(format!("cannot make {}: {error}", dir.display()));
            }
        }
        Ok(())
    }

    /// Removes the directories one after the other, as a runtime does.
    pub(super) fn remove(&self) {
        for dir in self.0.dirs() {
            let until = Instant::now() + Duration::from_secs(5);
            while dir.exists() && fs::remove_dir(dir).is_err() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.0
    }

    /// Runs a shell script in the cgroup until the script ends.
    pub(super) fn run(&self, script: &str) -> ExitStatus {
        let joins = self
            .0
            .dirs()
            .map(|dir| format!("echo $$ > {}/cgroup.procs; ", dir.display()));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(joins.collect::<String>() + script);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.remove();
    }
}
