//! Loads images from an archive, and writes archives. An archive that is loaded is read twice, so it is kept in a file
//! without a name until it is loaded.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::Context;
use crate::docker_api::answer::{Answer, line};
use crate::docker_api::door::Door;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::{Payload, Request};
use crate::engine::{Format, Reference};

/// The size of the parts of an archive that is sent.
const PART: usize = 64 << 10;
/// How much of an archive is kept between two looks at the room that is left.
const STRIDE: u64 = 16 << 20;
/// The room that an archive leaves to others, in bytes and as a part of the file system; the smaller one counts.
const ROOM: u64 = 128 << 20;
const ROOM_PART: u64 = 8;

/// `POST /images/load`.
pub(in crate::docker_api) async fn load(door: &Arc<Door>, request: Request) -> Result<Answer, Refused> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Refused::failed(format!("cannot {what} the archive: {error}"))
    };
    let client = request.client.clone();
    let spooled = Spooled::new().map_err(failed("keep"))?;
    let Payload::Streamed(body) = request.body else {
        return Err(Refused::failed("the body of the request was read before"));
    };
    client
        .run(spooled.fill(body))
        .await
        .map_err(|_| Refused::failed("context canceled"))??;
    let loaded = door.engine.load(&client, &spooled.path).await;
    let lines: Vec<Bytes> = match loaded {
        Ok(loaded) => loaded
            .images
            .iter()
            .map(|image| {
                let name = Reference::parse(&image.record)
                    .map_or_else(|_| image.record.clone(), |name| name.familiar());
                let text = match image.is_named {
                    true => format!("Loaded image: {name}\n"),
                    false => format!("Loaded image ID: {}\n", image.id),
                };
                progress_line(&json!({ "stream": text }))
            })
            .collect(),
        // Docker has sent the head of its answer by then.
        Err(error) => vec![failure(&crate::chain(&error))],
    };
    Ok(Answer::json_stream(stream::iter(lines)))
}

/// A message of progress, which ends in another way than other lines.
pub(super) fn progress_line(value: &serde_json::Value) -> Bytes {
    let mut text = line(value).to_vec();
    text.pop();
    text.extend_from_slice(b"\r\n");
    text.into()
}

/// The last message of a stream that has failed.
pub(super) fn failure(why: &str) -> Bytes {
    progress_line(&json!({ "errorDetail": { "message": why }, "error": why }))
}

/// A file without a name, which other code opens by its descriptor.
struct Spooled {
    file: std::fs::File,
    path: PathBuf,
}

impl Spooled {
    fn new() -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;

        let dir = std::env::temp_dir();
        let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let file = std::fs::File::from(rustix::fs::open(
            &dir,
            flags,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )?);
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        Ok(Self { file, path })
    }

    async fn fill(&self, mut body: Incoming) -> Result<(), Refused> {
        let failed = |error: io::Error| Refused::failed(format!("cannot keep the archive: {error}"));
        let mut file = tokio::fs::File::from_std(self.file.try_clone().map_err(failed)?);
        let (mut kept, mut looked_at) = (0, 0);
        self.has_room()?;
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| Refused::bad(format!("cannot read the body of the request: {error}")))?;
            if let Ok(part) = frame.into_data() {
                file.write_all(&part).await.map_err(failed)?;
                kept += part.len() as u64;
            }
            if kept - looked_at >= STRIDE {
                self.has_room()?;
                looked_at = kept;
            }
        }
        file.flush().await.map_err(failed)
    }

    /// Refuses an archive that would fill the disk.
    fn has_room(&self) -> Result<(), Refused> {
        let Ok(fs) = rustix::fs::fstatvfs(&self.file) else {
            return Ok(());
        };
        let kept_free = ROOM.min(fs.f_blocks.saturating_mul(fs.f_frsize) / ROOM_PART);
        match fs.f_bavail.saturating_mul(fs.f_frsize) < kept_free {
            true => Err(Refused::failed(format!(
                "cannot keep the archive: {} has less than {} MiB left; free some, or set TMPDIR of the server",
                std::env::temp_dir().display(),
                kept_free >> 20
            ))),
            false => Ok(()),
        }
    }
}

/// `GET /images/get` and `GET /images/{name}/get`.
pub(in crate::docker_api) async fn save(door: &Arc<Door>, names: Vec<String>) -> Result<Answer, Refused> {
    if names.is_empty() {
        return Err(Refused::bad("no image is named; give names"));
    }
    let stored = door.engine.stored_images(&door.life).await?;
    for name in &names {
        if stored.find(name).is_err() {
            return Err(Refused::missing(format!("No such image: {name}")));
        }
    }
    let (from, mut to) = tokio::io::duplex(PART);
    let (engine, life) = (door.engine.clone(), door.life.clone());
    let save = async move {
        let ctx: Context = life.child();
        // A client that leaves makes the write fail.
        let saved = engine.save(&ctx, &names, Format::Docker, &mut to).await;
        saved.inspect_err(|error| {
            tracing::warn!(error = %crate::chain(error), "an archive is not complete");
        })
    };
    let saved = door.tracker.spawn(save);
    // The end of the archive does not look like one if it comes too early.
    let outcome = stream::once(saved).filter_map(|saved| {
        let failed = match saved {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(io::Error::other(crate::chain(&error))),
            Err(lost) => Some(io::Error::other(lost)),
        };
        std::future::ready(failed.map(Err))
    });
    let parts = ReaderStream::with_capacity(from, PART).chain(outcome);
    Ok(Answer::stream(Some("application/x-tar"), parts))
}
