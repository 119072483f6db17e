//! `run -it`, `exec -it` and `attach` at a terminal of the test's own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use rustix::termios::{LocalModes, tcgetattr, tcsetwinsize};
use tokio::time::Instant;

use crate::cli::fnctr;
use crate::habits::{ok, refused};
use crate::patience::patient;
use crate::world::Stage;

/// A command whose terminal the test has.
struct Session {
    child: Child,
    /// The test's end.
    keys: File,
    /// What the terminal shows.
    screen: Receiver<Vec<u8>>,
    shown: String,
    slave: OwnedFd,
}

impl Session {
    fn start(stage: &Stage, args: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 33,
            ws_col: 101,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).expect("a terminal");
        let end = || pair.slave.try_clone().expect("its end");
        let fnctr = fnctr(stage, args);
        // With a terminal that signals it, as a shell gives one to each of its commands.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(fnctr.get_program())
            .args(fnctr.get_args())
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = command.spawn().expect("to start");
        let keys = File::from(pair.master);
        let mut screen_end = keys.try_clone().expect("the screen");
        let (tx, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen_end.read(&mut buffer) {
                if tx.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            screen,
            shown: String::new(),
            slave: pair.slave,
        }
    }

    fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("to type");
    }

    /// Waits until the terminal shows `text` after what was seen before.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let until = Instant::now() + patient(Duration::from_secs(30));
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(more) => self.shown.push_str(&String::from_utf8_lossy(&more)),
                Err(error) => panic!("{error}, and no {text:?}: {:?}", self.shown),
            }
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keys, size).expect("to resize");
    }

    /// Waits for its end. The terminal must then be as it was before.
    fn end(mut self) -> ExitStatus {
        let status = self.child.wait().expect("its end");
        let modes = tcgetattr(&self.slave).expect("its settings").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        status
    }
}

/// A shell that shows when it is ready.
const SHELL: [&str; 3] = ["env", "PS1=>>", "sh"];

#[tokio::test(flavor = "multi_thread")]
async fn a_person_types_at_containers_resizes_them_and_leaves_them() {
    let Some(stage) = Stage::set("terminals").await else {
        return;
    };
    let args = ["run", "-it", "--name", "t1", "busybox"];
    let mut run = Session::start(&stage, &[&args[..], &SHELL].concat());
    // Not shown by this terminal, as it is raw, but by the container's.
    run.type_in("stty size; tty\n");
    run.sees("33 101\r\n");
    run.sees("/dev/pts/0\r\n");
    run.resize(44, 111);
    run.type_in("until stty size | grep -w 44; do sleep 0.05; done\n");
    run.sees("44 111\r\n");
    // Said by the program that the keys are for, not by the shell before it has made it: until then, the keys are the shell's.
    run.type_in("sh -c 'echo ready; exec sleep 1000'\n");
    // Typed, and said.
    run.sees("ready; exec");
    run.sees("ready\r\n");
    run.type_in("\x03");
    run.sees("^C");
    run.sees(">>");

    let mut exec = Session::start(&stage, &[&["exec", "-it", "t1"][..], &SHELL].concat());
    exec.type_in("stty size; tty; test -t 2 && echo all\n");
    exec.sees("33 101\r\n");
    exec.sees("/dev/pts/");
    exec.sees("all\r\n");
    exec.type_in("exit 6\n");
    assert_eq!(exec.end().code(), Some(6));
    run.type_in("exit 5\n");
    assert_eq!(run.end().code(), Some(5));

    // Without this process's input, the terminal is the program's alone.
    assert_eq!(
        ok(&stage, &["run", "-t", "busybox", "sh", "-c", "tty; echo x >&2"]),
        "/dev/pts/0\r\nx\r\n"
    );
    let no_terminal = "needs a terminal on standard input";
    refused(&stage, &["run", "-it", "busybox", "sh"], 125, no_terminal);
    refused(&stage, &["exec", "-it", "t1", "sh"], 125, no_terminal);

    // One that is kept: started at a terminal, left by the keys, found again.
    ok(
        &stage,
        &[&["create", "-t", "--name", "t2", "busybox"][..], &SHELL].concat(),
    );
    let mut first = Session::start(&stage, &["start", "-ai", "t2"]);
    first.type_in("A=5; stty size\n");
    first.sees("33 101\r\n");
    let mut second = Session::start(&stage, &["attach", "t2"]);
    second.resize(20, 90);
    second.type_in("echo $((A+1))\n");
    second.sees("6\r\n");
    first.sees("6\r\n");
    second.type_in("\x10\x11");
    second.sees("detached from t2");
    assert_eq!(second.end().code(), Some(0));
    first.type_in("echo $((A+2)); exit 7\n");
    first.sees("7\r\n");
    assert_eq!(first.end().code(), Some(7));
    ok(&stage, &["rm", "t2"]);
    stage.strike().await;
}
