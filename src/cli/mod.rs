//! The `fnctr` command: one file per group of commands, each a translation into driver calls and back.
//!
//! Standard output carries results and the function's own output, standard error everything else. `--json` makes the
//! result one JSON value per line. Exit codes: `run` gives the function's own, 124 after a timeout, 137 when memory ran
//! out, 125 when fnctr itself failed, 126 or 127 when the command cannot be executed or is not there; every other command gives 0 or 1, or 2 for a command line that cannot be read. A signal
//! that ended fnctr gives 128 and its number.

mod args;
mod bench;
mod config;
mod confirm;
mod connect;
mod containers;
mod docker;
mod doctor;
mod failure;
mod filter;
mod image_list;
mod images;
mod interrupt;
mod keys;
mod manual;
mod network;
mod output;
mod progress;
mod prune;
mod ps;
mod pull;
mod remedy;
mod run;
mod save;
mod standard;
mod stats;
mod stats_table;
mod stop;
mod template;

use std::ffi::OsString;
use std::process::ExitCode;

use self::args::containers::ContainerCommand;
use self::args::global::Global;
use self::args::images::ImageCommand;
use self::args::{Cli, Command};
use self::config::Unread;
use self::failure::Failure;
use self::interrupt::Interrupt;
use self::output::Print;

/// What `run` exits with when fnctr itself failed, as Docker does.
const OWN_FAILURE: u8 = 125;

/// A command line that was read.
#[derive(Debug)]
pub struct Ready(Cli);

/// Reads the command line of this process.
///
/// # Errors
/// The exit code: it cannot be read, or asks for help, and that was printed.
pub fn read() -> Result<Ready, ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    config::parse(&words)
        .map(Ready)
        .map_err(|unread| refuse(unread, &words))
}

impl Ready {
    /// Runs the command, inside a tokio runtime.
    pub async fn run(self) -> ExitCode {
        let Self(cli) = self;
        let runs = matches!(cli.command, Command::Run(_));
        let print = Print::new(cli.global.json);
        let (interrupt, listening) = Interrupt::listen();
        let done = dispatch(cli, &interrupt, &print).await;
        listening.end().await;
        match done {
            Ok(code) => code,
            Err(failure) => {
                print.failure(&failure);
                if interrupt.ctx().check().is_err() {
                    return ExitCode::from(interrupt.code());
                }
                ExitCode::from(if runs { failure.code_of_run() } else { 1 })
            }
        }
    }
}

/// A command line that cannot be read, or a wish for help. It is fnctr's own failure for `run`; nothing is parsed that
/// could tell for certain which command was meant, so the words themselves are looked at.
fn refuse(unread: Unread, words: &[OsString]) -> ExitCode {
    let asked = |word: &str| words.iter().any(|given| given == word);
    let print = Print::new(asked("--json"));
    match unread {
        Unread::Command(error) => {
            let error = config::explained(error, words);
            if !error.use_stderr() {
                // clap's own words, with its colours; nothing better can be done if they cannot be written.
                drop(error.print());
                return ExitCode::SUCCESS;
            }
            if print.is_json() {
                let text = error.to_string();
                let sentence = text.lines().next().unwrap_or_default();
                print.failure(&Failure::usage(sentence.trim_start_matches("error: ")));
            } else {
                drop(error.print());
            }
        }
        Unread::File(failure) => print.failure(&failure),
    }
    ExitCode::from(if asked("run") { OWN_FAILURE } else { 2 })
}

async fn dispatch(cli: Cli, interrupt: &Interrupt, print: &Print) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    let at = At {
        global: &global,
        interrupt,
    };
    match command {
        Command::Run(args) => run::run(at, *args, print).await,
        Command::Ps(args) => ps::ps(at, args, print).await,
        Command::Inspect { ids } => ps::inspect(at, &ids, print).await,
        Command::Stats { ids, once } => stats::stats(at, &ids, once, print).await,
        Command::Freeze(args) => containers::freeze(at, &args, print).await,
        Command::Thaw(args) => containers::thaw(at, &args, print).await,
        Command::Kill(args) => containers::kill(at, &args, print).await,
        Command::Stop(args) => stop::stop(at, &args, print).await,
        Command::Wait(args) => stop::wait(at, &args, print).await,
        Command::Rm(args) => containers::rm(at, &args, print).await,
        Command::Container { what } => match what {
            ContainerCommand::Ls(args) => ps::ps(at, args, print).await,
            ContainerCommand::Inspect { ids } => ps::inspect(at, &ids, print).await,
            ContainerCommand::Freeze(args) => containers::freeze(at, &args, print).await,
            ContainerCommand::Thaw(args) => containers::thaw(at, &args, print).await,
            ContainerCommand::Kill(args) => containers::kill(at, &args, print).await,
            ContainerCommand::Stop(args) => stop::stop(at, &args, print).await,
            ContainerCommand::Wait(args) => stop::wait(at, &args, print).await,
            ContainerCommand::Rm(args) => containers::rm(at, &args, print).await,
            ContainerCommand::Prune { force } => containers::prune(at, force, print).await,
        },
        Command::Prune => prune::prune(at, print).await,
        Command::Pull(args) => pull::pull(at, args, print).await,
        Command::Load { file, input } => images::load(at, input.as_ref().unwrap_or(&file), print).await,
        Command::Save {
            output,
            format,
            images,
        } => save::save(at, &output, format, &images, print).await,
        Command::Tag { source, name } => images::tag(at, &source, &name, print).await,
        Command::Rmi(args) => images::remove(at, &args, print).await,
        Command::Images(args) => image_list::list(at, args, print).await,
        Command::Image { what } => match what {
            ImageCommand::Ls(args) => image_list::list(at, args, print).await,
            ImageCommand::Inspect { images } => images::inspect(at, &images, print).await,
            ImageCommand::Rm(args) => images::remove(at, &args, print).await,
            ImageCommand::Prune { all, force } => images::prune(at, all, force, print).await,
        },
        Command::Network { what } => network::network(&global, what, print).await,
        Command::Doctor => doctor::doctor(&global, print).await,
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { dir } => manual::manual(dir.as_deref()),
        Command::Bench { what } => bench::bench(at, what, print).await,
    }
}

/// Where a command works: on which containerd, and until when.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    global: &'a Global,
    interrupt: &'a Interrupt,
}
