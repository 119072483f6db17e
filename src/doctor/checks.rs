//! Collects what the kernel and programs report, and runs all checks on it.

use std::path::Path;

use super::check::Check;
use super::options::Options;
use super::{
    cgroup, driver, host, kernel, network, outer_cgroup, privileges, programs, room, runtime, scope, storage,
};
use crate::cgroup::{DriverSettings, Facts, choose, is_nested};
use crate::embedded::{OuterCgroup, Scope};

/// Runs every check, in the order in which the user should fix problems.
///
/// # Cancellation
/// Safe to drop.
pub async fn checks(options: &Options) -> Vec<Check> {
    let mounts = host::read("/proc/self/mountinfo");
    let layout = cgroup::Layout::of(&mounts, &host::v2_controllers(&mounts));
    let status = host::read("/proc/self/status");
    if status.is_empty() || mounts.is_empty() {
        return vec![privileges::no_proc()];
    }
    let limits = host::read("/proc/self/limits");
    let release = host::read("/proc/sys/kernel/osrelease");
    let containerd = host::program("containerd").await;
    let server = match &options.address {
        Some(address) => host::server(address, &status, &limits).await,
        None => None,
    };
    let serves = server.is_some();

    let mut checks = vec![
        privileges::root(&status),
        privileges::capabilities(&status),
        programs::containerd(&containerd, serves),
    ];
    if let Some(address) = &options.address {
        let named = programs::Named {
            address,
            by_environment: options.address_from_environment,
        };
        checks.push(programs::socket(named, host::socket(address, serves)));
    }
    if let Some(home) = &options.home {
        checks.push(storage::home(home.would_do()));
        checks.push(scope::check(&Scope::of_this_process()));
    }
    // A private containerd is started by this process, and inherits its path and its limits.
    let daemon = server.unwrap_or_else(|| host::Daemon::started_from_here(&status, &limits));
    let shim = host::look_for("containerd-shim-runc-v2", daemon.path.as_ref());
    let runtimes = host::runtimes(options.runtime.as_deref(), daemon.path.as_ref()).await;
    let wanted = DriverSettings {
        driver: options.cgroup_driver,
        runtime: options.runtime.as_deref(),
        parent: &options.cgroup_parent,
    };
    let facts = Facts::of_host(daemon.pid).await;
    checks.extend([
        programs::shim(&shim, containerd.is_installed(), serves),
        runtime::check(options.runtime.as_deref(), &runtimes, layout.is_hybrid(), serves),
        programs::init(crate::init::find(options.init.as_deref()), options.init.is_some()),
        layout.check(),
        driver::check(choose(wanted, facts)),
        layout.controllers(&host::read("/proc/cgroups")),
        layout.freezer(),
        kernel::features(&release, &host::kernel_features()),
        kernel::kill(&release, &layout),
        kernel::reclaim(&release, layout.memory_is_unified()),
        storage::overlay(&host::read("/proc/filesystems")),
        storage::place(
            &options.data,
            &mounts,
            &host::space(&options.data),
            options.address.is_none(),
        ),
        room::check(
            "run dir",
            &options.run_dir,
            &mounts,
            &host::space(&options.run_dir),
        ),
        room::check(
            "state",
            &options.networks.state_dir,
            &mounts,
            &host::space(&options.networks.state_dir),
        ),
        storage::disk_limit(host::disk_limit(&options.data)),
        privileges::rlimits(&daemon.status, &daemon.limits, daemon.is_server),
        privileges::open_files(&status, &limits),
        network::plugins(&options.networks.plugin_dirs, host::is_program),
        network::iptables(host::anywhere("iptables").as_deref()),
        network::firewall(host::firewalls(&options.networks.state_dir).await),
        network::resolvers(
            &host::read("/etc/resolv.conf"),
            &host::read(crate::sandbox::files::UPSTREAM),
        ),
        network::pools(crate::sandbox::count_sandboxes(&options.networks.state_dir)),
        kernel::swap(&host::read("/proc/swaps"), host::swap_is_counted(&layout)),
        kernel::apparmor(&host::read("/sys/module/apparmor/parameters/enabled")),
    ]);
    let nested = is_nested(Path::new("/proc/self"));
    let at = checks.iter().position(|check| check.name == "freezer");
    if let Some(check) = outer_cgroup::check(
        nested,
        OuterCgroup::of_this_process().as_ref(),
        options.address.is_none(),
    ) {
        checks.insert(at.unwrap_or(checks.len()), check);
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::embedded::Home;
    use crate::{CgroupDriver, NetworkSettings};

    #[tokio::test]
    async fn the_runtime_that_was_chosen_is_the_one_that_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = dir.path().join("no-runtime").display().to_string();
        let checks = checks(&Options {
            address: None,
            data: dir.path().to_owned(),
            run_dir: dir.path().to_owned(),
            address_from_environment: false,
            home: None,
            init: None,
            runtime: Some(wrong.clone()),
            cgroup_driver: CgroupDriver::Probe,
            cgroup_parent: "/fnctr".to_owned(),
            networks: NetworkSettings::default(),
        })
        .await;
        let runtime = checks.iter().find(|check| check.name == "runtime").unwrap();
        assert_eq!(runtime.status, Status::Bad);
        assert!(runtime.found.contains(&wrong), "{runtime}");
    }

    #[tokio::test]
    async fn every_question_about_this_host_has_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let checks = checks(&Options {
            address: Some(dir.path().join("nobody.sock")),
            data: dir.path().join("not/yet/there"),
            run_dir: dir.path().join("nor/there"),
            address_from_environment: true,
            home: Some(Home::under(dir.path())),
            init: None,
            runtime: None,
            cgroup_driver: CgroupDriver::Probe,
            cgroup_parent: "/fnctr".to_owned(),
            networks: NetworkSettings::default(),
        })
        .await;
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert!(!check.to_string().contains('\n'), "{check:?}");
            assert_eq!(check.mend.is_none(), check.status == Status::Ok, "{check:?}");
        }
        let socket = checks.iter().find(|check| check.name == "socket").unwrap();
        assert_eq!(socket.status, Status::Bad);
        let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), checks.len(), "a name is used twice");
    }
}
