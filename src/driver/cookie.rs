//! The life of one container, from the check of its image to the removal of its last trace.

use std::any::{Any, type_name};
use std::fmt;

use async_trait::async_trait;

use super::{Error, ErrorKind, RunResult};
use crate::Context;

/// A claim on one container.
///
/// Calls go in the order of [`Step`](super::Step): validate, pull if asked to and validate again, create, run, then
/// freeze and unfreeze at will, wait, close. Anything else is an error of kind [`ErrorKind::OutOfOrder`], never a
/// panic. All methods take `&self`, because hosts freeze, wait and close from different tasks.
///
/// Close every cookie, whatever happened before. An `Err` means that the driver could not do its job; a function that
/// failed is a [`RunResult`].
///
/// # Cancellation
/// Every future here may be dropped: the driver finishes or undoes the step on a task of its own.
#[async_trait]
pub trait Cookie: fmt::Debug + Send + Sync {
    /// Looks for the image. Returns `true` if the image must be pulled.
    async fn validate_image(&self, ctx: &Context) -> Result<bool, Error>;

    /// Pulls the image, which must then be validated again. Retries follow the driver's retry policy.
    async fn pull_image(&self, ctx: &Context) -> Result<(), Error>;

    /// Creates the container, to be run later. An error leaves nothing behind.
    async fn create_container(&self, ctx: &Context) -> Result<(), Error>;

    /// Starts the container. The driver watches `ctx` for as long as the function runs: once `ctx` is interrupted, a
    /// wait for a function that has not failed by itself ends as [`Timeout`](super::Status::Timeout) or
    /// [`Cancelled`](super::Status::Cancelled).
    async fn run(&self, ctx: &Context) -> Result<Box<dyn WaitResult>, Error>;

    /// Pauses every process of the container, and returns when all are stopped. Freezing a frozen container succeeds.
    /// After an error the container runs and can still be used.
    async fn freeze(&self, ctx: &Context) -> Result<(), Error>;

    /// Lets the processes of the container continue. Unfreezing a running container succeeds.
    async fn unfreeze(&self, ctx: &Context) -> Result<(), Error>;

    /// Ends the container if it runs, frozen or not, leaves nothing behind, and then has the task
    /// [clean up](super::ContainerTask::close). May be called in every phase, repeatedly, and after the driver was
    /// closed.
    async fn close(&self, ctx: &Context) -> Result<(), Error>;

    /// A copy of the driver's own options of the container, as built so far, in a type that the driver documents.
    /// [`options`](trait.Cookie.html#method.options) is the typed form.
    fn container_options(&self) -> Box<dyn Any + Send>;

    /// Lets `change` edit the driver's own options in place.
    /// [`change_options`](trait.Cookie.html#method.change_options) is the typed form.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::OutOfOrder`] once the container was created.
    fn change_container_options(&self, change: &mut dyn FnMut(&mut dyn Any)) -> Result<(), Error>;
}

impl dyn Cookie + '_ {
    /// A copy of the driver's own options, if they are of this type.
    #[must_use]
    pub fn options<T: 'static>(&self) -> Option<T> {
        self.container_options().downcast().ok().map(|options| *options)
    }

    /// Edits the driver's own options, which can be changed until the container is created.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::OutOfOrder`] once the container was created, [`ErrorKind::InvalidTask`] if this driver's
    /// options have another type.
    pub fn change_options<T: 'static, R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let (mut change, mut result) = (Some(change), None);
        self.change_container_options(&mut |options| {
            if let Some(options) = options.downcast_mut() {
                result = change.take().map(|change| change(options));
            }
        })?;
        result.ok_or_else(|| {
            let text = format!(
                "the options of this driver's containers are not {}",
                type_name::<T>()
            );
            Error::new(ErrorKind::InvalidTask, text)
        })
    }
}

/// A container that was started, and whose end can be awaited.
#[async_trait]
pub trait WaitResult: fmt::Debug + Send + Sync {
    /// Waits for the end of the function, of `ctx`, or of the context that was passed to [`Cookie::run`]; see
    /// [`outcome`](super::outcome()) for the result. If the function has exited, all its output has been delivered
    /// before this returns. May be called any number of times; the exit is always the same.
    ///
    /// # Cancellation
    /// Safe to drop.
    async fn wait(&self, ctx: &Context) -> RunResult;
}
