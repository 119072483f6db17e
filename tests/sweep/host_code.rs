//! A host whose own code panics, blocks or never ends: it loses that call, and nothing stays.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{
    Auther, BackOffConfig, ContainerTask, Cookie, Credentials, Driver, Error, ErrorKind, Hooks, Input,
    Output, RunError, StandardStream, Status, async_trait,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rig::{LONG, Rig, forever, greeting};
use crate::ways::Way;

/// An image that is not here, in a registry that does not answer.
const AWAY: &str = "127.0.0.1:1/no/body:1";

/// What broken code does.
#[derive(Debug)]
enum Does {
    Panic,
    /// Blocks its thread until the other end is dropped.
    Block(Mutex<mpsc::Receiver<()>>),
    /// Of asynchronous code: is never ready.
    Hang,
}

impl Does {
    /// Something that blocks, and what lets it go on.
    fn block() -> (Self, mpsc::Sender<()>) {
        let (release, held) = mpsc::channel();
        (Self::Block(Mutex::new(held)), release)
    }

    fn now(&self) {
        match self {
            Self::Panic => panic!("boom"),
            Self::Block(held) => assert!(held.lock().unwrap().recv().is_err()),
            Self::Hang => panic!("only asynchronous code can hang"),
        }
    }
}

/// A task of which one method is broken.
#[derive(Debug)]
struct Host {
    image: &'static str,
    broken: &'static str,
    does: Arc<Does>,
    hooks: Hooks,
}

impl Host {
    fn new(image: &'static str, broken: &'static str, does: Does) -> Self {
        Self {
            image,
            broken,
            does: Arc::new(does),
            hooks: Hooks::default(),
        }
    }

    fn at(&self, method: &str) {
        if self.broken == method {
            self.does.now();
        }
    }
}

#[async_trait]
impl ContainerTask for Host {
    fn id(&self) -> &str {
        "c1"
    }

    fn image(&self) -> &str {
        self.image
    }

    fn memory(&self) -> u64 {
        self.at("ContainerTask");
        0
    }

    fn cpus(&self) -> u64 {
        0
    }

    fn pids(&self) -> u64 {
        0
    }

    fn input(&self) -> Input {
        self.at("ContainerTask::input");
        Input::Null
    }

    fn logger(&self) -> (Output, Output) {
        self.at("ContainerTask::logger");
        (Output::Null, Output::Null)
    }

    fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    fn disable_net(&self) -> bool {
        true
    }

    fn auther(&self) -> Option<Arc<dyn Auther>> {
        self.at("ContainerTask::auther");
        Some(Arc::new(Secrets {
            broken: self.broken == "Auther::credentials",
            does: Arc::clone(&self.does),
        }))
    }

    fn close(&self) {
        self.at("ContainerTask::close");
    }
}

#[derive(Debug)]
struct Secrets {
    broken: bool,
    does: Arc<Does>,
}

#[async_trait]
impl Auther for Secrets {
    async fn credentials(&self, _: &Context, _: &str) -> Result<Option<Credentials>, Error> {
        match *self.does {
            _ if !self.broken => {}
            Does::Hang => std::future::pending().await,
            _ => self.does.now(),
        }
        Ok(None)
    }
}

async fn cookie(rig: &Rig, host: Host) -> Box<dyn Cookie> {
    let ctx = Context::timeout(LONG);
    rig.driver.create_cookie(&ctx, Arc::new(host)).await.unwrap()
}

/// Takes a cookie as far as to the step that calls the broken code, and that step.
async fn reach(cookie: &dyn Cookie, ctx: &Context) -> Result<(), Error> {
    if cookie.validate_image(&Context::timeout(LONG)).await? {
        return cookie.pull_image(ctx).await;
    }
    cookie.create_container(ctx).await
}

#[tokio::test]
async fn a_method_of_the_host_that_panics_is_named_and_what_was_made_by_then_is_undone() {
    let rig = Rig::warm().await;
    for (broken, image) in [
        ("ContainerTask::logger", "fake"),
        ("ContainerTask::input", "fake"),
        ("ContainerTask::auther", AWAY),
        ("Auther::credentials", AWAY),
    ] {
        let cookie = cookie(&rig, Host::new(image, broken, Does::Panic)).await;
        let error = reach(cookie.as_ref(), &Context::timeout(LONG)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{broken}: {error:?}");
        let says = format!("{broken} of the host panicked: boom");
        assert!(error.report().ends_with(&says), "{broken}: {error:?}");
        assert!(!error.is_user_error(), "{broken}: the function is not to blame");
        rig.assert_clean(broken).await;
        cookie.close(&Context::new()).await.unwrap();
        // The name is free again.
        rig.live_well("c1").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_host_that_panics_while_its_task_is_read_or_cleaned_up_is_told_so() {
    let rig = Rig::warm().await;
    let read = Host::new("fake", "ContainerTask", Does::Panic);
    let made = rig.driver.create_cookie(&Context::new(), Arc::new(read)).await;
    let error = made.map(drop).unwrap_err();
    assert_eq!(error.report(), "ContainerTask of the host panicked: boom");

    rig.fake.script_of("c1", forever());
    let cookie = cookie(&rig, Host::new("fake", "ContainerTask::close", Does::Panic)).await;
    reach(cookie.as_ref(), &Context::new()).await.unwrap();
    cookie.run(&Context::new()).await.unwrap();
    let error = cookie.close(&Context::new()).await.unwrap_err();
    assert_eq!(error.report(), "ContainerTask::close of the host panicked: boom");
    rig.assert_clean("a close whose last word was a panic").await;
    rig.end().await;
}

#[tokio::test]
async fn host_code_that_never_ends_costs_its_caller_the_deadline_and_nobody_more() {
    let rig = Rig::warm().await;
    let mut held = Vec::new();
    let mut block = || {
        let (does, release) = Does::block();
        held.push(release);
        does
    };
    let cases = [
        ("Auther::credentials", AWAY, Does::Hang),
        ("Auther::credentials", AWAY, block()),
        ("ContainerTask::auther", AWAY, block()),
        ("ContainerTask::logger", "fake", block()),
        ("ContainerTask::input", "fake", block()),
    ];
    for (broken, image, does) in cases {
        let cookie = cookie(&rig, Host::new(image, broken, does)).await;
        let short = Context::timeout(Duration::from_millis(100));
        let error = tokio::time::timeout(LONG, reach(cookie.as_ref(), &short)).await;
        let error = error.expect("the step to end").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{broken}: {error:?}");
        let says = format!("{broken} of the host did not return in time: deadline exceeded");
        assert!(error.report().ends_with(&says), "{broken}: {error:?}");
        let closed = tokio::time::timeout(LONG, cookie.close(&Context::new())).await;
        closed.expect("the close to end").unwrap();
        rig.assert_clean(broken).await;
    }
    // Also without a deadline: the close is what ends the step.
    let cookie = cookie(&rig, Host::new(AWAY, "Auther::credentials", Does::Hang)).await;
    let forever = Context::new();
    let (pulled, closed) = tokio::join!(reach(cookie.as_ref(), &forever), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::timeout(LONG, cookie.close(&Context::new())).await
    });
    assert_eq!(pulled.unwrap_err().kind(), ErrorKind::Cancelled);
    closed.expect("the close to end").unwrap();
    rig.end().await;
    drop(held);
}

#[tokio::test]
async fn a_host_whose_cleaning_up_never_ends_is_given_the_grace_of_a_close() {
    let rig = Rig::warm().await;
    let (does, release) = Does::block();
    let cookie = cookie(&rig, Host::new("fake", "ContainerTask::close", does)).await;
    reach(cookie.as_ref(), &Context::new()).await.unwrap();
    let closed = tokio::time::timeout(LONG, cookie.close(&Context::new())).await;
    let error = closed.expect("the close to end").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(
        error.report().starts_with("ContainerTask::close of the host"),
        "{error:?}"
    );
    rig.assert_clean("a close whose host never ends").await;
    drop(release);
    rig.end().await;
}

#[tokio::test]
async fn a_checker_that_panics_or_blocks_ends_the_tries_of_a_pull_and_not_the_driver() {
    let rig = Rig::start().await;
    let patient = BackOffConfig {
        max_retries: 5,
        interval: 10,
        max_delay: 10,
        min_delay: 1,
    };
    let (blocks, release) = Does::block();
    for does in [Does::Panic, blocks] {
        let checker = move |_: &Error| -> Option<String> {
            does.now();
            None
        };
        let set = rig.driver.set_pull_image_retry_policy(patient, Arc::new(checker));
        set.unwrap();
        let cookie = cookie(&rig, Host::new(AWAY, "nothing", Does::Panic)).await;
        let pulled = tokio::time::timeout(LONG, reach(cookie.as_ref(), &Context::new())).await;
        let error = pulled.expect("the pull to end").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        cookie.close(&Context::new()).await.unwrap();
    }
    drop(release);
    rig.end().await;
}

/// A stream that panics or fails whenever it is asked.
struct Stream(Option<HostsOwn>);

/// An error of the host's own.
#[derive(Debug, PartialEq)]
struct HostsOwn(u32);

impl std::fmt::Display for HostsOwn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the host's error {}", self.0)
    }
}

impl std::error::Error for HostsOwn {}

impl Stream {
    fn ask<T>(&mut self) -> Poll<io::Result<T>> {
        match self.0.take() {
            Some(error) => Poll::Ready(Err(io::Error::other(error))),
            None => panic!("boom"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Poller<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ask()
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Poller<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.ask()
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        self.ask()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        self.ask()
    }
}

#[tokio::test]
async fn a_reader_or_writer_that_panics_or_fails_ends_the_run_with_its_own_error() {
    let rig = Rig::warm().await;
    rig.fake.script(greeting());
    for (stream, error) in [
        (StandardStream::Input, None),
        (StandardStream::Input, Some(7)),
        (StandardStream::Output, None),
        (StandardStream::Output, Some(8)),
    ] {
        let broken = Stream(error.map(HostsOwn));
        let mut task = fnctr::driver::Task {
            id: "c1".into(),
            image: "fake".into(),
            disable_net: true,
            ..fnctr::driver::Task::default()
        };
        if stream == StandardStream::Input {
            task.input = Input::from_reader(broken).into();
        } else {
            task.stdout = Output::to_writer(broken).into();
        }
        let ctx = Context::timeout(LONG);
        let cookie = rig.driver.create_cookie(&ctx, Arc::new(task)).await.unwrap();
        let result = crate::rig::run_through(cookie.as_ref(), &ctx).await.unwrap();
        // The function has seen the end of its input, and ended by itself.
        assert_eq!(
            (result.status(), result.exit_code()),
            (Status::Error, Some(0)),
            "{result:?}"
        );
        let Some(RunError::Streams(failed)) = result.error() else {
            panic!("{result:?}")
        };
        assert_eq!(failed.stream(), Some(stream));
        let inner = failed.io_error().get_ref().unwrap();
        match error {
            Some(number) => assert_eq!(inner.downcast_ref(), Some(&HostsOwn(number))),
            None => {
                let says = format!("the {stream} of the host panicked: boom");
                assert_eq!(inner.to_string(), says);
            }
        }
        cookie.close(&ctx).await.unwrap();
        rig.assert_clean("a run with a broken stream").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn options_can_be_changed_while_an_image_is_pulled_and_not_while_the_container_is_made() {
    let rig = Rig::warm().await;
    let change = |cookie: &dyn Cookie| {
        cookie.change_options(|options: &mut fnctr::ContainerOptions| options.init = false)
    };
    let pulling = cookie(&rig, Host::new(AWAY, "Auther::credentials", Does::Hang)).await;
    let ctx = Context::new();
    let changing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let changed = change(pulling.as_ref());
        ctx.cancel();
        changed
    };
    let (pulled, changed) = tokio::join!(reach(pulling.as_ref(), &ctx), changing);
    assert_eq!(pulled.unwrap_err().kind(), ErrorKind::Cancelled);
    changed.unwrap();
    let options: fnctr::ContainerOptions = pulling.options().unwrap();
    assert!(!options.init);
    pulling.close(&Context::new()).await.unwrap();

    let (does, release) = Does::block();
    let creating = cookie(&rig, Host::new("fake", "ContainerTask::logger", does)).await;
    let ctx = Context::new();
    let changing = async {
        while rig.fake.world().snapshots.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let changed = change(creating.as_ref());
        ctx.cancel();
        changed
    };
    let (created, changed) = tokio::join!(reach(creating.as_ref(), &ctx), changing);
    assert_eq!(created.unwrap_err().kind(), ErrorKind::Cancelled);
    let error = changed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfOrder);
    assert!(error.report().ends_with("it is being created"), "{error:?}");
    creating.close(&Context::new()).await.unwrap();
    drop(release);
    rig.end().await;
}

#[tokio::test]
async fn steps_under_way_when_the_driver_is_closed_are_undone_and_say_why() {
    let rig = Rig::warm().await;
    let (creating, _) = rig.cookie("c1").await;
    let ctx = Context::timeout(LONG);
    creating.validate_image(&ctx).await.unwrap();
    let arrived = Context::new();
    rig.fake
        .faults()
        .break_call("Tasks/Create", 1, Way::Cancel.how(&arrived));
    let pulling = cookie(&rig, Host::new(AWAY, "Auther::credentials", Does::Hang)).await;
    let (created, pulled, closed) = tokio::join!(
        creating.create_container(&ctx),
        reach(pulling.as_ref(), &ctx),
        async {
            arrived.done().await;
            rig.driver.close(&Context::timeout(LONG)).await
        }
    );
    closed.unwrap();
    for step in [created, pulled] {
        let error = step.unwrap_err();
        assert_eq!(error.report(), "the driver is closed", "{error:?}");
    }
    rig.assert_clean("steps that the driver's close has interrupted")
        .await;
    rig.end().await;
}
