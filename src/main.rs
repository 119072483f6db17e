//! The `fnctr` command: a runtime around [`fnctr::cli`].

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // A command says itself what went wrong, once; RUST_LOG asks for more.
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
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::from(125);
        }
    };
    let code = runtime.block_on(command.run());
    // A thread that is blocked on standard input would hold the process until somebody types.
    runtime.shutdown_timeout(Duration::ZERO);
    code
}
