//! Pulls for the command line, which shows their progress.

use tokio::sync::watch;

use super::ContainerdDriver;
use super::pull::{begin, failed, own};
use crate::Context;
use crate::driver::{Credentials, Error, ErrorKind};
use crate::engine::{Platform, Progress, Pulling};
use crate::image::{Image, Reference, Request};

/// A pull that the command line requests.
#[derive(Debug)]
pub(crate) struct ImageToPull<'a> {
    pub(crate) image: &'a str,
    pub(crate) platform: Option<Platform>,
    /// Credentials that take precedence over the configured ones.
    pub(crate) login: Option<Credentials>,
}

/// A pull under way. If it is dropped, the command line no longer needs the image.
#[derive(Debug)]
pub(crate) struct Pull {
    pulling: Pulling,
    image: String,
}

impl Pull {
    /// The progress of the pull.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.pulling.progress()
    }

    /// Waits for the end of the pull.
    pub(crate) async fn done(&self, ctx: &Context) -> Result<Image, Error> {
        let done = self.pulling.done(ctx).await;
        done.map_err(|why| failed(&self.image, why))
    }
}

impl ContainerdDriver {
    /// Begins a pull for the command line, or joins one.
    pub(crate) fn pull(&self, wanted: ImageToPull<'_>) -> Result<Pull, Error> {
        let reference =
            Reference::parse(wanted.image).map_err(|why| Error::new(ErrorKind::InvalidTask, why))?;
        let familiar = reference.familiar();
        let request = Request {
            reference,
            platform: wanted.platform,
            credential: wanted.login.map(own),
        };
        Ok(Pull {
            pulling: begin(&self.0, request),
            image: familiar,
        })
    }
}
