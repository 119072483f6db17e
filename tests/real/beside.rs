//! A command that runs beside the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::cli::fnctr;
use crate::patience::patient;
use crate::world::Stage;

/// A command that runs beside the test.
pub(crate) struct Beside {
    pub(crate) child: Child,
    pub(crate) lines: Receiver<String>,
}

impl Beside {
    pub(crate) fn start(stage: &Stage, args: &[&str]) -> Self {
        Self::of(fnctr(stage, args))
    }

    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = piped(&mut command);
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| tx.send(line))
        });
        Self { child, lines }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        writeln!(stdin, "{line}").expect("to write to it");
    }

    #[track_caller]
    pub(crate) fn hear(&self) -> String {
        let wait = patient(Duration::from_secs(30));
        self.lines.recv_timeout(wait).expect("a line")
    }

    pub(crate) fn signal(&self, number: Signal) {
        signal(&self.child, number);
    }

    /// Stops it, and returns when none of its threads runs any more: the signal is one thread's to act on, and the others
    /// go on until that one has been scheduled.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        self.is_stopped();
    }

    /// Returns when it is stopped, which it may do by itself.
    #[track_caller]
    pub(crate) fn is_stopped(&self) {
        let until = Instant::now() + patient(Duration::from_secs(30));
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.expect("a thread").path().join("stat"));
            // Its name may contain anything but is the last in parentheses (proc_pid_stat(5)).
            stat.is_ok_and(|stat| {
                stat.rsplit_once(") ")
                    .is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        };
        while !std::fs::read_dir(&tasks).expect("its threads").all(is_stopped) {
            assert!(Instant::now() < until, "it is not stopped");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns when it follows the log of events, which shows in its descriptors (inotify(7)).
    #[track_caller]
    pub(crate) fn follows_events(&self) {
        let until = Instant::now() + patient(Duration::from_secs(30));
        let open = format!("/proc/{}/fd", self.child.id());
        let follows = || {
            let descriptors = std::fs::read_dir(&open).into_iter().flatten().flatten();
            let mut targets = descriptors.filter_map(|fd| std::fs::read_link(fd.path()).ok());
            targets.any(|target| target.ends_with("anon_inode:inotify"))
        };
        while !follows() {
            assert!(Instant::now() < until, "it does not follow the events");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends its input, and returns its exit code, the lines that it still says, and its errors.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>, String) {
        drop(self.child.stdin.take());
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().expect("its errors");
        stderr.read_to_string(&mut err).expect("its errors");
        let code = self.child.wait().expect("its end").code();
        (code, self.lines.iter().collect(), err)
    }
}

impl Drop for Beside {
    /// Kills it, if a failed test has not ended it: a server would live on.
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

pub(crate) fn spawn(stage: &Stage, args: &[&str]) -> Child {
    piped(&mut fnctr(stage, args))
}

fn piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("to run fnctr")
}

pub(crate) fn signal(child: &Child, number: Signal) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, number).expect("to signal it");
}
