//! Who made a container's cgroup is the container's to tell: a process finds, freezes and removes it whatever it would
//! have made itself.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::world::Stage;

/// sd_booted(3), on a unified host: systemd can be asked for cgroups.
fn systemd_makes_cgroups() -> bool {
    Path::new("/run/systemd/system").is_dir() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn fnctr(stage: &Stage, cgroups: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
    command.arg("--address").arg(stage.real.address());
    command.args(["--json", "--namespace", stage.real.namespace()]);
    command.arg("--root").arg(stage.real.dir().join("cli"));
    command.args(cgroups).args(args);
    command.output().expect("to run fnctr")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_found_by_a_process_that_would_have_put_its_cgroup_elsewhere() {
    let Some(stage) = Stage::set("a_container_is_found_by_a_process").await else {
        return;
    };
    let root: &[&str] = &["--cgroup-driver", "cgroupfs", "--cgroup-parent", "/"];
    let below: &[&str] = &[
        "--cgroup-driver",
        "cgroupfs",
        "--cgroup-parent",
        "/fnctr-elsewhere",
    ];
    let scope: &[&str] = &["--cgroup-driver", "systemd"];
    let mut pairs = vec![(root, below)];
    if systemd_makes_cgroups() {
        pairs.extend([(root, scope), (scope, root)]);
    }
    for (maker, finder) in pairs {
        let ok = |cgroups: &[&str], args: &[&str]| {
            let done = fnctr(&stage, cgroups, args);
            assert!(done.status.success(), "{args:?} {cgroups:?}: {done:?}");
            done
        };
        ok(
            maker,
            &["run", "--detach", "--name", "d1", "busybox", "sleep", "600"],
        );
        let made = json(&ok(maker, &["inspect", "d1"]))["cgroups"].clone();
        assert!(!made.as_array().expect("cgroups").is_empty(), "{maker:?}");
        assert_eq!(
            json(&ok(finder, &["inspect", "d1"]))["cgroups"],
            made,
            "{finder:?}"
        );
        ok(finder, &["freeze", "d1"]);
        assert_eq!(
            json(&ok(maker, &["ps"]))["state"],
            "frozen",
            "{finder:?} froze something else"
        );
        ok(maker, &["thaw", "d1"]);
        assert_eq!(json(&ok(finder, &["ps"]))["state"], "running");
        ok(finder, &["freeze", "d1"]);
        ok(finder, &["rm", "--force", "d1"]);
        for dir in made.as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(!Path::new(dir).exists(), "{dir} is left");
        }
    }
    assert!(
        !Path::new("/sys/fs/cgroup/memory/fnctr-elsewhere").exists(),
        "a finder makes nothing"
    );
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cgroup_driver_that_is_not_to_be_had_is_refused_before_anything_is_made() {
    let Some(stage) = Stage::set("a_cgroup_driver_that_is_not_to_be_had").await else {
        return;
    };
    let refused = |cgroups: &[&str], says: &str| {
        let done = fnctr(&stage, cgroups, &["run", "busybox", "true"]);
        assert_eq!(done.status.code(), Some(125), "{cgroups:?}: {done:?}");
        let said = json(&done);
        assert_eq!(said["kind"], "unsupported", "{said}");
        assert!(
            said["error"].as_str().is_some_and(|error| error.contains(says)),
            "{said}"
        );
    };
    refused(
        &["--cgroup-driver", "systemd", "--cgroup-parent", "/x"],
        "cgroup parent",
    );
    refused(
        &["--cgroup-driver", "cgroupfs", "--cgroup-parent", "x.slice"],
        "x.slice",
    );
    if !Path::new("/run/systemd/system").is_dir() {
        refused(
            &["--cgroup-driver", "systemd"],
            "systemd is not the init of this host",
        );
        refused(
            &["--cgroup-driver", "probe", "--cgroup-parent", "x.slice"],
            "systemd is not the init of this host",
        );
    }
    stage.strike().await;
}
