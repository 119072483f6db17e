//! Image archives for tests, built by `tools/make-image.sh`.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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

/// The plain image `busybox:latest` as a docker-archive. Built once by each test binary, since that takes longer than
/// anything else that a test prepares.
#[track_caller]
pub(crate) fn busybox(dir: &Path) -> PathBuf {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    let file = dir.join("busybox.tar");
    let bytes = ARCHIVE.get_or_init(|| fs::read(build(dir, "busybox.tar", &[])).unwrap());
    fs::write(&file, bytes).unwrap();
    file
}
