//! Pure translation of a function container's configuration into an OCI runtime spec.
//!
//! [`spec`] is the main function. Its inputs are the caller's decisions ([`ContainerConfig`]), the image's configuration
//! ([`ImageConfig`]) and the properties of the machine ([`Host`]); it returns a whole [`Spec`], or the first error in
//! the input. [`exec()`] does the same for one more process in a container that runs, and [`update()`] changes its limits. The crate reads no file, calls no kernel
//! and reads no clock, so the same input gives the same result on every machine.
//!
//! Each section of the spec has a file of its own, independent of the others except where the spec itself couples them:
//! the user determines which capabilities are effective, and the possible capabilities determine which system calls the
//! filter allows. Where Docker has a rule (precedence of the command and the environment, users and groups,
//! capabilities, devices, paths, the seccomp profile), this crate follows Docker 28. Where that is less strict than
//! possible, the documentation of the function says so.

#![forbid(unsafe_code)]

mod baseline;
mod cgroups;
mod config;
mod error;
mod exec;
mod json;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod resources;
mod rlimits;
mod seccomp;
mod security;
mod sysctls;
mod update;
mod user;

use oci_spec::runtime::Linux;

pub use baseline::{MASKED_PATHS, READONLY_PATHS};
pub use config::*;
pub use error::Error;
pub use exec::{exec, needs_user_files};
pub use json::to_json;
pub use oci_spec::runtime::{LinuxResources, Process, Spec};
pub use process::{INIT as INIT_PATH, console_size};
pub use resources::set_of;
pub use update::update;

/// Translates a container into the spec that a runtime executes.
///
/// # Errors
/// The first error in the input, with the field and its value. Nothing else can fail.
pub fn spec(config: &ContainerConfig, image: &ImageConfig, host: &Host) -> Result<Spec, Error> {
    let user = user::resolve(config, image)?;
    let capabilities = security::capabilities(&config.security.capabilities)?;
    let linux = linux(config, host, &capabilities)?;
    let process = process::process(config, image, user, &capabilities)?;
    let mut spec = baseline::spec();
    spec.set_root(Some(baseline::root(&host.rootfs, config.readonly_rootfs)?))
        .set_hostname(process::hostname(config)?)
        .set_process(Some(process))
        .set_mounts(Some(mounts::mounts(config, image, &host.rootfs)?))
        .set_annotations(process::annotations(config)?)
        .set_linux(Some(linux));
    Ok(spec)
}

fn linux(config: &ContainerConfig, host: &Host, capabilities: &security::Bounding) -> Result<Linux, Error> {
    let mut linux = baseline::linux();
    linux
        .set_namespaces(Some(namespaces::namespaces(&config.network, host)?))
        .set_resources(Some(resources::resources(config, host.cgroup)?))
        .set_cgroups_path(cgroups::path(&config.cgroup)?)
        .set_sysctl(sysctls::sysctls(config, host)?)
        .set_seccomp(security::seccomp(&config.security.seccomp, host, capabilities)?)
        .set_masked_paths(security::masked_paths(&config.security, host))
        .set_readonly_paths(security::readonly_paths(&config.security));
    Ok(linux)
}
