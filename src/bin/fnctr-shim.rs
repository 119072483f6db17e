//! `fnctr-shim` stands before `containerd-shim-runc-v2` on containerd's `PATH`, under that name, and makes the end of a
//! container quicker.
//!
//! containerd executes the shim's program twice for each container: with `start`, and, once the shim's connection has
//! closed, with `delete`, which cleans up after a shim that was killed (runtime/v2/README.md). It does the second also
//! after a shim that has deleted its container itself, and `Tasks/Delete` waits for it: the shim's program starts, starts
//! the OCI runtime, and finds that nothing is left. This program looks for itself, and if nothing is left, it answers
//! as the shim would. In every other case it replaces itself by the shim.
//!
//! Nothing is left if the runtime has no state of the container, its first process is gone, and the root file system is
//! not mounted. This is known of runc and crun, which remove their state last, after the processes and the cgroups; others
//! keep theirs differently.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags, access, statx};

/// The program that this one stands before.
const SHIM: &str = "containerd-shim-runc-v2";
/// The runtimes whose state is a directory `ROOT/NAMESPACE/ID` until the last part of a container is removed.
const KNOWN_RUNTIMES: [&str; 2] = ["runc", "crun"];
/// The directories that other copies of this program have left behind on their way to the shim, so that the way ends.
const PASSED: &str = "FNCTR_SHIM_PASSED";
/// Where the shim lets the runtime keep its state if its options say nothing else.
const RUNTIME_ROOT: &str = "/run/containerd/runc";
/// The exit status that the shim answers for a container after which it cleans up: killed.
const KILLED: u32 = 128 + 9;

fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().skip(1).collect();
    if let Some(deleted) = Deletion::asked_for(&args)
        && deleted.has_left_nothing()
        && io::stdout().write_all(&deleted.answer()).is_ok()
    {
        return ExitCode::SUCCESS;
    }
    let error = become_the_shim(&args);
    // containerd shows what its shim prints.
    drop(writeln!(io::stderr(), "fnctr-shim: {error}"));
    ExitCode::FAILURE
}

/// A container after which containerd wants its shim to clean up.
#[derive(Debug, PartialEq)]
struct Deletion {
    namespace: OsString,
    id: OsString,
    bundle: PathBuf,
}

impl Deletion {
    /// `None` if the arguments ask for something else, or are not as expected.
    fn asked_for(args: &[OsString]) -> Option<Self> {
        let (mut namespace, mut id, mut bundle) = (None, None, None);
        let mut args = args.iter();
        loop {
            let arg = args.next()?.to_str()?;
            // Options have the form of Go: one dash or two, and the value behind a space; containerd uses no other.
            match arg.trim_start_matches('-') {
                "namespace" => namespace = args.next(),
                "id" => id = args.next(),
                "bundle" => bundle = args.next(),
                "address" | "publish-binary" => drop(args.next()?),
                "delete" if !arg.starts_with('-') && args.next().is_none() => break,
                _ => return None,
            }
        }
        Some(Self {
            namespace: namespace?.clone(),
            id: id?.clone(),
            bundle: bundle?.into(),
        })
    }

    fn has_left_nothing(&self) -> bool {
        let is_gone = |path: &Path| {
            path.symlink_metadata()
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let Some(state) = self.runtime_state() else {
            return false;
        };
        let rootfs = self.bundle.join("rootfs");
        // A process that has the pid by now only costs the long way.
        let process = PathBuf::from(format!("/proc/{}", self.init_pid()));
        is_gone(&state) && is_gone(&process) && (is_gone(&rootfs) || !may_be_mounted(&rootfs))
    }

    /// The directory in which the runtime keeps the state of the container: `ROOT/NAMESPACE/ID`, where the root is in the
    /// options that the shim has noted in the bundle. `None` if there is no such note, or the runtime is none that is known.
    fn runtime_state(&self) -> Option<PathBuf> {
        let options = fs::read(self.bundle.join("options.json")).ok()?;
        let options: serde_json::Value = serde_json::from_slice(&options).ok()?;
        let text = |name| options.get(name).map_or(Some(""), serde_json::Value::as_str);
        let (root, runtime) = (text("root")?, text("binary_name")?);
        let is_known = |name: &OsStr| KNOWN_RUNTIMES.iter().any(|known| name == *known);
        if !runtime.is_empty() && !Path::new(runtime).file_name().is_some_and(is_known) {
            return None;
        }
        let root = if root.is_empty() { RUNTIME_ROOT } else { root };
        Some(Path::new(root).join(&self.namespace).join(&self.id))
    }

    /// The first process of the container; 0 if none was made.
    fn init_pid(&self) -> u32 {
        let pid = fs::read_to_string(self.bundle.join("init.pid"));
        pid.ok().and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
    }

    /// The message `containerd.task.v3.DeleteResponse`, whose fields 1 to 3 are the same in version 2: what the shim
    /// answers after it has cleaned up. containerd uses it only for a container whose end it does not know yet.
    fn answer(&self) -> Vec<u8> {
        let mut answer = Vec::new();
        prost::encoding::uint32::encode(1, &self.init_pid(), &mut answer);
        prost::encoding::uint32::encode(2, &KILLED, &mut answer);
        let now = prost_types::Timestamp::from(SystemTime::now());
        prost::encoding::message::encode(3, &now, &mut answer);
        answer
    }
}

/// Whether something is mounted there, or the kernel cannot tell (before Linux 5.8).
fn may_be_mounted(dir: &Path) -> bool {
    let seen = statx(CWD, dir, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    seen.map_or(true, |seen| {
        let tells = seen.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
        !tells || seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

/// Replaces this process by the shim. Returns only if that fails.
fn become_the_shim(args: &[OsString]) -> io::Error {
    let path = env::var_os("PATH").unwrap_or_default();
    let passed = env::var_os(PASSED).unwrap_or_default();
    let passed: Vec<_> = env::split_paths(&passed).collect();
    let dirs = env::split_paths(&path).chain(dir_of_containerd());
    let Some(dir) = dirs.filter(|dir| !passed.contains(dir)).find(|dir| has_shim(dir)) else {
        let why = format!(
            "{SHIM} is neither on containerd's PATH nor beside containerd; install it with containerd"
        );
        return io::Error::new(io::ErrorKind::NotFound, why);
    };
    let shim = dir.join(SHIM);
    // What is there may be another copy of this program, or a script that calls this one.
    let passed = env::join_paths(passed.into_iter().chain([dir])).unwrap_or_default();
    let error = Command::new(&shim).args(args).env(PASSED, passed).exec();
    io::Error::new(
        error.kind(),
        format!("cannot execute {}: {error}", shim.display()),
    )
}

/// Whether the directory has a program of the shim's name that is not this one.
fn has_shim(dir: &Path) -> bool {
    let identity = |file: &Path| file.metadata().ok().map(|file| (file.dev(), file.ino()));
    let shim = dir.join(SHIM);
    shim.is_file()
        && access(&shim, Access::EXEC_OK).is_ok()
        && identity(&shim) != identity(Path::new("/proc/self/exe"))
}

/// The directory of containerd's program, in which containerd searches its shims, too.
fn dir_of_containerd() -> Option<PathBuf> {
    let exe = fs::read_link(format!("/proc/{}/exe", parent_id())).ok()?;
    // The kernel says so of a program that was replaced while it runs.
    let name = exe.file_name()?.to_str()?;
    let is_containerd = name.strip_suffix(" (deleted)").unwrap_or(name) == "containerd";
    exe.parent().filter(|_| is_containerd).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = "/run/containerd/io.containerd.runtime.v2.task/fn/c1";

    fn args(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_a_deletion_is_answered() {
        let before = "-namespace fn -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 -bundle";
        let deletion = Deletion::asked_for(&args(&format!("{before} {BUNDLE} delete")));
        let expected = Deletion {
            namespace: "fn".into(),
            id: "c1".into(),
            bundle: BUNDLE.into(),
        };
        assert_eq!(deletion, Some(expected));
        for other in [
            "",
            "-v",
            "-info",
            "delete",
            "-id c1 delete",
            "-namespace fn -id c1 start",
            "-namespace fn -id c1 -bundle /b",
            "-namespace fn -id c1 -bundle /b -new delete",
            "-namespace fn -id c1 -bundle /b delete again",
            "-namespace fn -id c1 -bundle /b -delete",
        ] {
            assert_eq!(Deletion::asked_for(&args(other)), None, "{other}");
        }
    }

    #[test]
    fn what_the_runtime_or_a_mount_has_left_is_the_shims_to_clean_up() {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, root) = (dir.path().join("bundle"), dir.path().join("runc"));
        let deletion = Deletion {
            namespace: "fn".into(),
            id: "c1".into(),
            bundle: bundle.clone(),
        };
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        assert!(!deletion.has_left_nothing(), "no options are known");
        let note = |text: &str| fs::write(bundle.join("options.json"), text).unwrap();
        note("{");
        assert!(!deletion.has_left_nothing(), "options that are cut off");
        note(r#"{"root":7}"#);
        assert!(!deletion.has_left_nothing(), "options of another form");
        note(&serde_json::json!({ "binary_name": "runc", "root": root }).to_string());
        assert!(deletion.has_left_nothing());
        for (runtime, is_known) in [
            ("/usr/sbin/crun", true),
            ("", true),
            ("runsc", false),
            ("/opt/runc/kata", false),
        ] {
            note(&serde_json::json!({ "binary_name": runtime, "root": root }).to_string());
            assert_eq!(deletion.has_left_nothing(), is_known, "{runtime}");
        }
        note(&serde_json::json!({ "root": root }).to_string());
        fs::write(bundle.join("init.pid"), std::process::id().to_string()).unwrap();
        assert!(!deletion.has_left_nothing(), "a process that lives");
        fs::remove_file(bundle.join("init.pid")).unwrap();
        fs::create_dir_all(root.join("fn/c1")).unwrap();
        assert!(!deletion.has_left_nothing(), "state of the runtime");
        fs::remove_dir(root.join("fn/c1")).unwrap();
        fs::remove_dir(bundle.join("rootfs")).unwrap();
        assert!(deletion.has_left_nothing());
    }

    #[test]
    fn a_mount_is_seen_also_if_it_is_of_the_same_file_system() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};

        let dir = tempfile::tempdir().unwrap();
        assert!(!may_be_mounted(dir.path()));
        let bind = mount(
            Some(dir.path()),
            dir.path(),
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        if bind.is_err() {
            return; // Only root can mount, and not everywhere.
        }
        let seen = may_be_mounted(dir.path());
        umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        assert!(seen);
    }

    #[test]
    fn the_state_is_where_the_options_or_the_shims_default_say() {
        let dir = tempfile::tempdir().unwrap();
        let deletion = Deletion {
            namespace: "fn".into(),
            id: "c1".into(),
            bundle: dir.path().to_owned(),
        };
        for (options, expected) in [
            ("{}", "/run/containerd/runc/fn/c1"),
            (r#"{"root":""}"#, "/run/containerd/runc/fn/c1"),
            (r#"{"root":"/srv/runc"}"#, "/srv/runc/fn/c1"),
        ] {
            fs::write(dir.path().join("options.json"), options).unwrap();
            assert_eq!(deletion.runtime_state(), Some(expected.into()), "{options}");
        }
    }

    #[test]
    fn the_answer_is_that_of_the_shim() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("init.pid"), "1234").unwrap();
        let deletion = Deletion {
            namespace: "fn".into(),
            id: "c1".into(),
            bundle: dir.path().to_owned(),
        };
        let answer = deletion.answer();
        // Field 1 is 1234, field 2 is 137, field 3 is a message.
        assert_eq!(
            answer.get(..6),
            Some([0x08, 0xd2, 0x09, 0x10, 0x89, 0x01].as_slice())
        );
        assert_eq!(answer.get(6), Some(&0x1a));
    }
}
