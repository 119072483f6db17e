//! `save` and the standard input of `load`: archives that come and go through pipes.

use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::At;
use super::args::SaveFormat;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, note};
use crate::Context;
use crate::engine::Format;

/// An archive that is not complete has this at the end of its name.
const UNFINISHED: &str = ".unfinished";

/// Saves images as an archive.
pub(super) async fn save(
    at: At<'_>,
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
        with(at, async |driver| {
            let mut out = tokio::io::stdout();
            Ok(driver.save(&Context::new(), images, format, &mut out).await?)
        })
        .await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut unfinished = output.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = Unfinished(PathBuf::from(unfinished));
    let failed = |why: &std::io::Error| Failure::usage(format!("cannot write {}: {why}", output.display()));
    let bytes = with(at, async |driver| {
        let mut file = tokio::fs::File::create(&unfinished.0)
            .await
            .map_err(|why| failed(&why))?;
        let bytes = driver.save(&Context::new(), images, format, &mut file).await?;
        file.sync_all().await.map_err(|why| failed(&why))?;
        Ok(bytes)
    })
    .await?;
    std::fs::rename(&unfinished.0, output).map_err(|why| failed(&why))?;
    let shown = output.display().to_string();
    print.result(&serde_json::json!({ "saved": shown, "bytes": bytes }), || {
        format!("saved {shown}")
    });
    Ok(ExitCode::SUCCESS)
}

/// A file that is removed unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Standard input as a file, since an archive is read twice. It is gone with this.
pub(super) struct Spooled {
    dir: PathBuf,
}

impl Spooled {
    /// Reads standard input to its end.
    pub(super) async fn stdin(at: At<'_>) -> Result<Self, Failure> {
        if std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "there is no archive on standard input: name a file, or redirect one",
            ));
        }
        let dir = std::env::temp_dir().join(format!("fnctr-load-{}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        let failed = |why: std::io::Error| {
            Failure::usage(format!("cannot keep standard input in {}: {why}", dir.display()))
        };
        made.map_err(failed)?;
        let spooled = Self { dir: dir.clone() };
        let copying = async {
            let mut file = tokio::fs::File::create(spooled.file()).await?;
            tokio::io::copy(&mut tokio::io::stdin(), &mut file).await?;
            file.sync_data().await
        };
        match at.interrupt.ctx().run(copying).await {
            Err(_) => Err(Failure::interrupted()),
            Ok(copied) => copied.map(|()| spooled).map_err(failed),
        }
    }

    /// Its name is what an error says of it.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join("standard input")
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir_all(&self.dir) {
            note(&format!("fnctr: cannot remove {}: {why}", self.dir.display()));
        }
    }
}
