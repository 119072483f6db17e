//! The program before the shim and the OCI runtime of a private containerd: what is left for these two to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

use crate::cli::{private, private_containerd, remove_cgroups};
use crate::real;

/// A program that notes what it is asked for, and then is the real one. Returns its path and what it has noted.
fn noting(dir: &Path, name: &str, real: &str) -> (String, impl Fn() -> String + use<>) {
    let (bin, log) = (dir.join("noting"), dir.join(format!("{name}.calls")));
    std::fs::create_dir_all(&bin).expect("a directory");
    let program = bin.join(name);
    let text = format!(
        "#!/bin/sh\nPATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\necho \"$*\" >>{}\nexec {real} \"$@\"\n",
        log.display()
    );
    std::fs::write(&program, text).expect("a program");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("to make it one");
    let calls = move || std::fs::read_to_string(&log).unwrap_or_default();
    (program.display().to_string(), calls)
}

/// What an OCI runtime was asked for.
fn verbs(calls: &str) -> Vec<&'static str> {
    let verb = |line: &str| {
        let verbs = ["create", "start", "kill", "delete --force", "delete"];
        verbs.into_iter().find(|verb| line.contains(&format!(" {verb} ")))
    };
    calls.lines().filter_map(verb).collect()
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
    // An own name of the runtime, before which nothing stands.
    let (runtime, calls) = noting(
        &path,
        "runc",
        &crate::world::runtime().unwrap_or_else(|| "runc".to_owned()),
    );
    let ok = |args: &[&str]| {
        let done = fnctr(&[&["--runtime", &runtime], args].concat()).output();
        let done = done.expect("to run fnctr");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    ok(&["run", "busybox", "true"]);
    assert_eq!(verbs(&calls()), ["create", "start", "delete"]);

    ok(&["run", "-d", "--name", "c", "busybox", "sleep", "600"]);
    let [shim] = real::shims(&path.join("containerd.sock"))
        .try_into()
        .expect("one shim");
    kill(nix::unistd::Pid::from_raw(shim.pid), Signal::SIGKILL).expect("to kill");
    ok(&["rm", "-f", "c"]);
    let calls = calls();
    assert!(verbs(&calls).contains(&"delete --force"), "{calls}");
    assert!(!path.join("runc/fnctr/c").exists());
    // Nobody uses containerd any more, so the last command has ended it.
    assert_eq!(private_containerd(&path), Vec::<i32>::new());
    remove_cgroups(&format!("/fnctr-e{}", std::process::id()));
}

#[test]
fn a_life_needs_the_real_programs_for_its_server_and_its_creation_only() {
    if !real::available("a_life_needs_the_real_programs") {
        return;
    }
    if crate::world::runtime().is_some() {
        println!("skipped: it is about runc, and the tests run with another runtime");
        return;
    }
    let root = tempfile::Builder::new().prefix("fnctr-f").tempdir();
    let root = root.expect("a directory");
    let path = root.path().canonicalize().expect("a path");
    let fnctr = private(&path);
    let beside = |program: &str| {
        let mut files = std::env::split_paths(&real::search_path())
            .map(|dir| dir.join(program))
            .collect::<Vec<_>>();
        files.retain(|file| file.is_file());
        files.first().expect("the program").display().to_string()
    };
    let (_, runtime) = noting(&path, "runc", &beside("runc"));
    let (shim, shim_calls) = noting(
        &path,
        "containerd-shim-runc-v2",
        &beside("containerd-shim-runc-v2"),
    );
    let first = Path::new(&shim).parent().expect("a directory").to_owned();
    let dirs = std::env::split_paths(&real::search_path()).collect::<Vec<_>>();
    let search = std::env::join_paths([first].into_iter().chain(dirs)).expect("a path");
    let ok = |args: &[&str]| {
        let done = fnctr(args).env("PATH", &search).output().expect("to run fnctr");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    };
    // The containerd stays for the next one as long as something runs.
    ok(&["run", "-d", "--name", "first", "busybox", "sleep", "600"]);
    assert!(
        shim_calls().lines().any(|line| line.ends_with(" start")),
        "{}",
        shim_calls()
    );
    assert_eq!(verbs(&runtime()), ["create"]);
    let before = shim_calls().lines().count();
    assert_eq!(ok(&["run", "busybox", "echo", "hi"]), "hi\n");
    assert_eq!(verbs(&runtime()), ["create", "create"]);
    let calls = shim_calls();
    let later: Vec<_> = calls.lines().skip(before).collect();
    let [server] = later.as_slice() else {
        panic!("more than its server: {later:?}");
    };
    assert!(
        server.starts_with("-namespace ") && !server.contains("publish-binary"),
        "{server}"
    );
    assert_eq!(real::shims(&path.join("containerd.sock")).len(), 1);
    ok(&["rm", "-f", "first"]);
    assert_eq!(private_containerd(&path), Vec::<i32>::new());
    remove_cgroups(&format!("/fnctr-f{}", std::process::id()));
}
