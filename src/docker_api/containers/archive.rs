//! The files of a container: `HEAD`, `GET` and `PUT /containers/{id}/archive`, and `GET /containers/{id}/export`.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderName;
use serde_json::json;

use super::front::Front;
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::query::Query;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::{Payload, Request};
use crate::docker_api::time::stamp;
use crate::engine::{
    ArchiveReader, ArchiveWriter, ContainerPath, Error, FileAccess, FileStat, FilesError, Served, Unpacking,
};

const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
/// How long a client may take to go on with the body of its request.
const IDLE: Duration = Duration::from_secs(60);
const TAR: &str = "application/x-tar";

/// What a file is, as a header.
pub(in crate::docker_api) async fn stat_path(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let (served, path) = asked(door, given, &request.query)?;
    let files = served
        .container()
        .files(&request.client, FileAccess::Read)
        .await?;
    let stat = files.stat(&request.client, path.clone()).await;
    let stat = stat.map_err(|error| refused(error, &path, given))?;
    Ok(Answer::empty(StatusCode::OK).with(PATH_STAT, &described(&stat, &path)))
}

/// A file, or a directory with all that is in it, as an archive.
pub(in crate::docker_api) async fn copy_from(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let (served, path) = asked(door, given, &request.query)?;
    let (stat, archive) = packed(&served, &path, given, request).await?;
    Ok(streamed(archive).with(PATH_STAT, &described(&stat, &path)))
}

/// The whole file system of a container.
pub(in crate::docker_api) async fn export(
    door: &Arc<Door>,
    given: &str,
    request: &Request,
) -> Result<Answer, Refused> {
    let served = door.container(given)?;
    let (path, client) = (ContainerPath::new("/"), &request.client);
    let files = served.container().files(client, FileAccess::Export).await?;
    // Docker's names have no directory before them; these have one that every reader takes away.
    let packed = files.pack(client, path.clone(), ".".into()).await;
    let (_, archive) = packed.map_err(|error| refused(error, &path, given))?;
    Ok(streamed(archive))
}

/// Unpacks an archive into a directory.
pub(in crate::docker_api) async fn copy_to(
    door: &Arc<Door>,
    given: &str,
    request: Request,
) -> Result<Answer, Refused> {
    let Payload::Streamed(body) = request.body else {
        return Err(Refused::failed("the body of the request was read before"));
    };
    let (query, client) = (&request.query, &request.client);
    let prepared = async {
        let (served, path) = asked(door, given, query)?;
        let files = served.container().files(client, FileAccess::Write).await?;
        let has_user = Front::of(&served).is_some_and(|front| !front.user.is_empty());
        Ok((files, path, has_user))
    };
    let (files, path, has_user) = match prepared.await {
        Ok(prepared) => prepared,
        Err(refused) => {
            drop(send(body, None).await);
            return Err(refused);
        }
    };
    let takes_user = query.flag("copyUIDGID");
    let how = Unpacking {
        keeps_kinds: query.flag("noOverwriteDirNonDir"),
        makes_devices: false,
        owner: files.user().filter(|_| takes_user && has_user),
        drops_privileges: false,
    };
    let (writer, unpacked) = files.unpack(path.clone(), how);
    let (sent, unpacked) = tokio::join!(send(body, Some(writer)), unpacked);
    // The reason why nothing more was wanted comes first.
    unpacked.map_err(|error| match sent {
        Err(sent) if is_cut_off(&error) => sent,
        _ => refused(error, &path, given),
    })?;
    Ok(Answer::empty(StatusCode::OK))
}

/// The container and the path of a request.
fn asked(door: &Door, given: &str, query: &Query) -> Result<(Arc<Served>, ContainerPath), Refused> {
    let path = query.get("path").unwrap_or_default();
    if path.is_empty() {
        return Err(Refused::bad("bad parameter: pathcannot be empty"));
    }
    Ok((door.container(given)?, ContainerPath::new(path)))
}

async fn packed(
    served: &Served,
    path: &ContainerPath,
    given: &str,
    request: &Request,
) -> Result<(FileStat, ArchiveReader), Refused> {
    let files = served
        .container()
        .files(&request.client, FileAccess::Read)
        .await?;
    let packed = files
        .pack(&request.client, path.clone(), path.archived().to_owned())
        .await;
    packed.map_err(|error| refused(error, path, given))
}

fn streamed(archive: ArchiveReader) -> Answer {
    let parts = stream::unfold(archive, |mut archive| async move {
        let part = archive.next().await?;
        Some((part.map(Bytes::from), archive))
    });
    Answer::stream(Some(TAR), parts)
}

/// Sends the body of a request to the unpacking, as long as that wants it. All of it is read: a client that is still sending
/// does not read an answer.
async fn send(mut body: Incoming, mut writer: Option<ArchiveWriter>) -> Result<(), Refused> {
    loop {
        let frame = tokio::time::timeout(IDLE, body.frame()).await;
        let frame = frame.map_err(|_| {
            Refused::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body of the request has not come on for a minute",
            )
        })?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Refused::bad(format!("cannot read the body of the request: {error}")))?;
        if let Ok(part) = frame.into_data()
            && let Some(to) = &writer
            && !to.write(part.to_vec()).await
        {
            writer = None;
        }
    }
    if let Some(writer) = writer {
        writer.finish().await;
    }
    Ok(())
}

fn is_cut_off(error: &Error) -> bool {
    matches!(of_files(error), Some(FilesError::Archive(_)))
}

fn of_files(error: &Error) -> Option<&FilesError> {
    error.source()?.downcast_ref()
}

/// An error of files in Docker's words, where Docker has words for it.
fn refused(error: Error, asked: &ContainerPath, given: &str) -> Refused {
    let asked = asked.as_path().display().to_string();
    match of_files(&error) {
        Some(FilesError::Missing { path }) if *path == asked => {
            Refused::missing(format!("Could not find the file {asked} in container {given}"))
        }
        Some(FilesError::NotDirectory { path }) if *path == asked => {
            Refused::bad("extraction point is not a directory")
        }
        Some(FilesError::ReadOnly { .. }) => {
            Refused::new(StatusCode::FORBIDDEN, "container rootfs is marked read-only")
        }
        Some(why) => {
            let message = crate::chain(why);
            Refused {
                message,
                ..error.into()
            }
        }
        None => error.into(),
    }
}

/// The header: JSON in base 64, with the kind and permissions as Go numbers them.
fn described(stat: &FileStat, path: &ContainerPath) -> String {
    let value = json!({
        "name": path.base().to_string_lossy(), "size": stat.size, "mode": go_mode(stat.mode),
        "mtime": stamp(Some(stat.modified)),
        "linkTarget": stat.target.as_ref().map(|target| target.to_string_lossy()).unwrap_or_default(),
    });
    base64::engine::general_purpose::STANDARD.encode(value.to_string())
}

/// Go's `fs.FileMode` of a mode (inode(7)).
fn go_mode(mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const FIFO: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHARACTER: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;

    let kind = match mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHARACTER,
        0o010_000 => FIFO,
        0o140_000 => SOCKET,
        _ => 0,
    };
    let bits = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
    let bits = bits
        .into_iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, go)| go);
    bits.fold(kind | (mode & 0o777), |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_mode_is_numbered_as_go_does() {
        for (mode, go) in [
            (0o100_644, 0o644),
            (0o041_777, 2_148_532_735),
            (0o120_777, 134_218_239),
            (0o104_755, 8_389_101),
            (0o020_666, 69_206_454),
        ] {
            assert_eq!(go_mode(mode), go, "{mode:o}");
        }
    }

    #[test]
    fn the_header_is_what_docker_sends() {
        let stat = FileStat {
            size: 4096,
            mode: 0o041_777,
            modified: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            target: None,
        };
        let text = described(&stat, &ContainerPath::new("/tmp"));
        let json = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            value,
            json!({ "name": "tmp", "size": 4096, "mode": 2_148_532_735_u32, "mtime": "2023-11-14T22:13:20Z",
                "linkTarget": "" })
        );
    }
}
