//! `/etc/fnctr/config.toml`: sets the options that every command has, under their own names, once for the whole host.
//! The command line takes precedence over the environment, and both take precedence over the file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use toml::Value;

use super::args::Cli;
use super::docker;
use super::failure::Failure;

/// The reason why a command line could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The parser's error. A request for help is one too.
    Command(clap::Error),
    /// A sentence that is better than the parser's, or is about what the parser does not know: the configuration file, or
    /// `--address` and `--embedded` together.
    Explained(Failure),
}

impl From<clap::Error> for Unread {
    fn from(error: clap::Error) -> Self {
        Self::Command(error)
    }
}

/// Reads a command line, and the configuration file that it names.
pub(super) fn parse(words: &[OsString]) -> Result<Cli, Unread> {
    let command = without_empty_variables(Cli::command());
    let matches = command
        .clone()
        .try_get_matches_from(words)
        .map_err(|error| plainly(error, words))?;
    let name = name(&command, &matches);
    let with_name = |cli| Cli { name, ..cli };
    let file = matches.get_one::<std::path::PathBuf>("config");
    let named = matches.value_source("config") != Some(ValueSource::DefaultValue);
    let file = file.filter(|file| !file.as_os_str().is_empty());
    let settings = file.map_or(Ok(Vec::new()), |file| read(file, named, &command));
    let settings = settings.map_err(|why| Unread::Explained(Failure::usage(why)))?;
    if settings.is_empty() {
        return of(&matches, &[]).map(with_name);
    }
    let in_file: Vec<_> = settings.iter().map(|(name, _)| name.clone()).collect();
    let command = settings.into_iter().fold(command, |command, (name, values)| {
        command.mut_arg(name, |arg| arg.default_values(values))
    });
    of(&command.try_get_matches_from(words)?, &in_file).map(with_name)
}

fn of(matches: &ArgMatches, in_file: &[String]) -> Result<Cli, Unread> {
    let mut cli = Cli::from_arg_matches(matches)?;
    choose(&mut cli, matches, in_file)?;
    Ok(cli)
}

/// The name of the command, as in `image ls`, whichever of its names was typed.
fn name(command: &clap::Command, matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    let (mut command, mut matches) = (command, matches);
    // To the parser the image of a `run` is a command, too, but one that is not known.
    while let Some((name, inner)) = matches.subcommand()
        && let Some(known) = command.find_subcommand(name)
    {
        names.push(name);
        (command, matches) = (known, inner);
    }
    names.join(" ")
}

/// Chooses between `--address` and `--embedded`, which exclude each other. The one from the source with the higher
/// precedence wins.
fn choose(cli: &mut Cli, matches: &ArgMatches, in_file: &[String]) -> Result<(), Unread> {
    /// The source of an option, in ascending order of precedence.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Source {
        Nowhere,
        InFile,
        InEnvironment,
        Here,
    }
    let source = |name: &str| match matches.value_source(name) {
        Some(ValueSource::CommandLine) => Source::Here,
        Some(ValueSource::EnvVariable) => Source::InEnvironment,
        _ if in_file.iter().any(|set| set == name) => Source::InFile,
        _ => Source::Nowhere,
    };
    let has_address = cli
        .global
        .address
        .as_ref()
        .is_some_and(|address| !address.is_empty());
    if !cli.global.embedded || !has_address {
        return Ok(());
    }
    let (address, embedded) = (source("address"), source("embedded"));
    if address > embedded {
        cli.global.embedded = false;
    } else if address == embedded && address != Source::InEnvironment {
        // If both are in the environment, --embedded wins: CONTAINERD_ADDRESS may be set for other programs.
        let why = "--address and --embedded name two containerds: leave one of them out";
        return Err(Unread::Explained(Failure::usage(why)));
    }
    Ok(())
}

/// Returns the error that the command line causes without environment variables, because the parser's errors do not
/// distinguish variables from arguments.
fn plainly(error: clap::Error, words: &[OsString]) -> clap::Error {
    if !error.use_stderr() {
        return error;
    }
    let bare = Cli::command().mut_args(|arg| arg.env(Resettable::Reset));
    bare.try_get_matches_from(words).err().unwrap_or(error)
}

/// Makes empty environment variables count as unset, as is usual in shells.
fn without_empty_variables(command: Command) -> Command {
    let empty = |arg: &Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    let names: Vec<_> = command
        .get_arguments()
        .filter(|arg| empty(arg))
        .map(|arg| arg.get_id().clone())
        .collect();
    names.into_iter().fold(command, |command, name| {
        // No variable has an empty name, so the option is read from none.
        command.mut_arg(name, |arg| arg.env(""))
    })
}

/// Returns the options that the file sets, by their names in the parser, with their values. The file may be missing
/// unless the user `named` it.
fn read(file: &Path, named: bool, command: &Command) -> Result<Vec<(String, Vec<String>)>, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read --config {}: {error}", file.display())),
    };
    settings(&text, command).map_err(|why| format!("the configuration file {}: {why}", file.display()))
}

/// Like [`read`], but from the text of the file. Pure.
fn settings(text: &str, command: &Command) -> Result<Vec<(String, Vec<String>)>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    let mut settings = Vec::new();
    for (key, value) in table {
        let arg = option(command, &key).ok_or_else(|| {
            let known: Vec<_> = options(command).filter_map(Arg::get_long).collect();
            format!("there is no {key:?}; there are {}", known.join(", "))
        })?;
        let values = values(arg, &value).ok_or_else(|| {
            let wanted = match arg.get_action() {
                ArgAction::SetTrue => "true or false",
                ArgAction::Append => "a list of texts",
                _ => "a text",
            };
            format!(
                "{key:?} must be {wanted}, and is of the type {}",
                value.type_str()
            )
        })?;
        settings.push((arg.get_id().to_string(), values));
    }
    Ok(settings)
}

/// The options that every command has, except the one that names the file.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_option = |arg: &&Arg| arg.is_global_set() && arg.get_id() != "config";
    command.get_arguments().filter(is_option)
}

fn option<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    options(command).find(|arg| arg.get_long() == Some(key))
}

fn values(arg: &Arg, value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(set)) => Some(vec![set.to_string()]),
        (ArgAction::Append, Value::Array(values)) => values.iter().map(text).collect(),
        (ArgAction::SetTrue | ArgAction::Append, _) => None,
        (_, value) => Some(vec![text(value)?]),
    }
}

/// Improves the parser's error where possible: names the argument that is not UTF-8, and explains commands and options
/// of docker that fnctr lacks. Removes a suggestion that the parser would not accept either.
pub(super) fn explained(mut error: clap::Error, words: &[OsString]) -> Unread {
    let broken = words.iter().find(|word| word.to_str().is_none());
    let why = match (error.kind(), broken) {
        (ErrorKind::InvalidUtf8, Some(word)) => Some(format!(
            "{word:?} is not UTF-8, which is all that a container's configuration can hold"
        )),
        (ErrorKind::InvalidSubcommand, _) => {
            named(&error, ContextKind::InvalidSubcommand).and_then(docker::command)
        }
        (ErrorKind::UnknownArgument, _) if is_run(words) => {
            named(&error, ContextKind::InvalidArg).and_then(docker::option)
        }
        _ => None,
    };
    if let Some(why) = why {
        return Unread::Explained(Failure::usage(why));
    }
    if error.kind() == ErrorKind::UnknownArgument {
        error.remove(ContextKind::Suggested);
    }
    Unread::Command(error)
}

fn named(error: &clap::Error, what: ContextKind) -> Option<&str> {
    match error.get(what)? {
        // Without the value that may follow, as in `--restart=always`.
        ContextValue::String(word) => word.split(['=', ' ']).next(),
        _ => None,
    }
}

fn is_run(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "run")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        settings(text, &Cli::command())
    }

    #[test]
    fn options_have_their_own_names() {
        let settings = read("embedded = true\nroot = \"/srv/fn\"\nplain-http = [\"a\", \"b:1\"]\n");
        let expected = [
            ("embedded", vec!["true"]),
            ("root", vec!["/srv/fn"]),
            ("plain_http", vec!["a", "b:1"]),
        ];
        let expected =
            expected.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
        assert_eq!(settings.unwrap(), expected);
        assert_eq!(read("# nothing\n").unwrap(), []);
    }

    /// What is shown commented out is what one may write.
    #[test]
    fn the_example_is_a_file_as_it_is_and_with_every_option_set() {
        let example = include_str!("../../packaging/config.toml");
        assert_eq!(read(example).unwrap(), []);
        let options = example.lines().filter_map(|line| line.strip_prefix("# "));
        let options: Vec<_> = options.filter(|line| line.contains(" = ")).collect();
        assert_eq!(read(&options.join("\n")).unwrap().len(), options.len());
        assert!(options.len() > 2, "{options:?}");
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_the_alternatives() {
        for (text, said) in [
            ("rot = \"/x\"", "there is no \"rot\"; there are"),
            ("config = \"/x\"", "there is no \"config\""),
            ("detach = true", "there is no \"detach\""),
            ("embedded = \"yes\"", "\"embedded\" must be true or false"),
            ("root = 1", "\"root\" must be a text, and is of the type integer"),
            ("plain-http = \"a\"", "must be a list of texts"),
            ("a = 1\nb = \n", "line 2: "),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "root = \"/file\"\nembedded = true\nnamespace = \"n1\"\n").unwrap();
        let words = |more: &[&str]| {
            let own = [
                OsStr::new("fnctr"),
                OsStr::new("--config"),
                file.as_os_str(),
                OsStr::new("ps"),
            ];
            own.into_iter()
                .chain(more.iter().map(OsStr::new))
                .map(OsStr::to_owned)
                .collect::<Vec<_>>()
        };
        let global = parse(&words(&[])).unwrap().global;
        assert_eq!((global.root.unwrap(), global.embedded), ("/file".into(), true));
        assert_eq!(global.namespace.as_str(), "n1");
        let global = parse(&words(&["--root", "/line"])).unwrap().global;
        assert_eq!((global.root.unwrap(), global.embedded), ("/line".into(), true));
        let global = parse(&words(&["--address", "/a.sock"])).unwrap().global;
        assert_eq!(
            (global.address.as_deref(), global.embedded),
            (Some("/a.sock"), false)
        );
        let both = parse(&words(&["--address", "/a.sock", "--embedded"]));
        assert!(matches!(both, Err(Unread::Explained(_))));
        fs::write(&file, "address = \"/a.sock\"\n").unwrap();
        let global = parse(&words(&["--embedded"])).unwrap().global;
        assert!(global.embedded);
        fs::write(&file, "address = \"/a.sock\"\nembedded = true\n").unwrap();
        assert!(matches!(parse(&words(&[])), Err(Unread::Explained(_))));
        fs::write(&file, "namespace = \"not/one\"\n").unwrap();
        assert!(matches!(parse(&words(&[])), Err(Unread::Command(_))));
        fs::remove_file(&file).unwrap();
        assert!(matches!(parse(&words(&[])), Err(Unread::Explained(_))));
    }

    #[test]
    fn a_command_has_one_name_whatever_was_typed() {
        for (words, name) in [
            (&["run", "--rm", "busybox", "ls", "-l"][..], "run"),
            (&["pause", "c1"], "freeze"),
            (&["image", "ls"], "image ls"),
        ] {
            let words = ["fnctr", "--config", "/dev/null"].iter().chain(words);
            let words: Vec<OsString> = words.map(Into::into).collect();
            let Ok(cli) = parse(&words) else {
                panic!("{words:?}")
            };
            assert_eq!(cli.name, name);
        }
    }

    #[test]
    fn commands_and_options_of_docker_are_refused_by_name() {
        let said = |words: &[&str]| {
            let words: Vec<OsString> = std::iter::once("fnctr")
                .chain(words.iter().copied())
                .map(Into::into)
                .collect();
            match parse(&words) {
                Err(Unread::Command(error)) => match explained(error, &words) {
                    Unread::Command(error) => error.to_string(),
                    Unread::Explained(failure) => failure.to_string(),
                },
                other => panic!("{other:?}"),
            }
        };
        assert!(said(&["diff", "web"]).contains("there is no `fnctr diff`: "));
        let health = said(&["run", "--health-cmd=true", "busybox"]);
        assert!(health.contains("`fnctr run` has no --health-cmd: "), "{health}");
        assert!(said(&["run", "-P", "busybox"]).contains("`fnctr run` has no -P: "));
        let unknown = said(&["run", "--foo", "busybox"]);
        assert!(
            unknown.contains("--foo") && !unknown.contains("-- --foo"),
            "{unknown}"
        );
    }
}
