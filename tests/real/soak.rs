//! Lives of every kind beside faults of every kind, for as long as `FNCTR_SOAK_SECONDS` says: afterwards nothing is left,
//! nothing has grown, and everything works.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fnctr::ContainerdDriver;
use fnctr::driver::{Driver as _, Task};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::beside::Beside;
use crate::cli::fnctr;
use crate::habits::ok;
use crate::patience::patient;
use crate::real::{shims, takes_long};
use crate::world::Stage;

/// How long it takes within the suite.
const SHORT: Duration = Duration::from_secs(20);
/// The pause between two faults.
const BETWEEN: Duration = Duration::from_millis(1500);
/// How much memory may be more at the end than after the first tenth, in bytes: what an allocator keeps.
const MORE: u64 = 48 << 20;

/// Numbers that look random, and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn seeded() -> Self {
        let given = std::env::var("FNCTR_SOAK_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fnctr::driver::dice() >> 1);
        eprintln!("soak: FNCTR_SOAK_SEED={seed} repeats the order of the faults");
        Self(seed)
    }

    /// A number below `sides`: xorshift64* (Vigna, 2016).
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 |= 1;
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What has happened, by kind, and how often it succeeded.
type Counts = BTreeMap<&'static str, (u64, u64)>;

fn count(counts: &mut Counts, kind: &'static str, succeeded: bool) {
    let (all, good) = counts.entry(kind).or_default();
    *all += 1;
    *good += u64::from(succeeded);
}

/// The command, as a worker runs it while the stage belongs to the faults.
#[derive(Clone)]
struct Cli(Arc<Command>);

impl Cli {
    fn of(stage: &Stage) -> Self {
        Self(Arc::new(fnctr(stage, &[])))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.get_program());
        command.args(self.0.get_args()).args(args);
        command.stdin(std::process::Stdio::null());
        command
    }

    /// Runs it, and returns whether it succeeded. One that fails says why, in words.
    fn run(&self, args: &[&str]) -> bool {
        let done = self.command(args).output().expect("to run fnctr");
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(!err.contains("panicked"), "{args:?}: {err}");
        assert!(
            done.status.success() || !err.trim().is_empty() || done.status.code() == Some(7),
            "{args:?}: fails without a word: {done:?}"
        );
        done.status.success()
    }

    /// A container that is kept, from its creation to its removal.
    fn keep(&self, id: &str) -> bool {
        let script = "echo $HOSTNAME; sleep 0.3; exit 0";
        let steps: [&[&str]; 6] = [
            &["create", "--name", id, "busybox", "sh", "-c", script],
            &["start", id],
            &["wait", id],
            &["restart", "-t", "0", id],
            &["stop", "-t", "0", id],
            &["rm", "-f", id],
        ];
        let mut all = true;
        for step in steps {
            all &= self.run(step);
            if step[0] == "start" {
                // On a busy host it has ended before.
                self.run(&["freeze", id]);
                self.run(&["thaw", id]);
            }
        }
        // What a fault has left is removed by its name.
        while !all && !self.run(&["rm", "-f", id]) {
            let there = self.command(&["ps", "-aq"]).output().expect("to run fnctr");
            let names = String::from_utf8_lossy(&there.stdout).into_owned();
            if there.status.success() && !names.lines().any(|name| name == id) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        all
    }

    /// A `run` that is killed at some moment.
    fn kill_a_run(&self, after: Duration) -> bool {
        let mut command = self.command(&["run", "busybox", "sh", "-c", "sleep 0.2"]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("to run fnctr");
        std::thread::sleep(after);
        // It may have ended.
        drop(child.kill());
        child.wait().is_ok()
    }
}

/// How many lives follow the last fault, if none has come to its end before.
const LAST: u32 = 20;

/// Lives of functions through the library, until the end. Some fail while containerd is away.
async fn functions(driver: ContainerdDriver, over: Arc<AtomicBool>, worker: u32) -> (u64, u64) {
    let (mut all, mut good, mut more) = (0, 0, LAST);
    while !over.load(Ordering::Acquire) || (good == 0 && more > 0) {
        more -= u32::from(over.load(Ordering::Acquire));
        let task = Task {
            id: format!("fn-{worker}-{all}"),
            image: "busybox".to_owned(),
            command: "/bin/true".to_owned(),
            disable_net: true,
            ..Task::default()
        };
        all += 1;
        let ctx = fnctr::Context::timeout(Duration::from_secs(60));
        let cookie = driver
            .create_cookie(&ctx, Arc::new(task))
            .await
            .expect("a cookie");
        let lived = async {
            cookie.validate_image(&ctx).await?;
            cookie.create_container(&ctx).await?;
            let running = cookie.run(&ctx).await?;
            drop(cookie.freeze(&ctx).await);
            drop(cookie.unfreeze(&ctx).await);
            drop(running.wait(&ctx).await);
            Ok::<_, fnctr::driver::Error>(())
        };
        let lived = lived.await.is_ok();
        while let Err(error) = cookie.close(&ctx).await {
            assert!(ctx.check().is_ok(), "cannot close: {error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        good += u64::from(lived);
    }
    (all, good)
}

/// This process's descriptors, and its memory in bytes.
fn held() -> (usize, u64) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    (descriptors, kilobytes.expect("its memory") << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_of_every_kind_beside_every_fault_leave_nothing() {
    let asked = std::env::var("FNCTR_SOAK_SECONDS").ok();
    let long = asked.map_or(SHORT, |seconds| {
        Duration::from_secs(seconds.parse().expect("seconds"))
    });
    let Some(mut stage) = Stage::set("lives_of_every_kind").await else {
        return;
    };
    takes_long("lives_of_every_kind", "it is as long as it is told to be");
    let (over, cli, mut dice) = (Arc::new(AtomicBool::new(false)), Cli::of(&stage), Dice::seeded());
    let tracker = tokio_util::task::TaskTracker::new();
    let lives: Vec<_> = (0..2)
        .map(|worker| tracker.spawn(functions(stage.driver.clone(), Arc::clone(&over), worker)))
        .collect();
    let (kept, ended) = (cli.clone(), Arc::clone(&over));
    let kept = std::thread::spawn(move || {
        let (mut counts, mut more) = ((0, 0), LAST);
        // A busy host has time for two of them, and each may have met a fault.
        while !ended.load(Ordering::Acquire) || (counts.1 == 0 && more > 0) {
            more -= u32::from(ended.load(Ordering::Acquire));
            counts.0 += 1;
            counts.1 += u64::from(kept.keep(&format!("kept-{}", counts.0)));
        }
        counts
    });
    let (killed, ended) = (cli.clone(), Arc::clone(&over));
    let killed = std::thread::spawn(move || {
        let mut count = 0;
        while !ended.load(Ordering::Acquire) {
            count += 1;
            killed.kill_a_run(Duration::from_millis(7 * count % 400));
            // What they leave stays until somebody asks for its removal.
            if count % 20 == 0 {
                killed.run(&["prune"]);
            }
        }
        count
    });
    let mut faults = Counts::new();
    let mut server = Beside::start(&stage, &["serve"]);
    server.hear();
    let (end, mut first) = (Instant::now() + long, None);
    let warm = Instant::now() + long / 10;
    while Instant::now() < end {
        tokio::time::sleep(BETWEEN).await;
        if first.is_none() && Instant::now() > warm {
            first = Some(held());
        }
        match dice.roll(4) {
            0 => {
                stage.real.crash();
                tokio::time::sleep(Duration::from_millis(dice.roll(1000))).await;
                stage.real.restart();
                count(&mut faults, "containerd killed", true);
            }
            1 => {
                let pid = Pid::from_raw(stage.real.pid().cast_signed());
                kill(pid, Signal::SIGSTOP).expect("to stop containerd");
                tokio::time::sleep(Duration::from_millis(dice.roll(1500))).await;
                kill(pid, Signal::SIGCONT).expect("to let it go on");
                count(&mut faults, "containerd stopped", true);
            }
            2 => {
                let all = shims(&stage.real.address());
                let one = usize::try_from(dice.roll(1 << 20)).unwrap_or(0);
                if let Some(shim) = all.get(one % all.len().max(1)) {
                    // It may have ended.
                    let _ = kill(Pid::from_raw(shim.pid), Signal::SIGKILL);
                    count(&mut faults, "shim killed", true);
                }
            }
            _ => {
                server.signal(Signal::SIGKILL);
                server.end();
                server = Beside::start(&stage, &["serve"]);
                server.hear();
                count(&mut faults, "server killed", true);
            }
        }
    }
    over.store(true, Ordering::Release);
    let mut counts = Counts::new();
    for lives in lives {
        let (all, good) = lives.await.expect("a worker");
        let (before, succeeded) = counts.entry("functions").or_default();
        (*before, *succeeded) = (*before + all, *succeeded + good);
    }
    counts.insert("kept containers", kept.join().expect("a worker"));
    let runs = killed.join().expect("a worker");
    counts.insert("killed runs", (runs, runs));
    eprintln!("soak: {long:?}: lives {counts:?}, faults {faults:?}");
    let (before, after) = (first.expect("a first look"), held());
    eprintln!("soak: descriptors and memory {before:?} -> {after:?}");
    for (kind, (all, good)) in &counts {
        assert!(*good > 0, "of {all} {kind} none succeeded");
    }
    // What was killed half-way is removed by those that come later.
    let until = Instant::now() + patient(Duration::from_secs(60));
    while !ok(&stage, &["reconcile"]).is_empty() || !ok(&stage, &["ps", "-aq"]).is_empty() {
        assert!(Instant::now() < until, "{}", ok(&stage, &["ps", "-a"]));
        ok(&stage, &["rm", "-f", "--all"]);
    }
    let lived = stage.life(stage.task("/bin/true"), None).await.expect("a life");
    assert_eq!(lived.status(), fnctr::driver::Status::Success);
    assert!(after.1 < before.1 + MORE, "memory grows: {before:?} {after:?}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().0, Some(0));
    remove_what_is_old(&stage);
    // What the driver could not remove while containerd was away is removed by the driver's next look, or the next driver.
    let next = stage.another(|_| {}).await.expect("another driver");
    next.close(&crate::world::ctx()).await.expect("to close it");
    stage.strike().await;
}

/// Lets the product remove what a containerd leaves that is killed while it removes the directory of a task, and what a
/// runtime leaves that is killed with its shim. It is dated back, because what is young may be in use.
fn remove_what_is_old(stage: &Stage) {
    let bundles = stage.real.dir().join("state/io.containerd.runtime.v2.task");
    let dirs = [bundles, "/run/containerd/runc".into()];
    let entries = dirs
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir.join(stage.real.namespace())));
    let an_hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for entry in entries.flatten().flatten() {
        let left = std::fs::File::open(entry.path()).expect("a directory");
        left.set_modified(an_hour_ago).expect("to date it back");
        eprintln!("soak: left behind is {:?}", entry.path());
    }
    // A shim shows where they are.
    ok(stage, &["run", "-d", "--name", "last", "busybox", "sleep", "600"]);
    ok(stage, &["reconcile"]);
    ok(stage, &["rm", "-f", "last"]);
}
