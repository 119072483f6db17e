//! Accepts connections until it is told to end, and then lets the requests that change something come to their end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::default_log::DefaultLog;
use super::door::Door;
use super::limits::Limits;
use super::{connection, containers};
use crate::Context;
use crate::engine::{Engine, Server};

/// The pause after a connection could not be accepted, such as when too many files are open.
const RETRY: Duration = Duration::from_millis(100);

/// Docker's Engine API on one socket.
#[derive(Debug)]
pub(crate) struct DockerApi {
    door: Arc<Door>,
    socket: Option<PathBuf>,
    limits: Limits,
}

impl DockerApi {
    /// The API for the containers of this server. `log` is the logging driver of containers whose makers name none.
    pub(crate) fn new(engine: Engine, server: Arc<Server>, limits: Limits, log: DefaultLog) -> Self {
        Self {
            door: Arc::new(Door::new(engine, server, log)),
            socket: None,
            limits,
        }
    }

    /// Removes this socket at the end.
    pub(crate) fn removing(mut self, socket: &Path) -> Self {
        self.socket = Some(socket.to_owned());
        self
    }

    /// Serves until `ctx` is cancelled. Streams end then; requests that change something have `grace` to come to their
    /// end. All containers stay as they are.
    pub(crate) async fn serve(self, ctx: &Context, listener: UnixListener, grace: Duration) {
        containers::remove_ended(&self.door);
        containers::start_again(&self.door);
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let tracker = self.door.tracker.clone();
        let accept = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection; trying again");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                };
                let (door, life, limits) = (Arc::clone(&self.door), self.door.life.clone(), self.limits);
                let serve = async move {
                    connection::serve(stream, door, limits, life).await;
                    drop(place);
                };
                tracker.spawn(serve.in_current_span());
            }
        };
        // The only way out is the caller's.
        let _ = ctx.run(accept).await;
        drop(listener);
        if let Some(socket) = &self.socket {
            drop(std::fs::remove_file(socket));
        }
        self.door.life.cancel();
        tracker.close();
        if Context::timeout(grace).run(tracker.wait()).await.is_err() {
            tracing::warn!(
                requests = tracker.len(),
                "requests have not ended in time and are cut off"
            );
        }
    }
}
