//! Tells a release from which commit it was built. Other builds do not ask: each commit would build everything again.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = release.then(commit).flatten();
    let shown = commit.map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo::rustc-env=FNCTR_COMMIT={shown}");
}

/// That of the work tree, or what `cargo package` noted of it.
fn commit() -> Option<String> {
    let packaged = Path::new(".cargo_vcs_info.json");
    if packaged.exists() {
        let text = std::fs::read_to_string(packaged).ok()?;
        let (_, rest) = text.split_once("\"sha1\":")?;
        let sha1 = rest.split('"').nth(1)?;
        return sha1.get(..12).map(str::to_owned);
    }
    let asked = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| text.trim().to_owned())
    };
    // Not that of a repository which has this crate among other things.
    let top = asked(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok() != Path::new(".").canonicalize().ok() {
        return None;
    }
    // Every commit and checkout appends to it.
    let log = format!("{}/logs/HEAD", asked(&["rev-parse", "--absolute-git-dir"])?);
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    asked(&["rev-parse", "--short=12", "HEAD"])
}
