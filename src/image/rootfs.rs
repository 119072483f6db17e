//! Reads facts from an image's root file system: its users, its groups, and whether it contains a program.
//!
//! A read-only view of the image is opened for a moment. If the snapshotter stores it as a single directory, that
//! directory is opened directly. An overlay is mounted in a private directory, opened, and detached at once, so that
//! only the open handle keeps it and no mount can be left behind. Results are cached by chain id, which identifies the
//! content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags};

pub(crate) use super::etc::{Entry, Etc};
use super::facts::RootfsFacts;
pub(crate) use super::lookup::{Lookup, NotExecutable, Ownership, Place, Program};
use super::remembered::Sheet;
use super::scratch::{Scratch, discard, unique};
use super::{Error, Image, ImageStore, etc, lookup};
use crate::Context;
use crate::containerd::Mount;

/// The largest user database that is read.
const MAX_TEXT: u64 = 4 << 20;
const EXPIRY: Duration = Duration::from_secs(600);
/// The kernel accepts at most one page of mount options.
const MAX_OPTIONS: usize = 4095;

impl ImageStore {
    /// The user databases of an image, and what it contains where containers get their own files.
    ///
    /// # Errors
    /// [`Error::Rootfs`] if its root file system cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop: the view is held by a lease that expires.
    pub(crate) async fn facts(&self, ctx: &Context, image: &Image) -> Result<Arc<RootfsFacts>, Error> {
        self.recall(&image.chain_id);
        let known = self.facts.get(&image.chain_id);
        self.counted("users", known.is_some());
        if let Some(facts) = known {
            return Ok(facts);
        }
        Ok(self.inspect(ctx, image, Question::Users).await?.0)
    }

    /// Whether an image contains a program.
    ///
    /// # Errors
    /// As [`ImageStore::facts`].
    ///
    /// # Cancellation
    /// As [`ImageStore::facts`].
    pub(crate) async fn executable(
        &self,
        ctx: &Context,
        image: &Image,
        lookup: &Lookup,
    ) -> Result<Program, Error> {
        self.recall(&image.chain_id);
        let key = (image.chain_id.clone(), lookup.clone());
        let known = self.executables.get(&key);
        self.counted("program", known.is_some());
        if let Some(known) = known {
            return Ok(known);
        }
        let (_, answer) = self
            .inspect(ctx, image, Question::Program(lookup.clone()))
            .await?;
        let Answer::Program(found) = answer else {
            return Ok(Program::NotFound);
        };
        // Not cached, because the kernel may get a handler for the file's format.
        if !matches!(found, Program::NotExecutable(..)) {
            self.executables.put(key, found.clone());
        }
        Ok(found)
    }

    /// What exists at these paths in an image, in their order.
    ///
    /// # Errors
    /// As [`ImageStore::facts`].
    ///
    /// # Cancellation
    /// As [`ImageStore::facts`].
    pub(crate) async fn places(
        &self,
        ctx: &Context,
        image: &Image,
        paths: &[String],
    ) -> Result<Vec<Place>, Error> {
        self.recall(&image.chain_id);
        let key = |path: &String| (image.chain_id.clone(), path.clone());
        let known: Option<Vec<_>> = paths.iter().map(|path| self.places.get(&key(path))).collect();
        self.counted("places", known.is_some());
        if let Some(known) = known {
            return Ok(known);
        }
        let (_, answer) = self.inspect(ctx, image, Question::Places(paths.to_vec())).await?;
        let Answer::Places(found) = answer else {
            return Ok(Vec::new());
        };
        for (path, place) in paths.iter().zip(&found) {
            self.places.put(key(path), place.clone());
        }
        Ok(found)
    }

    /// Opens a view and answers a question; the facts are read in the same view.
    async fn inspect(
        &self,
        ctx: &Context,
        image: &Image,
        question: Question,
    ) -> Result<(Arc<RootfsFacts>, Answer), Error> {
        let fail = || Error::containerd(&image.name);
        let scratch = Scratch::take(&self.session, ctx, ("view", &image.name), EXPIRY)
            .await
            .map_err(fail())?;
        let snapshots = scratch.leased().snapshots(&self.snapshotter);
        let key = unique(VIEW);
        let viewed = snapshots
            .view(ctx, &key, Some(&image.chain_id), &BTreeMap::new())
            .await;
        let looked = match viewed {
            Ok(mounts) => {
                let run_dir = self.run_dir.clone();
                let asked = question.clone();
                let look = move || look(&mounts, &run_dir, &asked);
                let looked = tokio::task::spawn_blocking(look).await;
                let looked = looked.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
                looked.map_err(|source| Error::Rootfs {
                    image: image.name.clone(),
                    source,
                })
            }
            Err(why) => Err(fail()(why)),
        };
        let gone = discard(&scratch.leased(), ctx, &self.snapshotter, &key).await;
        scratch.release(ctx, !gone).await;
        let (facts, answer) = looked?;
        self.remember_facts(&image.chain_id, &facts, question, &answer);
        let facts = Arc::new(facts);
        self.facts.put(image.chain_id.clone(), Arc::clone(&facts));
        Ok((facts, answer))
    }
}

impl ImageStore {
    /// Reads what an earlier process remembered of a root file system, once.
    fn recall(&self, chain_id: &str) {
        let Some(remembered) = &self.remembered else {
            return;
        };
        if self.recalled.get(&chain_id.to_owned()).is_some() {
            return;
        }
        self.recalled.put(chain_id.to_owned(), ());
        let Sheet {
            facts,
            programs,
            places,
            ..
        } = remembered.load(chain_id);
        if let Some(facts) = facts {
            self.facts.put(chain_id.to_owned(), Arc::new(facts));
        }
        for (lookup, file) in programs {
            self.executables
                .put((chain_id.to_owned(), lookup), Program::Found(file));
        }
        for (path, place) in places {
            self.places.put((chain_id.to_owned(), path), place);
        }
    }

    fn remember_facts(&self, chain_id: &str, facts: &RootfsFacts, question: Question, answer: &Answer) {
        let Some(remembered) = &self.remembered else {
            return;
        };
        remembered.add(chain_id, |sheet| {
            sheet.facts = Some(facts.clone());
            match (question, answer) {
                (Question::Program(lookup), Answer::Program(Program::Found(file))) => {
                    sheet.programs.push((lookup, file.clone()));
                }
                (Question::Places(paths), Answer::Places(places)) => {
                    sheet.places.extend(paths.into_iter().zip(places.iter().cloned()));
                }
                _ => {}
            }
        });
    }
}

/// What to look up in a view, in addition to the facts that are always read.
#[derive(Debug, Clone)]
enum Question {
    Users,
    Program(Lookup),
    Places(Vec<String>),
}

/// The answer to the question of the same name.
#[derive(Debug)]
enum Answer {
    Users,
    Program(Program),
    Places(Vec<Place>),
}

fn look(mounts: &[Mount], run_dir: &Path, question: &Question) -> io::Result<(RootfsFacts, Answer)> {
    let root = open(mounts, run_dir)?;
    let root = root.as_fd();
    let text = |path| lookup::text(root, path, MAX_TEXT).map_err(|why| why.to_string());
    let facts = RootfsFacts {
        passwd: text("etc/passwd"),
        group: text("etc/group"),
        etc: etc::etc(root)?,
    };
    let answer = match question {
        Question::Users => Answer::Users,
        Question::Program(lookup) => Answer::Program(lookup::executable(root, lookup)?),
        Question::Places(paths) => {
            let places = paths.iter().map(|path| lookup::place(root, path));
            Answer::Places(places.collect::<io::Result<_>>()?)
        }
    };
    Ok((facts, answer))
}

/// What a view is for, in the names of its snapshot and of its mount point.
pub(super) const VIEW: &str = "view";

/// Opens the root of a view.
fn open(mounts: &[Mount], run_dir: &Path) -> io::Result<OwnedFd> {
    match mounts {
        [one] if matches!(one.kind.as_str(), "bind" | "rbind") => directory(Path::new(&one.source)),
        [one] => mounted(one, run_dir),
        more => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the snapshotter describes it by {} mounts, not by one",
                more.len()
            ),
        )),
    }
}

fn mounted(one: &Mount, run_dir: &Path) -> io::Result<OwnedFd> {
    let at = run_dir.join(unique(VIEW));
    // The parents may not exist yet; they are created closed to other users.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&at)?;
    let root = attach(one, &at).and_then(|()| {
        let root = directory(&at);
        // Detached whether it could be opened or not; from here on only the handle keeps it.
        umount2(&at, MntFlags::MNT_DETACH)?;
        root
    });
    let removed = std::fs::remove_dir(&at);
    let root = root?;
    removed?;
    Ok(root)
}

fn attach(one: &Mount, at: &Path) -> io::Result<()> {
    let data: Vec<&str> = one
        .options
        .iter()
        .map(String::as_str)
        .filter(|option| !matches!(*option, "ro" | "rw" | "nodev" | "nosuid" | "noexec" | "defaults"))
        .collect();
    let data = data.join(",");
    let (data, _kept) = if data.len() > MAX_OPTIONS {
        shorten(&data)?
    } else {
        (data, None)
    };
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some(one.source.as_str()),
        at,
        Some(one.kind.as_str()),
        flags,
        Some(data.as_str()),
    )?;
    Ok(())
}

/// Shortens the options for many layers: their paths have a long common prefix, which is replaced by a handle.
fn shorten(data: &str) -> io::Result<(String, Option<File>)> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "too many layers for one mount");
    let (before, rest) = data.split_once("lowerdir=").ok_or_else(too_long)?;
    let (lower, after) = rest.split_once(',').unwrap_or((rest, ""));
    let layers: Vec<&Path> = lower.split(':').map(Path::new).collect();
    let common = common(&layers).ok_or_else(too_long)?;
    let kept = File::open(&common)?;
    let handle = format!("/proc/self/fd/{}", kept.as_raw_fd());
    let short: Vec<String> = layers
        .iter()
        .filter_map(|layer| layer.strip_prefix(&common).ok())
        .map(|layer| format!("{handle}/{}", layer.display()))
        .collect();
    let comma = if after.is_empty() { "" } else { "," };
    let data = format!("{before}lowerdir={}{comma}{after}", short.join(":"));
    if data.len() > MAX_OPTIONS {
        return Err(too_long());
    }
    Ok((data, Some(kept)))
}

/// The deepest directory that contains all the paths.
fn common(paths: &[&Path]) -> Option<PathBuf> {
    let first = paths.first()?;
    first
        .ancestors()
        .skip(1)
        .find(|above| paths.iter().all(|path| path.starts_with(above)))
        .map(Path::to_owned)
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
