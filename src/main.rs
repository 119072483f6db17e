//! The `fnctr` command: starts a tokio runtime and runs [`fnctr::cli`] on it.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Each command prints its own failure once, so only errors are logged. RUST_LOG enables more.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
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
