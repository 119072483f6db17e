//! `save`, and the standard input of `load`: archives in files and through pipes.

use std::io::IsTerminal as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::Invocation;
use super::args::images::SaveFormat;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, note};
use crate::Context;
use crate::clock;
use crate::engine::Format;

/// The suffix of the name of an incomplete archive.
const UNFINISHED: &str = ".unfinished";
/// The name of standard input in messages.
const SPOOLED: &str = "standard input";

/// Saves images as an archive.
pub(super) async fn save(
    invocation: Invocation<'_>,
    output: &Path,
    format: SaveFormat,
    images: &[String],
    print: &Print,
) -> Result<ExitCode, Failure> {
    let format = match format {
        SaveFormat::Docker => Format::Docker,
        SaveFormat::Oci => Format::Oci,
    };
    if output == Path::new("-") {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage(
                "an archive is nothing for a terminal: name a file with --output, or redirect standard output",
            ));
        }
        with(invocation, async |engine| {
            let mut out = tokio::io::stdout();
            Ok(engine.save(&Context::new(), images, format, &mut out).await?)
        })
        .await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut unfinished = output.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = Unfinished(PathBuf::from(unfinished));
    let failed = |why: &std::io::Error| Failure::usage(format!("cannot write {}: {why}", output.display()));
    let bytes = with(invocation, async |engine| {
        let mut file = tokio::fs::File::create(&unfinished.0)
            .await
            .map_err(|why| failed(&why))?;
        let bytes = engine.save(&Context::new(), images, format, &mut file).await?;
        file.sync_all().await.map_err(|why| failed(&why))?;
        Ok(bytes)
    })
    .await?;
    std::fs::rename(&unfinished.0, output).map_err(|why| failed(&why))?;
    let shown = output.display().to_string();
    print.result(
        &serde_json::json!({ "file": shown, "bytes": bytes, "saved": true }),
        || format!("saved {shown}"),
    );
    Ok(ExitCode::SUCCESS)
}

/// An incomplete archive, which is removed on drop unless it has been renamed to its final name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Standard input copied to a file, because an archive is read twice. The file has no name, so that it disappears with
/// this process, however the process ends. Only a link to the file has a name.
pub(super) struct Spooled {
    dir: PathBuf,
    /// The target of the link. The link works for as long as this file is open.
    _file: std::fs::File,
}

impl Spooled {
    /// Reads standard input to its end.
    pub(super) async fn stdin(invocation: Invocation<'_>) -> Result<Self, Failure> {
        if std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "there is no archive on standard input: name a file, or redirect one",
            ));
        }
        let unique = clock::age(std::time::UNIX_EPOCH).unwrap_or_default().as_micros();
        let name = format!("fnctr-load-{}-{unique:x}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let failed = |why: std::io::Error| {
            Failure::usage(format!("cannot keep standard input in {}: {why}", dir.display()))
        };
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(failed)?;
        let file = unnamed(&dir).inspect_err(|_| drop(std::fs::remove_dir(&dir)));
        let file = file.map_err(failed)?;
        let writer = file.try_clone().map_err(failed)?;
        let spooled = Self {
            dir: dir.clone(),
            _file: file,
        };
        let copying = async {
            let mut writer = tokio::fs::File::from_std(writer);
            tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await?;
            writer.sync_data().await
        };
        match invocation.interrupt.ctx().run(copying).await {
            Err(_) => Err(Failure::interrupted()),
            Ok(copied) => copied.map(|()| spooled).map_err(failed),
        }
    }

    /// The path of the link. Its name appears in error messages.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(SPOOLED)
    }
}

/// Creates a file without a name, and a link to it in `dir`.
fn unnamed(dir: &Path) -> std::io::Result<std::fs::File> {
    let path = dir.join(SPOOLED);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    std::os::unix::fs::symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), &path)?;
    Ok(file)
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir_all(&self.dir) {
            note(&format!("fnctr: cannot remove {}: {why}", self.dir.display()));
        }
    }
}
