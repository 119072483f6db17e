//! The files of a container that does not run: its layers and mounts, put together in a mount namespace of their own.
//!
//! The namespace belongs to a thread that ends at once, and then to a descriptor. The kernel unmounts everything when that is
//! closed, however this process ends.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::beneath::{make_dirs, open_in};
use super::error::{Error, Result};

/// The layers and mounts of a container.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    /// The mount of the root, as the snapshotter describes it: kind, source and options.
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) options: Vec<String>,
    /// Whether what is written goes into the container's layer. Otherwise it is discarded, and the layer may be in use.
    pub(crate) writes_last: bool,
    /// Whether the root may not be written to, as that of a container with a read-only root.
    pub(crate) is_readonly: bool,
    /// What is mounted into the root.
    pub(crate) mounts: Vec<MountedFile>,
    /// A directory of the host, which the root hides for nobody else.
    pub(crate) place: PathBuf,
}

/// A file or directory of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountedFile {
    pub(crate) source: PathBuf,
    pub(crate) destination: PathBuf,
    pub(crate) is_readonly: bool,
}

fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Mount { what, source }
}

/// Mounts everything. Returns the root, and the mount namespace that holds it.
pub(super) fn assemble(layers: Layers) -> Result<(OwnedFd, OwnedFd)> {
    let thread = std::thread::Builder::new().name("container-files".to_owned());
    // The thread's mount namespace and working directory are its own from here on.
    let thread = thread.spawn(move || in_own_namespace(&layers));
    let ended = thread.map_err(failed("there is no thread for it"))?.join();
    ended.unwrap_or_else(|_| {
        Err(failed("the thread has panicked")(std::io::Error::other(
            "panicked",
        )))
    })
}

fn in_own_namespace(layers: &Layers) -> Result<(OwnedFd, OwnedFd)> {
    let none = None::<&str>;
    let place = layers.place.as_path();
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| failed("unshare")(e.into()))?;
    // What the host unmounts goes here, too, and nothing goes the other way.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|e| failed("/ cannot be made a slave")(e.into()))?;
    // Before the root hides what is behind its place.
    let mut trees = Vec::new();
    // In the order in which the runtime mounts them: what is above comes first.
    let mut mounts: Vec<_> = layers.mounts.iter().collect();
    mounts.sort_by_key(|mounted| mounted.destination.components().count());
    for mounted in mounts {
        trees.push((clone_of(&mounted.source)?, mounted));
    }
    let root = mount_root(layers, place)?;
    for (tree, mounted) in trees {
        attach(&root, &tree, mounted)?;
    }
    if layers.is_readonly {
        set_readonly(&root, "the root")?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty());
    Ok((
        root,
        namespace.map_err(|e| failed("its mount namespace")(e.into()))?,
    ))
}

fn clone_of(source: &Path) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, source, flags).map_err(|e| failed(format!("mount source {}", source.display()))(e.into()))
}

fn mount_root(layers: &Layers, place: &Path) -> Result<OwnedFd> {
    let mounted_at = match layers.writes_last {
        true => {
            mount_layers(layers, &layers.options, place)?;
            place.to_owned()
        }
        false => over_memory(layers, place)?,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&mounted_at, flags, Mode::empty()).map_err(|e| failed("its root")(e.into()))
}

/// Mounts the layers below one in memory, so that nothing is written to them.
fn over_memory(layers: &Layers, place: &Path) -> Result<PathBuf> {
    let none = None::<&str>;
    let in_memory = |e: nix::Error| failed("a file system in memory")(e.into());
    mount(
        Some("tmpfs"),
        place,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=700"),
    )
    .map_err(in_memory)?;
    let [root, upper, work, base] = ["root", "upper", "work", "base"].map(|name| place.join(name));
    for dir in [&root, &upper, &work, &base] {
        std::fs::create_dir(dir).map_err(failed("a directory in memory"))?;
    }
    let (lower, mut options) = match layers.kind.as_str() {
        "overlay" => below(&layers.options),
        _ => {
            mount_layers(layers, &layers.options, &base)?;
            (base.display().to_string(), Vec::new())
        }
    };
    options.push(format!("lowerdir={lower}"));
    options.push(format!("upperdir={}", upper.display()));
    options.push(format!("workdir={}", work.display()));
    let (dir, options) = beneath_common(&options);
    std::env::set_current_dir(&dir)
        .map_err(failed(format!("the directory of its layers, {}", dir.display())))?;
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.join(",").as_str()),
    )
    .map_err(|e| failed("its layers")(e.into()))?;
    mount(none, &root, none, MsFlags::MS_PRIVATE, none).map_err(in_memory)?;
    Ok(root)
}

/// The layers of an overlay as layers that nothing is written to, and the other options.
fn below(options: &[String]) -> (String, Vec<String>) {
    let value = |name: &str| {
        options
            .iter()
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    };
    let layers: Vec<_> = [value("upperdir"), value("lowerdir")]
        .into_iter()
        .flatten()
        .collect();
    let of_layers = ["upperdir=", "lowerdir=", "workdir=", "volatile", "fsync="];
    let others = options
        .iter()
        .filter(|option| !of_layers.iter().any(|name| option.starts_with(name)));
    (layers.join(":"), others.cloned().collect())
}

fn mount_layers(layers: &Layers, options: &[String], at: &Path) -> Result<()> {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options {
        match option.as_str() {
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "bind" => flags |= MsFlags::MS_BIND,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => {}
            other => data.push(other.to_owned()),
        }
    }
    let (dir, data) = beneath_common(&data);
    std::env::set_current_dir(&dir)
        .map_err(failed(format!("the directory of its layers, {}", dir.display())))?;
    mount(
        Some(layers.source.as_str()),
        at,
        Some(layers.kind.as_str()),
        flags,
        Some(data.join(",").as_str()),
    )
    .map_err(|e| failed("its layers")(e.into()))
}

/// The options with paths relative to the directory that all layers have in common: the kernel takes one page of options,
/// which fifty absolute paths fill.
fn beneath_common(options: &[String]) -> (PathBuf, Vec<String>) {
    const OF_LAYERS: [&str; 3] = ["lowerdir=", "upperdir=", "workdir="];
    let paths = |option: &str| -> Option<(&'static str, Vec<PathBuf>)> {
        let name = OF_LAYERS.into_iter().find(|name| option.starts_with(name))?;
        let paths = option.strip_prefix(name)?.split(':').map(PathBuf::from);
        Some((name, paths.collect()))
    };
    let lower = options
        .iter()
        .filter_map(|option| paths(option))
        .filter(|(name, _)| *name == "lowerdir=")
        .flat_map(|(_, paths)| paths);
    let mut common: Option<PathBuf> = None;
    for path in lower {
        let parent = path.parent().unwrap_or_else(|| Path::new("/")).to_owned();
        common = Some(match common {
            None => parent,
            Some(so_far) => so_far
                .components()
                .zip(parent.components())
                .take_while(|(one, other)| one == other)
                .map(|(one, _)| one)
                .collect(),
        });
    }
    let Some(common) = common.filter(|dir| dir.is_absolute()) else {
        return (PathBuf::from("/"), options.to_vec());
    };
    let relative = |path: &Path| match path.strip_prefix(&common) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    };
    let options = options.iter().map(|option| match paths(option) {
        None => option.clone(),
        Some((name, paths)) => {
            let paths: Vec<_> = paths.iter().map(|path| relative(path)).collect();
            format!("{name}{}", paths.join(":"))
        }
    });
    (common.clone(), options.collect())
}

/// Attaches a mount where the container has it. What is missing there is made, as the runtime makes it at a start.
fn attach(root: &OwnedFd, tree: &OwnedFd, mounted: &MountedFile) -> Result<()> {
    let destination = mounted.destination.as_path();
    let what = || format!("mount destination {}", destination.display());
    let target = match open_in(root.as_fd(), destination, OFlags::PATH) {
        Err(Errno::NOENT) => make_target(root, tree, destination)?,
        opened => opened.map_err(|e| failed(what())(e.into()))?,
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", &target, "", flags).map_err(|e| failed(what())(e.into()))?;
    match mounted.is_readonly {
        true => set_readonly(tree, &what()),
        false => Ok(()),
    }
}

fn make_target(root: &OwnedFd, tree: &OwnedFd, destination: &Path) -> Result<OwnedFd> {
    let what = || format!("mount destination {}", destination.display());
    let is_dir = rustix::fs::fstat(tree)
        .is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir());
    match (is_dir, destination.parent(), destination.file_name()) {
        (false, Some(parent), Some(name)) => {
            let dir = make_dirs(root.as_fd(), parent)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o755))
                .map_err(|e| failed(what())(e.into()))?;
        }
        _ => drop(make_dirs(root.as_fd(), destination)?),
    }
    open_in(root.as_fd(), destination, OFlags::PATH).map_err(|e| failed(what())(e.into()))
}

fn set_readonly(mounted: &OwnedFd, what: &str) -> Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    let path = format!("/proc/thread-self/fd/{}", mounted.as_raw_fd());
    mount(none, path.as_str(), none, flags, none)
        .map_err(|e| failed(format!("{what} cannot be made read-only"))(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn fifty_layers_fit_into_a_page() {
        let dir = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let lower: Vec<_> = (100..150).map(|n| format!("{dir}/{n}/fs")).collect();
        let options = texts(&[
            "index=off",
            &format!("workdir={dir}/200/work"),
            &format!("upperdir={dir}/200/fs"),
            &format!("lowerdir={}", lower.join(":")),
        ]);
        let (common, short) = beneath_common(&options);
        assert_eq!(common, Path::new(dir));
        assert!(short.join(",").len() < 1000);
        assert_eq!(
            short[..3],
            texts(&["index=off", "workdir=200/work", "upperdir=200/fs"])
        );
        assert!(short[3].starts_with("lowerdir=100/fs:101/fs:"));
        let (common, one) = beneath_common(&texts(&["lowerdir=/a/1/fs", "upperdir=/b/2/fs"]));
        assert_eq!(common, Path::new("/a/1"));
        assert_eq!(one, texts(&["lowerdir=fs", "upperdir=/b/2/fs"]));
    }

    #[test]
    fn a_reader_has_the_writable_layer_as_the_first_of_those_below() {
        let options = texts(&[
            "index=off",
            "workdir=/w",
            "upperdir=/u",
            "lowerdir=/b:/a",
            "volatile",
        ]);
        assert_eq!(below(&options), ("/u:/b:/a".to_owned(), texts(&["index=off"])));
        assert_eq!(below(&texts(&["lowerdir=/b"])), ("/b".to_owned(), Vec::new()));
    }
}
