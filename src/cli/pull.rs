//! `fnctr pull`: pulls an image from its registry, and shows the progress.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::AsyncReadExt as _;

use super::Invocation;
use super::args::images::PullArgs;
use super::connect::Connection;
use super::failure::Failure;
use super::output::Print;
use super::progress::{self, Show};
use crate::containerd_driver::ImageToPull;
use crate::driver::{BackOffConfig, Credentials, Driver as _, ErrorKind, RetryErrorChecker};
use crate::engine::{Engine, ImageError};
use crate::{ContainerdDriver, Context};

/// The largest number of bytes of a password that are read.
const MAX_PASSWORD: u64 = 64 << 10;

/// How the `fnctr` command retries a pull. A registry that limits the rate of requests is given about half a minute.
const POLICY: BackOffConfig = BackOffConfig {
    max_retries: 6,
    interval: 500,
    max_delay: 20_000,
    min_delay: 300,
};
/// How many times a pull is retried after other errors. There are fewer retries, because a user may be waiting.
const FAILURES: u32 = 3;

/// Returns the checker that decides which errors the command line retries.
fn retry_checker() -> RetryErrorChecker {
    let failures = AtomicU32::new(0);
    Arc::new(move |error| {
        let later = error.kind() == ErrorKind::Busy;
        let more = later || failures.fetch_add(1, Ordering::Relaxed) < FAILURES;
        (error.is_retryable() && more).then(|| error.kind().to_string())
    })
}

/// Pulls one image.
pub(super) async fn pull(
    invocation: Invocation<'_>,
    args: PullArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let login = login(invocation, &args).await?;
    let connection = Connection::open(invocation, |_| {}).await?;
    let wanted = ImageToPull {
        image: &args.image,
        platform: args.platform.clone(),
        login,
    };
    let show = match (args.quiet, print.is_json(), std::io::stderr().is_terminal()) {
        (true, ..) => Show::Nothing,
        (_, true, _) => Show::Json,
        (_, _, true) => Show::Bars,
        (..) => Show::Lines,
    };
    let pulled = async {
        let driver = connection.driver(invocation).await?;
        shown(invocation.interrupt.ctx(), &driver, wanted, show).await
    };
    let pulled = pulled.await;
    connection.close().await;
    let (name, digest) = pulled?;
    print.result(&serde_json::json!({ "image": name, "digest": digest }), || {
        format!("{name} {digest}")
    });
    Ok(ExitCode::SUCCESS)
}

/// Pulls the image of a run. Standard output belongs to the function, so progress goes to standard error.
pub(super) async fn watched(ctx: &Context, driver: &ContainerdDriver, image: &str) -> Result<(), Failure> {
    let show = if std::io::stderr().is_terminal() {
        Show::Bars
    } else {
        Show::Lines
    };
    let wanted = ImageToPull {
        image,
        platform: None,
        login: None,
    };
    shown(ctx, driver, wanted, show).await.map(drop)
}

/// The name of the image whose id is `text` or begins with it; `None` if `text` is not the id of an image on this host.
pub(super) async fn name_of_id(
    ctx: &Context,
    engine: &Engine,
    text: &str,
) -> Result<Option<String>, Failure> {
    if !may_be_id(text) {
        return Ok(None);
    }
    let stored = engine.stored_images(ctx).await?;
    match stored.find(text) {
        // It is a name, although it looks like an id.
        Ok((_, Some(_))) => Ok(None),
        Ok((image, None)) => Ok(image.names.first().map(|record| record.name.clone())),
        Err(why @ ImageError::SeveralImages { .. }) => Err(Failure::missing(&why)),
        Err(_) => Ok(None),
    }
}

/// Whether `text` could be an id as `fnctr images` prints it. A name may look like an id too.
fn may_be_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    !hex.is_empty() && hex.len() <= 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Pulls an image, shows the progress, and returns the image's name and digest.
async fn shown(
    ctx: &Context,
    driver: &ContainerdDriver,
    wanted: ImageToPull<'_>,
    show: Show,
) -> Result<(String, String), Failure> {
    driver.set_pull_image_retry_policy(POLICY, retry_checker())?;
    let pull = driver.pull(wanted)?;
    let done = pull.done(ctx);
    let image = progress::until(done, pull.progress(), show).await?;
    Ok((image.name, image.target.digest.to_string()))
}

/// Reads the password from standard input, because every user of the host can read arguments.
async fn login(invocation: Invocation<'_>, args: &PullArgs) -> Result<Option<Credentials>, Failure> {
    let Some(username) = &args.username else {
        return Ok(None);
    };
    let mut password = String::new();
    let mut input = tokio::io::stdin().take(MAX_PASSWORD);
    let reading = input.read_to_string(&mut password);
    match invocation.interrupt.ctx().run(reading).await {
        Err(_) => return Err(Failure::interrupted()),
        Ok(Err(why)) => {
            return Err(Failure::usage(format!(
                "cannot read the password from standard input: {why}"
            )));
        }
        Ok(Ok(_)) => {}
    }
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("there is no password on standard input"));
    }
    Ok(Some(Credentials::Basic {
        username: username.clone(),
        password: password.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Error;

    #[test]
    fn an_id_is_hexadecimal() {
        for id in ["0123456789ab", "sha256:abc", &"f".repeat(64)] {
            assert!(may_be_id(id), "{id}");
        }
        for name in ["", "busybox", "ABC", "abc:1", "abc/d", &"f".repeat(65)] {
            assert!(!may_be_id(name), "{name}");
        }
    }

    #[test]
    fn a_rate_limit_is_retried_more_often_than_a_failure() {
        POLICY.check().unwrap();
        let checker = retry_checker();
        for _ in 0..FAILURES {
            assert!(checker(&Error::pull("a", Some(503), "busy")).is_some());
        }
        assert_eq!(checker(&Error::pull("a", Some(503), "busy")), None);
        assert!(checker(&Error::pull("a", Some(429), "later")).is_some());
        assert_eq!(checker(&Error::pull("a", Some(404), "no")), None);
    }
}
