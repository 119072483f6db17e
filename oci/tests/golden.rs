//! Whole specs, compared with `fixtures/oci/<case>/spec.json`. `BLESS=1` rewrites those; review what changed.

#![expect(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

use fnctr_oci::{spec, to_json};
use oci_spec::runtime::Spec;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The difference is shown by line, because a whole spec is four hundred of them.
#[track_caller]
fn check(case: &str) {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/oci")).join(case);
    let input = |name: &str| dir.join(name);
    let spec = spec(
        &read(&input("config.json")),
        &read(&input("image.json")),
        &read(&input("host.json")),
    );
    let spec = spec.unwrap_or_else(|e| panic!("{case}: {e}"));
    let made = format!("{:#}\n", to_json(&spec).expect("a spec is serializable"));
    let path = dir.join("spec.json");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).expect("the fixtures are writable");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let different = made
        .lines()
        .zip(kept.lines())
        .enumerate()
        .find(|(_, (made, kept))| made != kept);
    if let Some((line, (made, kept))) = different {
        panic!(
            "{case}: line {} of spec.json is\n  {kept}\nbut the spec has\n  {made}",
            line + 1
        );
    }
    assert_eq!(
        made.len(),
        kept.len(),
        "{case}: one of spec.json and the spec goes on where the other ends"
    );
    assert_eq!(
        read::<Spec>(&path),
        spec,
        "{case}: spec.json reads back as another spec"
    );
}

macro_rules! golden {
    ($($case:ident)*) => { $(#[test] fn $case() { check(stringify!($case)); })* };
}

golden! {
    unprivileged_by_default
    every_limit_on_cgroup_v1
    every_limit_on_cgroup_v2
    privileged_allowed_runs_as_the_image_says
    readonly_root_with_tmpfs_and_socket
    host_network_with_hostname
    joined_network_with_terminal_and_systemd
    aarch64_with_an_old_kernel
}

#[test]
fn every_fixture_is_a_test() {
    let fixtures = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/oci")).unwrap();
    let this = include_str!("golden.rs");
    for fixture in fixtures {
        let name = fixture.unwrap().file_name().into_string().unwrap();
        assert!(this.contains(&format!("    {name}\n")), "{name} is not tested");
    }
}
