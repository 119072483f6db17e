//! Two commands of the OCI runtime runc that need none of its program: the start of a container that waits at its fifo, and
//! the removal of one that has ended. Both are decided by the state that runc keeps of a container, in the form of runc 1.1;
//! whatever is missing there, or has another form, is runc's to do.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

/// How often it is seen whether the container's first process is still alive, while it comes to its fifo.
const STILL_ALIVE: Duration = Duration::from_millis(100);
/// The fifo at which the first process waits for its start.
const FIFO: &str = "exec.fifo";
/// How often and with which first pause, which doubles, a cgroup is removed that the kernel holds busy for a moment after
/// its last process.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_micros(250);

/// Does what the arguments ask of runc. Returns `false`, with nothing changed that runc would not change, if runc must.
pub(crate) fn is_done(args: &[OsString]) -> bool {
    Command::parse(args).is_some_and(|command| {
        let state = State::read(&command.dir);
        state.is_some_and(|state| match command.verb {
            Verb::Start => state.start(&command.dir).unwrap_or(false),
            Verb::Delete => state.delete(&command.dir).unwrap_or(false),
        })
    })
}

#[derive(Debug, PartialEq)]
struct Command {
    verb: Verb,
    /// Where runc keeps the container's state.
    dir: PathBuf,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Verb {
    Start,
    Delete,
}

impl Command {
    /// `None` for every command but those that containerd's shim uses to start and to delete.
    fn parse(args: &[OsString]) -> Option<Self> {
        let mut root = None;
        let mut args = args.iter();
        let verb = loop {
            match args.next()?.to_str()? {
                "--root" => root = args.next(),
                // Only for what runc says when it fails.
                "--log" | "--log-format" => drop(args.next()?),
                "start" => break Verb::Start,
                "delete" => break Verb::Delete,
                _ => return None,
            }
        };
        let id = match (verb, args.next()?) {
            (Verb::Delete, force) if force == "--force" => args.next()?,
            (_, id) => id,
        };
        let mut parts = Path::new(id).components();
        let is_one =
            matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == id);
        let is_option = id.as_encoded_bytes().starts_with(b"-");
        // Systemd's notifications are passed on by runc.
        let notifies = verb == Verb::Start && env::var_os("NOTIFY_SOCKET").is_some();
        (is_one && !is_option && !notifies && args.next().is_none()).then_some(())?;
        Some(Self {
            verb,
            dir: Path::new(root?).join(id),
        })
    }
}

/// The parts of runc's state that matter here.
#[derive(Debug, Deserialize)]
struct State {
    init_process_pid: u32,
    init_process_start: u64,
    cgroup_paths: BTreeMap<String, PathBuf>,
    #[serde(default)]
    intel_rdt_path: String,
    config: Config,
}

#[derive(Debug, Deserialize)]
struct Config {
    namespaces: Vec<Namespace>,
    cgroups: Cgroups,
    #[serde(rename = "Hooks", default)]
    hooks: Option<BTreeMap<String, Option<Vec<serde::de::IgnoredAny>>>>,
    #[serde(rename = "netDevices", default)]
    net_devices: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

#[derive(Debug, Deserialize)]
struct Cgroups {
    #[serde(rename = "Systemd", alias = "systemd", default)]
    systemd: bool,
}

impl State {
    fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join("state.json")).ok()?).ok()
    }

    /// Lets the first process run the container's program.
    fn start(&self, dir: &Path) -> io::Result<bool> {
        let path = dir.join(FIFO);
        if !self.init_lives() || self.is_frozen() || path.symlink_metadata().is_err() {
            return Ok(false);
        }
        let (opened, open) = mpsc::channel();
        let fifo = path.clone();
        // An open of a fifo ends only when the other side opens it.
        thread::spawn(move || opened.send(File::open(fifo)));
        let mut fifo = loop {
            match open.recv_timeout(STILL_ALIVE) {
                Ok(opened) => break opened?,
                // While it lives, nothing may take the place of this reader: what the process writes would be lost.
                Err(RecvTimeoutError::Timeout) if self.init_lives() => {}
                // It may have come to its fifo, and ended, since the time was over.
                Err(_) => match open.recv_timeout(Duration::from_millis(1)) {
                    Ok(opened) => break opened?,
                    Err(_) => return Ok(false),
                },
            }
        };
        let mut said = Vec::new();
        fifo.read_to_end(&mut said)?;
        if said.is_empty() {
            return Ok(false);
        }
        // It runs, whatever becomes of the fifo.
        drop(fs::remove_file(path));
        Ok(true)
    }

    /// Removes the cgroups and the state of a container that has ended.
    fn delete(&self, dir: &Path) -> io::Result<bool> {
        let hooks = self.config.hooks.iter().flat_map(BTreeMap::values).flatten();
        let is_simple = self.intel_rdt_path.is_empty()
            && !self.config.cgroups.systemd
            && hooks.map(Vec::len).sum::<usize>() == 0
            && self.config.net_devices.as_ref().is_none_or(BTreeMap::is_empty)
            // Of others, processes may live on.
            && self.config.namespaces.iter().any(|ns| ns.kind == "NEWPID" && ns.path.is_empty());
        if !is_simple || self.init_lives() {
            return Ok(false);
        }
        for cgroup in self.cgroup_paths.values() {
            let is_plain = cgroup
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            if !cgroup.is_absolute() || !is_plain {
                return Ok(false);
            }
            remove_cgroup(cgroup)?;
        }
        fs::remove_dir_all(dir).map(|()| true)
    }

    /// Whether the container is frozen, by the files of both versions of cgroups.
    fn is_frozen(&self) -> bool {
        let is = |hierarchy: &str, file: &str, state: &str| {
            let dir = self.cgroup_paths.get(hierarchy);
            let seen = dir.and_then(|dir| fs::read_to_string(dir.join(file)).ok());
            seen.is_some_and(|seen| seen.trim() == state)
        };
        is("", "cgroup.freeze", "1") || is("freezer", "freezer.state", "FROZEN")
    }

    /// Whether the container's first process is there, and is not only waiting to be reaped.
    fn init_lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.init_process_pid)).unwrap_or_default();
        // The name, which may contain anything, ends at the last parenthesis; see proc_pid_stat(5).
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, start) = (fields.next().unwrap_or_default(), fields.nth(18));
        let is_same = start.and_then(|start| start.parse().ok()) == Some(self.init_process_start);
        is_same && !["Z", "X"].contains(&state)
    }
}

/// Removes a cgroup with those below it. A cgroup has no files that could be removed.
fn remove_cgroup(dir: &Path) -> io::Result<()> {
    let mut pause = PAUSE;
    for tried in 1.. {
        match remove_below(dir) {
            Err(error) if tried == TRIES => return Err(error),
            Err(_) => thread::sleep(pause),
            Ok(()) => break,
        }
        pause *= 2;
    }
    Ok(())
}

fn remove_below(dir: &Path) -> io::Result<()> {
    let is_removed = |dir: &Path| match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    if is_removed(dir).is_ok() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    is_removed(dir)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::process::{Child, Command as Program, Stdio};

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use serde_json::{Value, json};

    use super::*;

    fn parse(text: &str) -> Option<(Verb, String)> {
        let args: Vec<_> = text.split_whitespace().map(OsString::from).collect();
        Command::parse(&args).map(|command| (command.verb, command.dir.display().to_string()))
    }

    #[test]
    fn only_the_shims_start_and_delete_are_done_here() {
        let before = "--root /run/runc/fn --log /b/log.json --log-format json";
        let dir = "/run/runc/fn/c1".to_owned();
        assert_eq!(
            parse(&format!("{before} start c1")),
            Some((Verb::Start, dir.clone()))
        );
        for delete in ["delete c1", "delete --force c1"] {
            assert_eq!(
                parse(&format!("{before} {delete}")),
                Some((Verb::Delete, dir.clone()))
            );
        }
        for other in [
            "",
            "--version",
            "start c1",
            "--root /r create --bundle /b c1",
            "--root /r --systemd-cgroup start c1",
            "--root /r --debug delete c1",
            "--root /r start",
            "--root /r start --force c1",
            "--root /r start c1 c2",
            "--root /r delete ..",
            "--root /r delete a/b",
            "--root /r delete /c1",
            "--root /r delete c1/",
            "--root /r delete -h",
            "--root /r kill c1 9",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    /// A process, ended with the test.
    struct Init(Child);

    impl Init {
        fn new() -> Self {
            let child = Program::new("sleep").arg("600").stdin(Stdio::null()).spawn();
            Self(child.unwrap())
        }

        fn started(&self) -> u64 {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            stat.split(' ').nth(21).unwrap().parse().unwrap()
        }

        /// The state that runc keeps of a container with that process.
        fn state(&self, cgroups: &[&Path]) -> Value {
            let cgroups: BTreeMap<_, _> = cgroups
                .iter()
                .map(|dir| (dir.file_name().unwrap().to_str(), dir))
                .collect();
            let cgroups: BTreeMap<_, _> = cgroups
                .into_iter()
                .map(|(name, dir)| (name.unwrap(), dir))
                .collect();
            json!({
                "id": "c1", "init_process_pid": self.0.id(), "init_process_start": self.started(),
                "cgroup_paths": cgroups, "intel_rdt_path": "",
                "config": {
                    "namespaces": [{ "type": "NEWPID", "path": "" }, { "type": "NEWNET", "path": "/proc/1/ns/net" }],
                    "cgroups": { "path": "/fn/c1" },
                    "Hooks": { "prestart": null, "poststop": [] },
                },
            })
        }

        fn end(&mut self) {
            self.0.kill().unwrap();
        }

        fn reap(&mut self) {
            self.0.wait().unwrap();
        }
    }

    impl Drop for Init {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn at(dir: &Path, state: &Value) -> State {
        fs::write(dir.join("state.json"), state.to_string()).unwrap();
        State::read(dir).unwrap()
    }

    fn fifo(dir: &Path) -> PathBuf {
        let path = dir.join(FIFO);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    #[test]
    fn a_process_at_its_fifo_is_started_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = dir.path().join("freezer");
        fs::create_dir(&cgroup).unwrap();
        let init = Init::new();
        let state = at(dir.path(), &init.state(&[&cgroup]));
        assert!(!state.start(dir.path()).unwrap(), "there is no fifo: it runs");
        let path = fifo(dir.path());
        fs::write(cgroup.join("freezer.state"), "FROZEN\n").unwrap();
        assert!(!state.start(dir.path()).unwrap(), "it is frozen");
        fs::write(cgroup.join("freezer.state"), "THAWED\n").unwrap();
        // The second one comes later than a look at the process takes.
        for (said, wait, is_started) in [("", Duration::ZERO, false), ("0", STILL_ALIVE * 3 / 2, true)] {
            let writer = path.clone();
            let writer = thread::spawn(move || {
                thread::sleep(wait);
                let mut fifo = OpenOptions::new().write(true).open(writer).unwrap();
                fifo.write_all(said.as_bytes()).unwrap();
            });
            assert_eq!(state.start(dir.path()).unwrap(), is_started);
            assert_eq!(path.exists(), !is_started);
            writer.join().unwrap();
        }
    }

    #[test]
    fn a_process_that_ends_before_it_comes_to_its_fifo_is_not_started() {
        let dir = tempfile::tempdir().unwrap();
        let mut init = Init::new();
        let state = at(dir.path(), &init.state(&[]));
        let path = fifo(dir.path());
        let ended = thread::spawn(move || {
            thread::sleep(STILL_ALIVE / 2);
            init.end();
            init
        });
        assert!(!state.start(dir.path()).unwrap());
        assert!(path.exists());
        ended.join().unwrap().reap();
        assert!(!state.start(dir.path()).unwrap(), "it has ended");
    }

    #[test]
    fn what_has_ended_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (own, gone) = (dir.path().join("own"), dir.path().join("gone"));
        fs::create_dir_all(own.join("below/it")).unwrap();
        let runc = dir.path().join("runc");
        fs::create_dir(&runc).unwrap();
        let mut init = Init::new();
        let state = at(&runc, &init.state(&[&own, &gone]));
        assert!(!state.delete(&runc).unwrap(), "it runs");
        assert!(own.exists() && runc.exists());
        init.end();
        while state.init_lives() {
            thread::yield_now();
        }
        // Nobody has reaped it yet.
        assert!(state.delete(&runc).unwrap());
        assert!(!own.exists() && !runc.exists());
    }

    #[test]
    fn what_only_runc_can_remove_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (own, runc) = (dir.path().join("own"), dir.path().join("runc"));
        fs::create_dir(&own).unwrap();
        fs::create_dir(&runc).unwrap();
        let mut init = Init::new();
        let plain = init.state(&[&own]);
        init.end();
        init.reap();
        let is_deleted = |pointer: &str, value: Value| {
            let mut state = plain.clone();
            *state.pointer_mut(pointer).unwrap() = value;
            at(&runc, &state).delete(&runc).unwrap()
        };
        for (pointer, value) in [
            ("/intel_rdt_path", json!("/sys/fs/resctrl/c1")),
            ("/config/cgroups", json!({ "systemd": true })),
            ("/config/cgroups", json!({ "Systemd": true })),
            ("/config/Hooks", json!({ "poststop": [{ "path": "/bin/true" }] })),
            ("/config/namespaces", json!([])),
            (
                "/config/namespaces",
                json!([{ "type": "NEWPID", "path": "/proc/1/ns/pid" }]),
            ),
            ("/cgroup_paths", json!({ "": "relative" })),
            (
                "/cgroup_paths",
                json!({ "": format!("{}/../own", dir.path().display()) }),
            ),
        ] {
            assert!(!is_deleted(pointer, value.clone()), "{pointer} {value}");
            assert!(own.exists() && runc.exists(), "{pointer} {value}");
        }
        let mut devices = plain.clone();
        let config = devices.pointer_mut("/config").unwrap().as_object_mut().unwrap();
        config.insert("netDevices".into(), json!({ "eth1": {} }));
        assert!(!at(&runc, &devices).delete(&runc).unwrap());
        assert!(is_deleted("/intel_rdt_path", json!("")));
    }

    #[test]
    fn a_busy_cgroup_is_an_error_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let busy = dir.path().join("busy");
        fs::create_dir(&busy).unwrap();
        fs::write(busy.join("a process"), "").unwrap();
        assert!(remove_cgroup(&busy).is_err());
        fs::remove_file(busy.join("a process")).unwrap();
        remove_cgroup(&busy).unwrap();
        assert!(!busy.exists());
    }
}
