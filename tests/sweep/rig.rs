//! A driver on a fake containerd, a life to live on it, and a look at what is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Captured, Config, Cookie, Driver, Error, Input, Output, RunResult, Status, Task};
use fnctr::{ContainerdDriver, Context, Namespace, NetworkSettings, Settings};
use tokio::sync::{RwLock, RwLockReadGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fake_containerd::{FakeContainerd, FakeImage, Script, Step};

/// The containerd namespace of all these tests; each has a containerd of its own.
pub(crate) const NS: &str = "sweep";
/// The label by which hosts know containers of their kind.
pub(crate) const TAG: &str = "agents";
/// How long an undo may take here. A call that hangs costs half of what is left of it, and the second that is waited
/// for what a server unwinds.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// What the function of [`greeting`] says when it is given [`INPUT`].
pub(crate) const SAID: &str = "hello in";
const INPUT: &str = "in";
/// Far above what anything here takes unless it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Held for reading by every test, and for writing by one that counts what belongs to the whole process.
pub(crate) static ALONE: RwLock<()> = RwLock::const_new(());

/// A driver with a containerd of its own.
pub(crate) struct Rig {
    pub(crate) fake: FakeContainerd,
    pub(crate) run: tempfile::TempDir,
    pub(crate) driver: ContainerdDriver,
    _turn: Option<RwLockReadGuard<'static, ()>>,
}

/// How a life went.
pub(crate) struct Life {
    pub(crate) ran: Result<RunResult, Error>,
    pub(crate) closed: Result<(), Error>,
    pub(crate) said: String,
}

impl Rig {
    /// One that knows nothing yet of its image.
    pub(crate) async fn start() -> Self {
        let turn = ALONE.read().await;
        Self {
            _turn: Some(turn),
            ..Self::beside_nobody().await
        }
    }

    /// One for a test that holds [`ALONE`] for writing.
    pub(crate) async fn beside_nobody() -> Self {
        let fake = FakeContainerd::start().await;
        fake.install(NS, &FakeImage::default());
        fake.script(greeting());
        let run = tempfile::tempdir().unwrap();
        let driver = connect(&fake, run.path(), "one").await;
        Self {
            fake,
            run,
            driver,
            _turn: None,
        }
    }

    /// One whose driver has run the image before, and whose log is empty.
    pub(crate) async fn warm() -> Self {
        let rig = Self::start().await;
        rig.live_well("warm").await;
        rig.fake.faults().reset();
        rig
    }

    /// How often the driver has done something once more, by why.
    pub(crate) fn retries(&self, reason: &str) -> usize {
        let line = format!("fnctr_retries_total{{reason=\"{reason}\"}} ");
        let text = self.driver.metrics();
        let count = text.lines().find_map(|found| found.strip_prefix(&line));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Another driver on the same containerd, as a host has after a restart.
    pub(crate) async fn another(&self, instance: &str) -> ContainerdDriver {
        connect(&self.fake, self.run.path(), instance).await
    }

    /// A whole life under one context.
    pub(crate) async fn live(&self, ctx: &Context, id: &str) -> Life {
        let (cookie, said) = self.cookie(id).await;
        let ran = run_through(cookie.as_ref(), ctx).await;
        let closed = cookie.close(ctx).await;
        Life {
            ran,
            closed,
            said: said.text(),
        }
    }

    /// A life in which nothing goes wrong.
    pub(crate) async fn live_well(&self, id: &str) {
        let life = self.live(&Context::timeout(LONG), id).await;
        assert_eq!(life.ran.unwrap().status(), Status::Success);
        assert_eq!(life.said, SAID);
        life.closed.unwrap();
        self.assert_clean("a life in which nothing went wrong").await;
    }

    /// A cookie of a task with all three streams, and what it will have said.
    pub(crate) async fn cookie(&self, id: &str) -> (Box<dyn Cookie>, Captured) {
        cookie(&self.driver, id).await
    }

    /// A cookie whose container was created.
    pub(crate) async fn created(&self, id: &str) -> Box<dyn Cookie> {
        let (cookie, _) = self.cookie(id).await;
        let ctx = Context::timeout(LONG);
        assert!(!cookie.validate_image(&ctx).await.unwrap());
        cookie.create_container(&ctx).await.unwrap();
        cookie
    }

    /// Waits until what a container sends beside its create and start has arrived, so that the log stays as it is.
    pub(crate) async fn settled(&self) {
        eventually("what is sent beside the start", || {
            let calls = self.fake.calls();
            ["Tasks/Wait", "Tasks/CloseIO"]
                .iter()
                .all(|beside| calls.iter().any(|call| call == beside))
        })
        .await;
    }

    /// Nothing is left: no record, task, snapshot, lease or ingest, no fifo, and no open end of one.
    pub(crate) async fn assert_clean(&self, after: &str) {
        let world = self.fake.world();
        assert!(world.is_empty(), "{after} left {world:?}");
        let files = files(self.run.path());
        assert!(files.is_empty(), "{after} left {files:?}");
        // A pump that was told to end drops its end of the fifo when it is next polled.
        let run = self.run.path();
        eventually(&format!("{after} left descriptors open"), || {
            descriptors(run).is_empty()
        })
        .await;
    }

    /// Waits until nothing is left.
    pub(crate) async fn until_clean(&self, after: &str) {
        // The last to go is the record, and after it the note that it was to be removed.
        let run = self.run.path();
        eventually(after, || self.fake.world().is_empty() && files(run).is_empty()).await;
        self.assert_clean(after).await;
    }

    /// Ends the driver within a bound, and the fake after it.
    pub(crate) async fn end(self) {
        self.driver
            .close(&Context::timeout(LONG))
            .await
            .expect("the driver's background work ends");
        self.fake.close().await;
    }
}

/// The cookie of a task with all three streams, on any driver.
pub(crate) async fn cookie(driver: &ContainerdDriver, id: &str) -> (Box<dyn Cookie>, Captured) {
    let (stdout, said) = Output::capture(1 << 16);
    let (stderr, _) = Output::capture(1 << 16);
    let task = Task {
        id: id.into(),
        image: "fake".into(),
        input: Input::from_bytes(INPUT).into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
        disable_net: true,
        ..Task::default()
    };
    let cookie = driver.create_cookie(&Context::new(), Arc::new(task)).await;
    (cookie.unwrap(), said)
}

/// From the image to the result.
pub(crate) async fn run_through(cookie: &dyn Cookie, ctx: &Context) -> Result<RunResult, Error> {
    assert!(!cookie.validate_image(ctx).await?, "the image is there");
    cookie.create_container(ctx).await?;
    Ok(cookie.run(ctx).await?.wait(ctx).await)
}

/// Says hello, and then what it is told, until the end of its input.
pub(crate) fn greeting() -> Script {
    Script::steps([Step::Out(b"hello ".to_vec()), Step::Echo])
}

/// Runs until it is killed.
pub(crate) fn forever() -> Script {
    Script::steps([Step::Forever])
}

/// Where the driver of `instance` works.
pub(crate) fn config(fake: &FakeContainerd, run: &Path, instance: &str) -> (Config, Settings) {
    let config = Config {
        docker: fake.socket().display().to_string(),
        container_label_tag: TAG.into(),
        instance_id: instance.into(),
        ..Config::default()
    };
    let settings = Settings {
        namespace: Some(Namespace::new(NS).unwrap()),
        run_dir: run.into(),
        data_dir: run.join("data"),
        close_grace: GRACE,
        // The host's own are none of a test's: what is there would be undone at the start.
        networks: NetworkSettings {
            config_dirs: vec![run.join("net.d")],
            state_dir: run.join("sandboxes"),
            address_dir: run.join("addresses"),
            ..NetworkSettings::default()
        },
        ..Settings::default()
    };
    (config, settings)
}

async fn connect(fake: &FakeContainerd, run: &Path, instance: &str) -> ContainerdDriver {
    let (config, settings) = config(fake, run, instance);
    let driver = ContainerdDriver::connect(&Context::timeout(LONG), config, settings)
        .await
        .unwrap();
    // Its look for what others left is over, so its calls are not counted among those of a test.
    driver.recovered(&Context::timeout(LONG)).await.unwrap();
    driver
}

/// Runs cases that mostly wait side by side, a few at a time.
pub(crate) async fn side_by_side<C>(cases: impl IntoIterator<Item = C>)
where
    C: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(8));
    let mut running = JoinSet::new();
    for case in cases {
        let room = Arc::clone(&room);
        running.spawn(async move {
            let _turn = room.acquire().await.unwrap();
            case.await;
        });
    }
    while let Some(done) = running.join_next().await {
        done.expect("every case holds");
    }
}

/// Waits for something that happens beside the test.
pub(crate) async fn eventually(what: &str, happened: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !happened() {
        assert!(Instant::now() < until, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Files below the run directory; the directory of the containerd namespace stays.
fn files(run: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries(run)
        .chain(entries(&run.join(NS)))
        .map(|entry| entry.path())
        .collect();
    // The log of events, and the file whose bytes are the locks of removals, stay on purpose.
    let stays = |path: &PathBuf| path.ends_with(".events") || path.ends_with(".removals");
    found.retain(|path| *path != run.join(NS) && !stays(path));
    found
}

/// This process's open files that lie below `dir`, removed ones too.
fn descriptors(dir: &Path) -> Vec<PathBuf> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter(|target| target.starts_with(dir) && !target.ends_with(".events/events.log"))
        .collect()
}
