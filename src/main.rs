//! The `fnctr` command: starts a tokio runtime and runs [`fnctr::cli`] on it.

#[cfg(feature = "opentelemetry")]
mod traces;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// What is logged unless RUST_LOG says otherwise. Each command prints its own failure once, so only errors are; a
/// collector of spans that is away is none of a command's.
const LOGGED: &str = if cfg!(feature = "opentelemetry") {
    "error,opentelemetry=off"
} else {
    "error"
};

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(log);
    #[cfg(feature = "opentelemetry")]
    let traces = traces::Traces::from_env();
    #[cfg(feature = "opentelemetry")]
    let subscriber = subscriber.with(
        traces
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .map(traces::Traces::layer),
    );
    subscriber.init();
    #[cfg(feature = "opentelemetry")]
    let traces = traces.unwrap_or_else(|error| {
        tracing::error!(error = fnctr::driver::report(&error), "spans are not sent");
        None
    });
    let code = run();
    #[cfg(feature = "opentelemetry")]
    if let Some(traces) = traces {
        traces.end();
    }
    code
}

fn run() -> ExitCode {
    let command = match fnctr::cli::read() {
        Ok(command) => command,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the tokio runtime");
            return ExitCode::from(125);
        }
    };
    let code = runtime.block_on(command.run());
    // Do not wait for threads: a thread that reads standard input would keep the process alive until there is input.
    runtime.shutdown_timeout(Duration::ZERO);
    code
}
