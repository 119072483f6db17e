//! The limit on what a container may write into its root file system: a project quota on its writable layer.
//!
//! The limit is set between the snapshot and the process, before anything is mounted on the layer. It is removed after
//! the process and before the layer, because the layer's directories keep other containers out of its project (see
//! [`quota`]). A container without such a limit costs nothing here.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Deps;
use super::error::{Error, ErrorContext as _, Kind, Result, Step};
use super::plan::Plan;
use crate::containerd::{Mount, SNAPSHOTTER, Session};
use crate::teardown::{StepError, Teardown};
use crate::{ContainerId, Context, quota};

/// The undo step that removes the limit.
pub(super) const STEP: &str = "disk quota";

/// Why the writable layer cannot be limited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unlimited {
    /// More than a quota can express.
    #[error(
        "fs_size of {bytes} bytes is more than a file system can hold; the most is {}",
        quota::MOST
    )]
    TooMuch { bytes: u64 },
    /// containerd has another directory at the path of its layers than this process.
    #[error(
        "fs_size cannot be enforced: containerd sees another directory at {} than this process does; run it in \
         containerd's mount namespace",
        path.display()
    )]
    Elsewhere { path: PathBuf },
    /// A block device, a copy, or a program that mounts: there is no directory to set a project on.
    #[error(
        "fs_size cannot be enforced: snapshotter {snapshotter} has no directory per container; use overlayfs"
    )]
    NoDirectory { snapshotter: String },
    /// The file system does not support it, or refuses it.
    #[error("fs_size cannot be enforced")]
    Quota(#[from] quota::Error),
}

impl Unlimited {
    fn kind(&self) -> Kind {
        match self {
            Self::TooMuch { .. } => Kind::InvalidPlan,
            Self::Elsewhere { .. } | Self::NoDirectory { .. } => Kind::Unsupported,
            Self::Quota(error) if error.is_unsupported() => Kind::Unsupported,
            Self::Quota(quota::Error::NoneFree { .. }) => Kind::Busy,
            Self::Quota(_) => Kind::Internal,
        }
    }

    fn at(self, step: Step, id: &ContainerId) -> Error {
        Error::new(step, id, self.kind(), self)
    }
}

/// Checks that the limit can be enforced, as far as this is known before there is a layer.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn check(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<()> {
    let Some(bytes) = plan.fs_size else { return Ok(()) };
    if bytes > quota::MOST {
        return Err(Unlimited::TooMuch { bytes }.at(Step::Check, &plan.id));
    }
    let root = deps.snapshotter_root.get_or_try_init(|| root(deps, ctx, plan));
    let Some(root) = root.await?.clone() else {
        // A snapshotter outside of containerd does not report it. Then the first limit of a layer shows it.
        return Ok(());
    };
    blocking(&plan.id, Step::Check, move || quota::check(&root)).await
}

/// Where the snapshotter keeps its files, if it reports that.
async fn root(deps: &Deps, ctx: &Context, plan: &Plan) -> Result<Option<PathBuf>> {
    let name = &deps.config.snapshotter;
    let introspection = deps.session.introspection();
    let plugin = introspection.plugin(ctx, SNAPSHOTTER, name).await;
    let mut exports = plugin
        .at(Step::Check, &plan.id)?
        .map_or_else(Default::default, |plugin| plugin.exports);
    let Some(root) = exports.remove("root").map(PathBuf::from) else {
        return Ok(None);
    };
    let daemon = deps.session.server_pid(ctx).await.at(Step::Check, &plan.id)?;
    if daemon.is_some_and(|pid| differs(pid, &root)) {
        return Err(Unlimited::Elsewhere { path: root }.at(Step::Check, &plan.id));
    }
    Ok(Some(root))
}

/// Whether the path is known to lead the process `pid` to another directory. Two mount namespaces may show the same
/// directory, and a path that cannot be examined is not known to differ: then the layer shows it, which must exist and
/// be empty.
pub(super) fn differs(pid: u32, path: &Path) -> bool {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let theirs = std::fs::metadata(
        Path::new("/proc")
            .join(pid.to_string())
            .join("root")
            .join(relative),
    );
    match (theirs, std::fs::metadata(path)) {
        (Ok(theirs), Ok(ours)) => (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino()),
        (Ok(_), Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
        (Err(_), _) => false,
    }
}

/// Limits the layer that these mounts write to.
///
/// # Cancellation
/// Not safe to drop.
pub(super) async fn limit(deps: &Deps, plan: &Plan, mounts: &[Mount], undo: &mut Teardown) -> Result<()> {
    let Some(bytes) = plan.fs_size else { return Ok(()) };
    let Some(layer) = Layer::of(mounts) else {
        let snapshotter = deps.config.snapshotter.clone();
        return Err(Unlimited::NoDirectory { snapshotter }.at(Step::Rootfs, &plan.id));
    };
    let upper = layer.upper.clone();
    // A claim: while the process may still run, the limit must stay, because that process could write.
    undo.defer_claim(STEP, move |_| release(upper.clone()));
    blocking(&plan.id, Step::Rootfs, move || {
        quota::limit([&layer.upper, &layer.work], bytes)
    })
    .await
}

/// Puts the removal of the limit of a container that another process made on the list. The layer is looked up when the
/// step runs.
pub(super) fn defer_release(undo: &mut Teardown, session: &Session, snapshotter: &str, id: &ContainerId) {
    let (session, snapshotter, id) = (session.clone(), snapshotter.to_owned(), id.clone());
    undo.defer_claim(STEP, move |ctx| {
        let (session, snapshotter, id) = (session.clone(), snapshotter.clone(), id.clone());
        async move {
            let mounts = session.snapshots(&snapshotter).mounts(&ctx, id.as_str()).await;
            let mounts = match mounts {
                Err(error) if error.is_not_found() => return Ok(()),
                other => other?,
            };
            match Layer::of(&mounts) {
                Some(layer) => release(layer.upper).await,
                None => Ok(()),
            }
        }
    });
}

async fn release(upper: PathBuf) -> Result<(), StepError> {
    Ok(tokio::task::spawn_blocking(move || quota::release(&upper)).await??)
}

/// Runs quota calls on a blocking thread: they are transactions of the file system, which may wait for its journal.
async fn blocking(
    id: &ContainerId,
    step: Step,
    work: impl FnOnce() -> Result<(), quota::Error> + Send + 'static,
) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Error::new(step, id, Kind::Internal, panic))?
        .map_err(|error| Unlimited::from(error).at(step, id))
}

/// The directories that an overlay writes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) upper: PathBuf,
    work: PathBuf,
}

impl Layer {
    /// Only for the kernel's overlay: the writes of a program that mounts an overlay in user space are counted, but may
    /// exceed the limit.
    pub(super) fn of(mounts: &[Mount]) -> Option<Self> {
        let overlay = mounts.iter().find(|mount| mount.kind == "overlay")?;
        let option = |name: &str| {
            let mut options = overlay.options.iter();
            let value = options.find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
            value.map(PathBuf::from).filter(|path| path.is_absolute())
        };
        Some(Self {
            upper: option("upperdir")?,
            work: option("workdir")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.to_owned(),
            source: kind.to_owned(),
            target: String::new(),
            options: options.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_writable_directories_are_those_of_an_overlay() {
        let options = [
            "index=off",
            "workdir=/s/7/work",
            "upperdir=/s/7/fs,x",
            "lowerdir=/s/1/fs",
        ];
        let layer = Layer {
            upper: "/s/7/fs,x".into(),
            work: "/s/7/work".into(),
        };
        assert_eq!(Layer::of(&[mount("overlay", &options)]), Some(layer));
        // A view, a template that only containerd can fill in, a copy, another program's overlay.
        for other in [
            mount("overlay", &["lowerdir=/s/2/fs:/s/1/fs"]),
            mount(
                "overlay",
                &["workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/fs"],
            ),
            mount("bind", &["rbind", "rw"]),
            mount("fuse3.fuse-overlayfs", &options),
        ] {
            assert_eq!(Layer::of(&[other]), None);
        }
        assert_eq!(Layer::of(&[]), None);
    }

    #[test]
    fn a_path_that_leads_another_process_elsewhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        assert!(!differs(me, dir.path()));
        assert!(!differs(me, &dir.path().join("gone")));
        assert!(!differs(u32::MAX, dir.path()), "no process to compare with");
    }
}
