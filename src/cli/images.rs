//! `load` and `images`.

use std::path::Path;
use std::process::ExitCode;

use super::At;
use super::connect::with;
use super::failure::Failure;
use super::output::{Print, line, table};
use crate::Context;

/// Loads an archive.
pub(super) async fn load(at: At<'_>, file: &Path, print: &Print) -> Result<ExitCode, Failure> {
    let names = with(at, async |driver| Ok(driver.load(&Context::new(), file).await?)).await?;
    for name in names {
        print.result(&serde_json::json!({ "loaded": name }), || {
            format!("loaded {name}")
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists images.
pub(super) async fn list(at: At<'_>, print: &Print) -> Result<ExitCode, Failure> {
    let images = with(at, async |driver| Ok(driver.images(&Context::new()).await?)).await?;
    if print.is_json() {
        for image in &images {
            print.json(&serde_json::json!({ "name": image.name, "digest": image.target.digest.as_str() }));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = images
        .iter()
        .map(|image| {
            vec![
                image.name.clone(),
                image.target.digest.hex().chars().take(12).collect(),
            ]
        })
        .collect();
    line(&table(&["IMAGE", "DIGEST"], &rows));
    Ok(ExitCode::SUCCESS)
}
