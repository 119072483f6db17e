//! `cp`: copies files from a container and to one.

use std::ffi::OsString;
use std::io::{self, Read as _, Write};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::Invocation;
use super::args::files::{CpArgs, Place};
use super::connect::with;
use super::container_ref::ContainerRef;
use super::failure::Failure;
use super::output::Print;
use crate::Context;
use crate::engine::{ArchiveWriter, Container, Engine, FileAccess};
use crate::files::{self, ContainerPath, FileStat, Root, Unpacking};

/// The size of the parts in which standard input is read.
const PART: usize = 256 << 10;

/// Copies a file, or a directory with all that is in it.
pub(super) async fn cp(
    invocation: Invocation<'_>,
    args: &CpArgs,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let copy = async |engine: &Engine| match (&args.source, &args.destination) {
        (Place::In(container, path), Place::Stream) => to_stream(engine, container, path, args).await,
        (Place::In(container, path), Place::Here(here)) => from(engine, container, path, here, args).await,
        (Place::Stream, Place::In(container, path)) => of_stream(engine, container, path, args).await,
        (Place::Here(here), Place::In(container, path)) => to(engine, here, container, path, args).await,
        (Place::In(..), Place::In(..)) => Err(Failure::usage(
            "a copy between two containers goes through an archive: fnctr cp ONE:PATH - | fnctr cp - OTHER:PATH",
        )),
        _ => Err(Failure::usage(
            "one of the two must be in a container: CONTAINER:PATH",
        )),
    };
    with(invocation, copy).await?;
    if print.is_json() && args.destination != Place::Stream {
        print.json(&serde_json::json!({ "copied": true }));
    }
    Ok(ExitCode::SUCCESS)
}

async fn of(engine: &Engine, container: &ContainerRef) -> Result<Container, Failure> {
    Ok(engine
        .adopt(&Context::new(), &container.id(engine).await?)
        .await?)
}

/// The path to copy: of what a link leads to, if that is asked for.
async fn source(
    container: &Container,
    path: &str,
    args: &CpArgs,
) -> Result<(ContainerPath, FileStat), Failure> {
    let ctx = Context::new();
    let look = async |path: &ContainerPath| {
        let files = container.files(&ctx, FileAccess::Read).await?;
        files.stat(&ctx, path.clone()).await
    };
    let path = ContainerPath::new(path);
    let found = look(&path).await?;
    match found.target.clone().filter(|_| args.follow_link) {
        None => Ok((path, found)),
        Some(target) => {
            let target = ContainerPath::new(&target.to_string_lossy());
            let found = look(&target).await?;
            Ok((target, found))
        }
    }
}

async fn to_stream(
    engine: &Engine,
    container: &ContainerRef,
    path: &str,
    args: &CpArgs,
) -> Result<(), Failure> {
    let container = of(engine, container).await?;
    let (path, _) = source(&container, path, args).await?;
    let ctx = Context::new();
    let files = container.files(&ctx, FileAccess::Read).await?;
    let named = path.archived().to_owned();
    let (_, mut archive) = files.pack(&ctx, path, named).await?;
    let mut out = tokio::io::stdout();
    let failed = |error: io::Error| Failure::internal(format!("cannot copy: {error}"));
    while let Some(part) = archive.next().await {
        out.write_all(&part.map_err(failed)?).await.map_err(failed)?;
    }
    out.flush().await.map_err(failed)
}

async fn of_stream(
    engine: &Engine,
    container: &ContainerRef,
    path: &str,
    args: &CpArgs,
) -> Result<(), Failure> {
    let feed = |writer: ArchiveWriter| {
        let mut input = io::stdin().lock();
        loop {
            let mut part = vec![0; PART];
            match input.read(&mut part) {
                Ok(0) => return Ok(writer),
                Ok(read) => {
                    part.truncate(read);
                    if !writer.blocking_write(part) {
                        return Ok(writer);
                    }
                }
                Err(error) => return Err(format!("cannot read standard input: {error}")),
            }
        }
    };
    let container = of(engine, container).await?;
    unpack(&container, ContainerPath::new(path), args, feed).await
}

/// Unpacks what `feed` writes on a thread.
async fn unpack(
    container: &Container,
    dir: ContainerPath,
    args: &CpArgs,
    feed: impl FnOnce(ArchiveWriter) -> Result<ArchiveWriter, String> + Send + 'static,
) -> Result<(), Failure> {
    let files = container.files(&Context::new(), FileAccess::Write).await?;
    let how = Unpacking {
        keeps_kinds: true,
        makes_devices: false,
        owner: files.user().filter(|_| args.archive),
        drops_privileges: false,
    };
    let (writer, unpacked) = files.unpack(dir, how);
    let fed = tokio::task::spawn_blocking(move || feed(writer));
    let fed = async {
        match fed.await {
            Ok(Ok(writer)) => {
                writer.finish().await;
                Ok(())
            }
            Ok(Err(why)) => Err(why),
            Err(panic) => Err(panic.to_string()),
        }
    };
    let (fed, unpacked) = tokio::join!(fed, unpacked);
    // An archive that was cut off has a reason.
    fed.map_err(Failure::internal)?;
    unpacked?;
    Ok(())
}

/// A path of this host, as a path beneath its root.
fn here(text: &str) -> Result<ContainerPath, Failure> {
    let dir = std::env::current_dir();
    let dir = dir.map_err(|error| Failure::internal(format!("there is no working directory: {error}")))?;
    Ok(match text.starts_with('/') {
        true => ContainerPath::new(text),
        false => ContainerPath::new(&format!("{}/{text}", dir.display())),
    })
}

/// Where a copy goes: the directory that it is unpacked into, and the name that it has there.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    dir: ContainerPath,
    named: OsString,
}

/// The kind of what is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    File,
}

/// Docker's rules of `cp`, which are those of `cp -a`.
fn target(
    source: &ContainerPath,
    is_dir: bool,
    (given, destination): (&str, &ContainerPath),
    there: There,
) -> Result<Target, String> {
    let beside = || Target {
        dir: destination.as_path().parent().map_or_else(
            || ContainerPath::new("/"),
            |dir| ContainerPath::new(&dir.to_string_lossy()),
        ),
        named: destination.as_path().file_name().unwrap_or_default().to_owned(),
    };
    match (there, is_dir) {
        (There::Directory, _) => Ok(Target {
            dir: ContainerPath::new(&format!("{}/", destination.as_path().display())),
            named: match source.archived() {
                root if root.is_empty() => OsString::from("."),
                named => named.to_owned(),
            },
        }),
        (There::Nothing, false) if given.ends_with('/') => Err(format!("there is no directory {given}")),
        (There::Nothing, _) | (There::File, false) => Ok(beside()),
        (There::File, true) => Err(format!("cannot copy a directory to {given}, which is a file")),
    }
}

fn there(found: Option<&FileStat>) -> There {
    match found {
        None => There::Nothing,
        Some(found) if found.mode & 0o170_000 == 0o040_000 => There::Directory,
        Some(_) => There::File,
    }
}

/// What a path means once a link at its end is followed, and whether something is there.
fn look_here(root: &Root, path: &ContainerPath) -> Result<(ContainerPath, Option<FileStat>), files::Error> {
    match FileStat::of(root, path) {
        Err(files::Error::Missing { .. }) => Ok((path.clone(), None)),
        Err(error) => Err(error),
        Ok(FileStat {
            target: Some(target), ..
        }) => {
            let target = ContainerPath::new(&target.to_string_lossy());
            let found = FileStat::of(root, &target).ok();
            Ok((target, found))
        }
        Ok(found) => Ok((path.clone(), Some(found))),
    }
}

fn of_files(error: &files::Error) -> Failure {
    Failure::usage(format!("cannot copy: {}", crate::chain(error)))
}

async fn from(
    engine: &Engine,
    container: &ContainerRef,
    path: &str,
    given: &str,
    args: &CpArgs,
) -> Result<(), Failure> {
    let destination = here(given)?;
    let root = Root::own().map_err(|error| of_files(&error))?;
    let (destination, found) = look_here(&root, &destination).map_err(|error| of_files(&error))?;
    let container = of(engine, container).await?;
    let (path, stat) = source(&container, path, args).await?;
    let is_dir = there(Some(&stat)) == There::Directory;
    let target = target(&path, is_dir, (given, &destination), there(found.as_ref()));
    let Target { dir, named } = target.map_err(Failure::usage)?;
    let ctx = Context::new();
    let files = container.files(&ctx, FileAccess::Read).await?;
    let (_, archive) = files.pack(&ctx, path, named).await?;
    let how = Unpacking {
        keeps_kinds: true,
        makes_devices: false,
        owner: (!args.archive).then(|| {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            (uid.as_raw(), gid.as_raw())
        }),
        // A program of the container's is not to have the rights of this user.
        drops_privileges: !args.archive,
    };
    let done = tokio::task::spawn_blocking(move || {
        // The container may change what it gives at any moment; no link of it leads out of the destination.
        let destination = root.of_directory(&dir)?;
        files::unpack(&destination, &ContainerPath::new("/"), archive.blocking(), how)
    });
    let done = done.await.map_err(|panic| Failure::internal(panic.to_string()))?;
    done.map(drop).map_err(|error| of_files(&error))
}

async fn to(
    engine: &Engine,
    given: &str,
    container: &ContainerRef,
    path: &str,
    args: &CpArgs,
) -> Result<(), Failure> {
    let root = Arc::new(Root::own().map_err(|error| of_files(&error))?);
    let mut source = here(given)?;
    if args.follow_link {
        source = look_here(&root, &source).map_err(|error| of_files(&error))?.0;
    }
    let stat = FileStat::of(&root, &source).map_err(|error| of_files(&error))?;
    let is_dir = there(Some(&stat)) == There::Directory;
    let container = of(engine, container).await?;
    let destination = ContainerPath::new(path);
    let (destination, found) = look_in(&container, destination).await?;
    let target = target(&source, is_dir, (path, &destination), there(found.as_ref()));
    let Target { dir, named } = target.map_err(Failure::usage)?;
    let feed = move |writer: ArchiveWriter| {
        let mut sink = Sink {
            writer,
            is_unwanted: false,
        };
        let out = io::BufWriter::with_capacity(PART, &mut sink);
        match files::pack(&root, &source, &named, out) {
            Err(error) if !sink.is_unwanted => Err(format!("cannot copy: {}", crate::chain(&error))),
            Ok(()) | Err(_) => Ok(sink.writer),
        }
    };
    unpack(&container, dir, args, feed).await
}

/// Like [`look_here`], in a container.
async fn look_in(
    container: &Container,
    path: ContainerPath,
) -> Result<(ContainerPath, Option<FileStat>), Failure> {
    let ctx = Context::new();
    let look = async |path: &ContainerPath| {
        let files = container.files(&ctx, FileAccess::Read).await?;
        match files.stat(&ctx, path.clone()).await {
            Err(error) if error.kind() == crate::engine::Kind::NotFound => Ok(None),
            found => found.map(Some),
        }
    };
    match look(&path).await? {
        Some(FileStat {
            target: Some(target), ..
        }) => {
            let target = ContainerPath::new(&target.to_string_lossy());
            let found = look(&target).await?;
            Ok((target, found))
        }
        found => Ok((path, found)),
    }
}

/// Writes an archive to the unpacking. What that does not want any more is an error, which is not the reason.
#[derive(Debug)]
struct Sink {
    writer: ArchiveWriter,
    is_unwanted: bool,
}

impl Write for &mut Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.blocking_write(bytes.to_vec()) {
            true => Ok(bytes.len()),
            false => {
                self.is_unwanted = true;
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_where_docker_s_goes() {
        let place = |source: &str, is_dir, destination: &str, there| {
            let (source, path) = (ContainerPath::new(source), ContainerPath::new(destination));
            let target = target(&source, is_dir, (destination, &path), there)?;
            let dir = target.dir.as_path().display().to_string();
            Ok::<_, String>((dir, target.named.into_string().unwrap()))
        };
        let is = |dir: &str, named: &str| Ok((dir.to_owned(), named.to_owned()));
        use There::{Directory, File, Nothing};
        assert_eq!(place("/a/f", false, "/d", Directory), is("/d", "f"));
        assert_eq!(place("/a/f", false, "/d/g", Nothing), is("/d", "g"));
        assert_eq!(place("/a/f", false, "/d/g", File), is("/d", "g"));
        assert!(place("/a/f", false, "/d/", Nothing).is_err());
        assert_eq!(place("/a", true, "/d", Directory), is("/d", "a"));
        assert_eq!(place("/a/.", true, "/d", Directory), is("/d", "."));
        assert_eq!(place("/a", true, "/d/b", Nothing), is("/d", "b"));
        assert_eq!(place("/a/.", true, "/d/b", Nothing), is("/d", "b"));
        assert!(place("/a", true, "/d/f", File).is_err());
        assert_eq!(place("/", true, "/d", Directory), is("/d", "."));
    }
}
