//! A credential helper: a program of the host that provides credentials, called as docker calls it
//! (github.com/docker/docker-credential-helpers).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::{Credential, Error};
use crate::Context;

/// How long a helper may take. Helpers that ask a cloud service take a second or two.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most bytes of output that are read.
const MAX_OUTPUT: u64 = 256 << 10;
/// The message of a helper that fails because it has no credentials.
const NOTHING: &str = "credentials not found in native keychain";
/// The user name that means that the secret is a refresh token.
const TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    username: String,
    secret: String,
}

/// Asks the helper of this name for the credentials of a server. Returns `None` if it has none.
///
/// # Cancellation
/// Safe to drop: the helper is killed.
pub(super) async fn get(ctx: &Context, name: &str, server: &str) -> Result<Option<Credential>, Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::HelperName {
            name: name.chars().take(100).collect(),
        });
    }
    let program = format!("docker-credential-{name}");
    let failed = |why: String| Error::Helper {
        program: program.clone(),
        why,
    };
    let child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|why| failed(format!("cannot be run: {why}")))?;
    let asked = ctx.run(tokio::time::timeout(PATIENCE, ask(child, server))).await;
    let (succeeded, output) = match asked {
        Err(why) => return Err(failed(format!("could not be awaited: {why}"))),
        Ok(Err(_)) => return Err(failed(format!("did not answer within {PATIENCE:?}"))),
        Ok(Ok(said)) => said.map_err(|why| failed(format!("cannot be written to or read from: {why}")))?,
    };
    if !succeeded {
        // The output is a message if the helper fails, and a secret if it succeeds.
        let said = output.trim();
        if said.contains(NOTHING) {
            return Ok(None);
        }
        let said: String = said
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect();
        return Err(failed(format!("failed for {server}: {said}")));
    }
    let found: Found = serde_json::from_str(&output)
        .map_err(|_| failed(format!("gave no valid credentials for {server}")))?;
    Ok(match found {
        Found { secret, .. } if secret.is_empty() => None,
        Found { username, secret } if username == TOKEN => Some(Credential::IdentityToken(secret)),
        Found { username, secret } => Some(Credential::Basic {
            username,
            password: secret,
        }),
    })
}

async fn ask(mut child: Child, server: &str) -> std::io::Result<(bool, String)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input may answer nevertheless.
        drop(stdin.write_all(format!("{server}\n").as_bytes()).await);
    }
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT).read_to_string(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_a_path_is_refused_before_anything_runs() {
        for name in ["../../bin/sh", "a/b", "", ".", "..", "a b", "a;b", "ä"] {
            let refused = get(&Context::new(), name, "r.io").await.unwrap_err();
            assert!(matches!(refused, Error::HelperName { .. }), "{name}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_is_not_installed_is_named() {
        let refused = get(&Context::new(), "fnctr-nowhere", "r.io").await.unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("credential helper docker-credential-fnctr-nowhere cannot be run: "),
            "{refused}"
        );
    }
}
