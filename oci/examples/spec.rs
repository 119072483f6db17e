//! Prints the spec of a container described by three files, as in `fixtures/oci/<case>/`:
//! `cargo run -p fnctr-oci --example spec -- config.json image.json host.json`.

use std::error::Error;
use std::path::Path;

use serde::de::DeserializeOwned;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [config, image, host] = paths.as_slice() else {
        return Err("three paths are needed: config.json image.json host.json".into());
    };
    let spec = fnctr_oci::spec(
        &read(config.as_ref())?,
        &read(image.as_ref())?,
        &read(host.as_ref())?,
    )?;
    println!("{:#}", fnctr_oci::to_json(&spec)?);
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}
