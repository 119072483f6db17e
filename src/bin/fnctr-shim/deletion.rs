//! The end of a container. containerd executes its shim's program with `delete` once the shim's connection has closed, to
//! clean up after a shim that was killed (runtime/v2/README.md). It does so also after a shim that has deleted its container
//! itself, and `Tasks/Delete` waits for it: the shim's program starts, starts the OCI runtime, and finds that nothing is left.
//!
//! Nothing is left if the runtime has no state of the container, its first process is gone, and the root file system is
//! not mounted. This is known of runc and crun, which remove their state last, after the processes and the cgroups; others
//! keep theirs differently.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

/// The runtimes whose state is a directory `ROOT/NAMESPACE/ID` until the last part of a container is removed.
const KNOWN_RUNTIMES: [&str; 2] = ["runc", "crun"];
/// Where the shim lets the runtime keep its state if its options say nothing else.
const RUNTIME_ROOT: &str = "/run/containerd/runc";
/// The exit status that the shim answers for a container after which it cleans up: killed.
const KILLED: u32 = 128 + 9;

/// A container after which containerd wants its shim to clean up.
#[derive(Debug, PartialEq)]
pub(crate) struct Deletion {
    pub(crate) namespace: OsString,
    pub(crate) id: OsString,
    pub(crate) bundle: PathBuf,
}

impl Deletion {
    pub(crate) fn has_left_nothing(&self) -> bool {
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
    pub(crate) fn answer(&self) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
