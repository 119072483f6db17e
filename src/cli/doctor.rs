//! `doctor`: whether this host can run functions, and what mends it.

use std::process::ExitCode;

use super::args::global::Global;
use super::connect::{cgroup_parent, home, system_address};
use super::failure::Failure;
use super::output::{Print, line};
use crate::doctor::{Options, Status, checks};

/// Where containerd keeps its data on most hosts.
const SYSTEM_DATA: &str = "/var/lib/containerd";

/// The variable that names containerd's socket.
const ADDRESS: &str = "CONTAINERD_ADDRESS";

fn given_as_option() -> bool {
    std::env::args_os().any(|arg| arg == "--address" || arg.as_encoded_bytes().starts_with(b"--address="))
}

/// Checks the host. Exits with 1 if something that functions need is wrong.
pub(super) async fn doctor(global: &Global, print: &Print) -> Result<ExitCode, Failure> {
    let address = system_address(global).await;
    let home = address.is_none().then(|| home(global));
    let data = home
        .as_ref()
        .map_or_else(|| SYSTEM_DATA.into(), |home| home.root().to_owned());
    // An address on the command line comes before the variable, and may be the same.
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
    for check in &checks {
        print.result(check, || check.to_string());
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
