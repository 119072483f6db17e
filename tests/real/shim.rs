//! The program before the shim of a private containerd: what the OCI runtime is asked for at the end of a container.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

use crate::cli::{private, private_containerd, remove_cgroups};
use crate::real;

/// An OCI runtime that notes what it is asked for. It has the name of the real one: others are none that is known.
fn noting_runtime(dir: &Path) -> (String, impl Fn() -> Vec<String>) {
    let (bin, log) = (dir.join("noting"), dir.join("calls"));
    std::fs::create_dir(&bin).expect("a directory");
    let program = bin.join("runc");
    let runtime = crate::world::runtime().unwrap_or_else(|| "runc".to_owned());
    let text = format!(
        "#!/bin/sh\nPATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\necho \"$*\" >>{}\nexec {runtime} \"$@\"\n",
        log.display()
    );
    std::fs::write(&program, text).expect("a program");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("to make it one");
    let calls = move || {
        let text = std::fs::read_to_string(&log).expect("calls");
        let verb = |line: &str| {
            let verbs = ["create", "start", "kill", "delete --force", "delete"];
            verbs.into_iter().find(|verb| line.contains(&format!(" {verb} ")))
        };
        text.lines().filter_map(verb).map(str::to_owned).collect()
    };
    (program.display().to_string(), calls)
}

#[test]
fn the_runtime_cleans_up_only_after_a_shim_that_has_not() {
    if !real::available("the_runtime_cleans_up_only_after_a_shim") {
        return;
    }
    let root = tempfile::Builder::new().prefix("fnctr-e").tempdir();
    let root = root.expect("a directory");
    let path = root.path().canonicalize().expect("a path");
    let fnctr = private(&path);
    let (runtime, calls) = noting_runtime(&path);
    let ok = |args: &[&str]| {
        let done = fnctr(&[&["--runtime", &runtime], args].concat()).output();
        let done = done.expect("to run fnctr");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    ok(&["run", "busybox", "true"]);
    assert_eq!(calls(), ["create", "start", "delete"]);

    ok(&["run", "-d", "--name", "c", "busybox", "sleep", "600"]);
    let [shim] = real::shims(&path.join("containerd.sock"))
        .try_into()
        .expect("one shim");
    kill(nix::unistd::Pid::from_raw(shim.pid), Signal::SIGKILL).expect("to kill");
    ok(&["rm", "-f", "c"]);
    let calls = calls();
    assert!(calls.iter().any(|call| call == "delete --force"), "{calls:?}");
    assert!(!path.join("runc/fnctr/c").exists());
    // Nobody uses containerd any more, so the last command has ended it.
    assert_eq!(private_containerd(&path), Vec::<i32>::new());
    remove_cgroups(&format!("/fnctr-e{}", std::process::id()));
}
