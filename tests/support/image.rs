//! Image archives for tests, built by `tools/make-image.sh`.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds `dir/file` with these options of `tools/make-image.sh`, and returns its path.
///
/// ```ignore
/// let tar = image::build(dir.path(), "data.tar", &["--format", "oci", "--volume", "/data"]);
/// ```
#[track_caller]
pub(crate) fn build(dir: &Path, file: &str, options: &[&str]) -> PathBuf {
    let out = dir.join(file);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/make-image.sh");
    let made = Command::new(script).args(options).arg(&out).output().unwrap();
    assert!(
        made.status.success(),
        "make-image.sh {options:?}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    out
}

/// The plain image `busybox:latest` as a docker-archive.
#[track_caller]
pub(crate) fn busybox(dir: &Path) -> PathBuf {
    build(dir, "busybox.tar", &[])
}
