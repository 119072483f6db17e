//! The input of the translation to a spec besides the plan: the cgroup, the init, and the image's configuration.

use fnctr_oci::{ContainerConfig, ImageConfig};

use super::declared_volumes::DeclaredVolumes;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::network::Joining;
use super::plan::Plan;
use super::{Deps, etc};
use crate::Context;
use crate::image::Image;

/// The plan's configuration with the values that the engine fills in.
pub(super) fn complete(deps: &Deps, plan: &Plan, joining: &Joining) -> ContainerConfig {
    let mut config = plan.config.clone();
    config.network = joining.mode().clone();
    if let Some(target) = joining.target() {
        config.hostname = target.hostname.clone();
    }
    config
        .mounts
        .extend(etc::mounts(&deps.fifo_dir(&plan.id), &plan.config));
    config.init = plan.init.then(|| deps.config.init.clone());
    // A containerd that is protected when memory runs out must not pass that on to containers.
    config.oom_score_adj = config
        .oom_score_adj
        .or_else(|| (deps.host.oom_score_adj < 0).then_some(0));
    config.cgroup = deps.cgroup(&plan.id);
    config
}

/// The image's configuration, with its user files if the user is not given in numbers alone.
pub(super) async fn image_config(
    deps: &Deps,
    ctx: &Context,
    plan: &Plan,
    image: &Image,
    config: &ContainerConfig,
    volumes: &DeclaredVolumes,
) -> Result<ImageConfig> {
    let settings = &image.config;
    let user = config
        .user
        .as_deref()
        .or(settings.user.as_deref())
        .unwrap_or_default();
    let (passwd, group) = if needs_files(user, &config.additional_groups) {
        let facts = deps
            .images
            .store
            .facts(ctx, image)
            .await
            .at(Step::Image, &plan.id)?;
        let text = |found: &Result<String, String>| {
            let unreadable = |why| Error::new(Step::Image, &plan.id, Kind::ImageRejected, why);
            found.clone().map(Some).map_err(unreadable)
        };
        (text(&facts.passwd)?, text(&facts.group)?)
    } else {
        (None, None)
    };
    Ok(ImageConfig {
        env: settings.env.clone(),
        entrypoint: settings.entrypoint.clone(),
        cmd: settings.cmd.clone(),
        working_dir: settings.working_dir.clone().unwrap_or_default(),
        user: settings.user.clone().unwrap_or_default(),
        passwd,
        group,
        volumes: volumes.paths.clone(),
    })
}

/// Whether the image's user files are needed: not for `uid:gid` in digits, but for a name, a lone uid (for its group)
/// or root (for its groups).
fn needs_files(user: &str, additional_groups: &[String]) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    fnctr_oci::needs_user_files(user) || !additional_groups.iter().all(|group| digits(group))
}

#[cfg(test)]
mod tests {
    use super::needs_files;

    #[test]
    fn only_numbers_for_user_and_group_need_no_files() {
        assert!(!needs_files("1000:1000", &[]));
        assert!(!needs_files("1000:1000", &["7".to_owned()]));
        for user in ["", "root", "1000", "1000:", "fn:1000", "1000:fn"] {
            assert!(needs_files(user, &[]), "{user:?}");
        }
        assert!(needs_files("1000:1000", &["wheel".to_owned()]));
    }
}
