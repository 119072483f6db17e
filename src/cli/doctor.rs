//! `doctor`: checks whether this host can run functions, and shows how to fix it if not.

use std::process::ExitCode;

use super::args::global::Global;
use super::connect::{cgroup_parent, home, system_address};
use super::failure::Failure;
use super::output::{Print, columns, line, wrapped};
use crate::doctor::{Check, Options, Status, checks};

/// The directory in which containerd keeps its data on most hosts.
const SYSTEM_DATA: &str = "/var/lib/containerd";

/// The environment variable that names containerd's socket.
const ADDRESS: &str = "CONTAINERD_ADDRESS";

fn given_as_option() -> bool {
    std::env::args_os().any(|arg| arg == "--address" || arg.as_encoded_bytes().starts_with(b"--address="))
}

/// Checks the host. The exit code is 1 if something that functions need is wrong.
pub(super) async fn doctor(global: &Global, print: &Print) -> Result<ExitCode, Failure> {
    let address = system_address(global).await;
    let home = address.is_none().then(|| home(global));
    let data = home
        .as_ref()
        .map_or_else(|| SYSTEM_DATA.into(), |home| home.root().to_owned());
    // An address on the command line takes precedence over the variable, even if both are the same.
    let variable = std::env::var_os(ADDRESS).filter(|_| !given_as_option());
    let checks = checks(&Options {
        address_from_environment: address.is_some() && variable.is_some_and(|value| !value.is_empty()),
        cgroup_parent: cgroup_parent(global, home.as_ref()),
        run_dir: super::connect::home(global).fifo_dir(),
        address,
        home,
        data,
        init: global.init_path.clone(),
        runtime: global.runtime.clone(),
        cgroup_driver: global.cgroup_driver,
        networks: super::connect::network_settings(global),
    })
    .await;
    let width = columns();
    for check in &checks {
        print.result(check, || {
            width.map_or_else(|| check.to_string(), |width| shown(check, width))
        });
    }
    let bad = checks.iter().filter(|check| check.status == Status::Bad).count();
    if bad == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !print.is_json() {
        line(&format!("{bad} of {} checks failed", checks.len()));
    }
    Ok(ExitCode::FAILURE)
}

/// Formats a check in lines of at most `width` characters. The fix begins on a line of its own.
fn shown(check: &Check, width: usize) -> String {
    /// The column at which sentences begin, after the status and the name.
    const INDENT: usize = 20;
    let Check {
        status, name, found, ..
    } = check;
    let mut text = wrapped(&format!("{status:<4}  {name:<12}  {found}"), width, INDENT);
    if let Some(mend) = &check.mend {
        let mend = wrapped(&format!("→ {mend}"), width.saturating_sub(INDENT), INDENT + 2);
        text.push_str(&format!("\n{:INDENT$}{mend}", ""));
    }
    text
}
