//! Output generated from the definition of the command line: completions for shells, and manual pages.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use super::args::Cli;
use super::args::shell::Shell;
use super::failure::Failure;

/// Prints the script that lets a shell complete fnctr's commands.
pub(super) fn completion(shell: Shell) -> Result<ExitCode, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fnctr", &mut text);
    print(&text)
}

/// Prints the manual page, or writes the pages of all commands into a directory.
pub(super) fn manual(dir: Option<&Path>) -> Result<ExitCode, Failure> {
    if let Some(dir) = dir {
        let written =
            std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
        return match written {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::usage(format!(
                "cannot write manual pages into --dir {}: {error}",
                dir.display()
            ))),
        };
    }
    let mut text = Vec::new();
    match clap_mangen::Man::new(Cli::command()).render(&mut text) {
        Ok(()) => print(&text),
        Err(error) => Err(Failure::host(&error)),
    }
}

/// Prints a text. A reader that closes the pipe early is no error.
fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    match io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::host(&error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
