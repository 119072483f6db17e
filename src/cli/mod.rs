//! The `fnctr` command: one file per group of commands. Each file translates arguments into calls to the driver or the
//! engine, and their results into output.
//!
//! Standard output carries results and the function's own output; everything else goes to standard error. With
//! `--json`, each result and each failure is one JSON value on a line of standard output.
//!
//! Exit codes: `run` exits with the function's own code, with 124 after a timeout, 137 when memory ran out, 125 when
//! fnctr itself failed, 126 when the command cannot be executed, and 127 when the command does not exist; so does `exec`,
//! with the code of its process. Every other command exits with 0 or 1, or with 2 if the command line cannot be read. If a signal ended fnctr, the code is 128
//! plus the number of the signal.

mod args;
mod attach;
mod bench;
mod config;
mod confirm;
mod connect;
mod container_ref;
mod containers;
mod cp;
mod docker;
mod doctor;
mod events;
mod exec;
mod failure;
mod filter;
mod image_list;
mod images;
mod interrupt;
mod keys;
mod logs;
mod manual;
mod moment;
mod network;
mod output;
mod port;
mod progress;
mod prune;
mod ps;
mod pull;
mod reconcile;
mod remedy;
mod rename;
mod run;
mod save;
mod serve;
mod standard;
mod start;
mod stats;
mod stats_table;
mod stop;
mod template;
mod terminal;
mod top;
mod update;
mod volume;

use std::ffi::OsString;
use std::process::ExitCode;

use tracing::{Instrument as _, field};

use self::args::containers::ContainerCommand;
use self::args::global::Global;
use self::args::images::ImageCommand;
use self::args::{Cli, Command};
use self::config::Unread;
use self::failure::Failure;
use self::interrupt::Interrupt;
use self::output::Print;

/// The exit code of `run` when fnctr itself failed, as in Docker.
const OWN_FAILURE: u8 = 125;

/// A command line that has been read and can be run.
#[derive(Debug)]
pub struct Ready(Cli);

/// Reads the command line of this process.
///
/// # Errors
/// Returns the exit code if the command line cannot be read or asks for help. The error or the help has then been
/// printed.
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
        let runs = match &cli.command {
            Command::Run(_) | Command::Exec(_) => true,
            Command::Container { what } => matches!(what, ContainerCommand::Exec(_)),
            _ => false,
        };
        let print = Print::new(cli.global.json);
        let (interrupt, listening) = Interrupt::listen();
        let span = tracing::debug_span!(
            "command",
            otel.name = cli.name,
            outcome = field::Empty,
            otel.status_description = field::Empty
        );
        // Boxed: the future of a command would be nested deeper than the compiler follows.
        let done = Box::pin(dispatch(cli, &interrupt, &print));
        let done = done.instrument(span.clone()).await;
        span.record("outcome", done.as_ref().map_or_else(Failure::kind, |_| "ok"));
        if let Err(failure) = &done {
            span.record("otel.status_description", &failure.sentence);
        }
        listening.end().await;
        match done {
            Ok(code) => code,
            // The reader of the output has gone, which needs no message.
            Err(_) if interrupt.is_unread() => ExitCode::from(interrupt.code()),
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

/// Prints the error of a command line that cannot be read, or the help that it asks for, and returns the exit code.
///
/// The code depends on whether the command is `run`. Nothing was parsed that shows this for certain, so the words
/// themselves are searched.
fn refuse(unread: Unread, words: &[OsString]) -> ExitCode {
    let asked = |word: &str| words.iter().any(|given| given == word);
    let print = Print::new(asked("--json"));
    let unread = match unread {
        Unread::Command(error) => config::explained(error, words),
        explained => explained,
    };
    match unread {
        Unread::Command(error) => {
            if !error.use_stderr() {
                // Print clap's own text, with its colours. If printing fails, there is no other way to report that.
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
        Unread::Explained(failure) => print.failure(&failure),
    }
    ExitCode::from(if asked("run") { OWN_FAILURE } else { 2 })
}

async fn dispatch(cli: Cli, interrupt: &Interrupt, print: &Print) -> Result<ExitCode, Failure> {
    let Cli { global, command, .. } = cli;
    let invocation = Invocation {
        global: &global,
        interrupt,
    };
    match command {
        Command::Run(args) => run::run(invocation, *args, print).await,
        Command::Create(args) => run::create(invocation, *args, print).await,
        Command::Ps(args) => ps::ps(invocation, args, print).await,
        Command::Inspect { ids } => ps::inspect(invocation, &ids, print).await,
        Command::Stats { ids, once } => stats::stats(invocation, &ids, once, print).await,
        Command::Freeze(args) => containers::freeze(invocation, &args, print).await,
        Command::Thaw(args) => containers::thaw(invocation, &args, print).await,
        Command::Kill(args) => containers::kill(invocation, &args, print).await,
        Command::Start(args) => start::start(invocation, &args, print).await,
        Command::Attach(args) => attach::attach(invocation, &args, print).await,
        Command::Logs(args) => logs::logs(invocation, &args).await,
        Command::Top(args) => top::top(invocation, &args, print).await,
        Command::Port(args) => port::port(invocation, &args, print).await,
        Command::Rename(args) => rename::rename(invocation, &args, print).await,
        Command::Cp(args) => cp::cp(invocation, &args, print).await,
        Command::Update(args) => update::update(invocation, &args, print).await,
        Command::Exec(args) => exec::exec(invocation, &args, print).await,
        Command::Events(args) => events::events(invocation, &args, print).await,
        Command::Reconcile { dry_run } => reconcile::reconcile(invocation, dry_run, print).await,
        Command::Serve(args) => serve::serve(invocation, &args, print).await,
        Command::Stop(args) => stop::stop(invocation, &args, print).await,
        Command::Restart(args) => start::restart(invocation, &args, print).await,
        Command::Wait(args) => stop::wait(invocation, &args, print).await,
        Command::Rm(args) => containers::rm(invocation, &args, print).await,
        Command::Container { what } => match what {
            ContainerCommand::Ls(args) => ps::ps(invocation, args, print).await,
            ContainerCommand::Inspect { ids } => ps::inspect(invocation, &ids, print).await,
            ContainerCommand::Freeze(args) => containers::freeze(invocation, &args, print).await,
            ContainerCommand::Thaw(args) => containers::thaw(invocation, &args, print).await,
            ContainerCommand::Kill(args) => containers::kill(invocation, &args, print).await,
            ContainerCommand::Start(args) => start::start(invocation, &args, print).await,
            ContainerCommand::Attach(args) => attach::attach(invocation, &args, print).await,
            ContainerCommand::Logs(args) => logs::logs(invocation, &args).await,
            ContainerCommand::Top(args) => top::top(invocation, &args, print).await,
            ContainerCommand::Port(args) => port::port(invocation, &args, print).await,
            ContainerCommand::Rename(args) => rename::rename(invocation, &args, print).await,
            ContainerCommand::Cp(args) => cp::cp(invocation, &args, print).await,
            ContainerCommand::Update(args) => update::update(invocation, &args, print).await,
            ContainerCommand::Exec(args) => exec::exec(invocation, &args, print).await,
            ContainerCommand::Stop(args) => stop::stop(invocation, &args, print).await,
            ContainerCommand::Restart(args) => start::restart(invocation, &args, print).await,
            ContainerCommand::Wait(args) => stop::wait(invocation, &args, print).await,
            ContainerCommand::Rm(args) => containers::rm(invocation, &args, print).await,
            ContainerCommand::Prune { force } => containers::prune(invocation, force, print).await,
        },
        Command::Prune => prune::prune(invocation, print).await,
        Command::Pull(args) => pull::pull(invocation, args, print).await,
        Command::Load { file, input } => {
            images::load(invocation, input.as_ref().unwrap_or(&file), print).await
        }
        Command::Save {
            output,
            format,
            images,
        } => save::save(invocation, &output, format, &images, print).await,
        Command::Tag { source, name } => images::tag(invocation, &source, &name, print).await,
        Command::Rmi(args) => images::remove(invocation, &args, print).await,
        Command::Images(args) => image_list::list(invocation, args, print).await,
        Command::Image { what } => match what {
            ImageCommand::Ls(args) => image_list::list(invocation, args, print).await,
            ImageCommand::Inspect { images } => images::inspect(invocation, &images, print).await,
            ImageCommand::Rm(args) => images::remove(invocation, &args, print).await,
            ImageCommand::Prune { all, force } => images::prune(invocation, all, force, print).await,
        },
        Command::Network { what } => network::network(&global, what, print).await,
        Command::Volume { what } => volume::volume(invocation, what, print).await,
        Command::Doctor => doctor::doctor(&global, print).await,
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { dir } => manual::manual(dir.as_deref()),
        Command::Bench { what } => bench::bench(invocation, what, print).await,
    }
}

/// The context of a command: the options that choose its containerd, and what can interrupt the command.
#[derive(Debug, Clone, Copy)]
struct Invocation<'a> {
    global: &'a Global,
    interrupt: &'a Interrupt,
}
