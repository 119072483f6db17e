//! Freeze, thaw, kill and close of one container, racing each other: every call is answered, every answer is one that the
//! contract knows, the end is told to whoever waits for it, and nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fnctr::Context;
use fnctr::driver::{Cookie, Driver as _, Error, ErrorKind, Status, Task};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::patient;
use crate::resources::{Outside, seen, skipped};
use crate::world::{Stage, ctx, started};

/// Containers at once; each is raced by six tasks.
const AT_ONCE: u64 = 4;

/// How many containers are raced: enough to meet each order within a minute. `FNCTR_TEST_ROUNDS=1000` looks longer, and an
/// emulated machine is given fewer.
fn rounds() -> u64 {
    match std::env::var("FNCTR_TEST_ROUNDS") {
        Ok(text) => text.parse().expect("FNCTR_TEST_ROUNDS is a number"),
        Err(_) => 200,
    }
}

/// Small numbers that are as good as random, from a seed that is printed when a round fails.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    async fn moment(&mut self, most: Duration) {
        let most = u64::try_from(most.as_micros()).expect("a short time");
        let pause = Duration::from_micros(self.below(most));
        tokio::time::sleep(pause).await;
    }
}

#[derive(Debug, Default)]
struct Tally {
    frozen: AtomicU64,
    thawed: AtomicU64,
    refused: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn freeze_thaw_kill_and_close_race_and_each_is_answered() {
    let Some(stage) = Stage::set("freeze_thaw_kill_and_close_race").await else {
        return;
    };
    let stage = Arc::new(stage);
    let (rounds, tally) = (rounds(), Arc::new(Tally::default()));
    let next = Arc::new(AtomicU64::new(0));
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (stage, tally, next) = (Arc::clone(&stage), Arc::clone(&tally), Arc::clone(&next));
        racers.spawn(async move {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= rounds {
                    return;
                }
                let round = race(Arc::clone(&stage), seed, Arc::clone(&tally));
                let within = ctx().remaining().expect("a deadline");
                if tokio::time::timeout(within, round).await.is_err() {
                    panic!("round {seed} hangs");
                }
            }
        });
    }
    while let Some(racer) = racers.join_next().await {
        racer.expect("every round to end well");
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    seen(&format!(
        "{rounds} containers raced: {} freezes and {} thaws done, {} refused because the container had ended",
        count(&tally.frozen),
        count(&tally.thawed),
        count(&tally.refused),
    ));
    assert!(count(&tally.frozen) > rounds / 2, "{tally:?}");
    let stage = Arc::into_inner(stage).expect("every racer to be done");
    stage.strike().await;
}

/// One container and everybody who wants something of it.
async fn race(stage: Arc<Stage>, seed: u64, tally: Arc<Tally>) {
    let mut dice = Dice(seed);
    let task = stage.task("/bin/sleep 1000");
    let id = task.id.clone();
    let cookie: Arc<dyn Cookie> = stage
        .driver
        .create_cookie(&ctx(), Arc::new(task))
        .await
        .expect("a cookie")
        .into();
    assert!(!cookie.validate_image(&ctx()).await.expect("an image"));
    cookie.create_container(&ctx()).await.expect("a container");
    let wait = cookie.run(&ctx()).await.expect("a start");
    let killed = dice.below(2) == 0;
    let pid = killed.then(|| Outside::find(stage.real.namespace(), &id).pid());
    let mut all = tokio::task::JoinSet::new();
    for turn in 0..4 {
        let (cookie, tally, mut dice) = (Arc::clone(&cookie), Arc::clone(&tally), Dice(seed * 31 + turn));
        all.spawn(async move {
            for _ in 0..8 {
                dice.moment(Duration::from_micros(400)).await;
                let (done, answer) = if turn % 2 == 0 {
                    (&tally.frozen, cookie.freeze(&ctx()).await)
                } else {
                    (&tally.thawed, cookie.unfreeze(&ctx()).await)
                };
                match answer {
                    Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        assert!(ended(&error), "round {seed}: {error:?}");
                        tally.refused.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
        });
    }
    let mut pause = dice.clone();
    all.spawn(async move {
        if let Some(pid) = pid {
            pause.moment(patient(Duration::from_millis(12))).await;
            // From outside, as the kernel's own killer or an operator would.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    });
    let closer = Arc::clone(&cookie);
    all.spawn(async move {
        dice.moment(patient(Duration::from_millis(16))).await;
        closer.close(&ctx()).await.expect("to close");
    });
    let result = wait.wait(&ctx()).await;
    assert_ne!(result.status(), Status::Success, "round {seed}: {result:?}");
    while let Some(one) = all.join_next().await {
        one.expect("nobody to panic");
    }
    cookie.close(&ctx()).await.expect("to close again");
}

/// Whether an answer says that there is nothing left to freeze.
fn ended(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::OutOfOrder)
}

/// A write to a file system that is frozen itself (fsfreeze(8)) waits in uninterruptible sleep, which no signal and no
/// freezer reaches.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_of_an_uninterruptible_sleeper_is_taken_back() {
    const NAME: &str = "a freeze of a container in uninterruptible sleep";
    let Some(stage) = Stage::set("a_freeze_of_an_uninterruptible_sleeper").await else {
        return;
    };
    let loop_mount = match LoopMount::make(stage.real.dir()) {
        Ok(mount) => mount,
        Err(why) => {
            skipped(NAME, &why);
            return stage.strike().await;
        }
    };
    let (output, said) = fnctr::driver::Output::capture(1 << 10);
    let task = Task {
        volumes: vec![(loop_mount.dir.clone(), "/data".to_owned())],
        stdout: output.into(),
        ..stage.task("")
    };
    let id = task.id.clone();
    let script = "n=0; while :; do n=$((n+1)); echo $n >/data/x; echo $n; sleep 0.02; done";
    let (cookie, wait) = started(&stage.driver, task, script).await;
    let outside = Outside::find(stage.real.namespace(), &id);
    if !outside.freezes_apart_from_v1() {
        loop_mount.remove();
        cookie.close(&ctx()).await.expect("to close");
        drop(wait.wait(&ctx()).await);
        // The v1 freezer counts some of these sleepers as frozen already.
        skipped(NAME, "there is no v2 tree to freeze in");
        return stage.strike().await;
    }
    let steps = || said.text().lines().count();
    let until_beyond = async |count: usize| {
        let patience = ctx();
        while steps() <= count {
            assert!(patience.check().is_ok(), "no progress after {count} steps");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until_beyond(2).await;

    loop_mount.freeze();
    outside.until_somebody_sleeps_uninterruptibly().await;
    let short = Context::timeout(Duration::from_millis(300));
    let error = cookie
        .freeze(&short)
        .await
        .expect_err("no freeze without this process");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(outside.freeze_request(), "0", "the freeze is taken back");
    let told = told(&error);
    loop_mount.thaw();

    let so_far = steps();
    until_beyond(so_far + 1).await;
    cookie.freeze(&ctx()).await.expect("to freeze");
    cookie.unfreeze(&ctx()).await.expect("to thaw");
    let so_far = steps();
    until_beyond(so_far + 1).await;
    seen(&format!(
        "{NAME}: taken back after its deadline, and the container works on; {told:?}"
    ));
    cookie.close(&ctx()).await.expect("to close");
    drop(wait.wait(&ctx()).await);
    loop_mount.remove();
    stage.strike().await;
}

/// An error with its causes, as a person reads it.
fn told(error: &Error) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// A file system of its own that can be frozen.
struct LoopMount {
    image: std::path::PathBuf,
    dir: std::path::PathBuf,
}

impl LoopMount {
    fn make(under: &std::path::Path) -> Result<Self, String> {
        let (image, dir) = (under.join("sleepy.img"), under.join("sleepy"));
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(16 << 20).expect("its size");
        std::fs::create_dir(&dir).expect("a directory");
        let made = Self { image, dir };
        let ready = run("mkfs.ext4", &["-q", "-F", &made.image.display().to_string()]).and_then(|()| {
            let (image, dir) = (made.image.display().to_string(), made.dir.display().to_string());
            run("mount", &["-t", "ext4", "-o", "loop", &image, &dir])
        });
        if let Err(why) = ready {
            drop(std::fs::remove_file(&made.image));
            drop(std::fs::remove_dir(&made.dir));
            return Err(why);
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&made.dir, open).expect("a mode");
        Ok(made)
    }

    fn freeze(&self) {
        run("fsfreeze", &["--freeze", &self.dir.display().to_string()]).expect("to freeze the file system");
    }

    fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", &self.dir.display().to_string()]).expect("to thaw the file system");
    }

    fn remove(&self) {
        run("umount", &[&self.dir.display().to_string()]).expect("to unmount");
        std::fs::remove_file(&self.image).expect("to remove the image");
        std::fs::remove_dir(&self.dir).expect("to remove the directory");
    }
}

impl Drop for LoopMount {
    /// A test that failed leaves no process asleep for ever.
    fn drop(&mut self) {
        if self.dir.exists() {
            drop(run("fsfreeze", &["--unfreeze", &self.dir.display().to_string()]));
            drop(run("umount", &["-l", &self.dir.display().to_string()]));
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = std::process::Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} ended with {}: {}", output.status, said.trim()))
}
