//! The process of the container: command, environment, working directory, hostname; the image's values merged with the
//! caller's.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{Box, BoxBuilder, Process, User};

use crate::config::{ContainerConfig, ExecConfig, ImageConfig};
use crate::error::Error;
use crate::{baseline, paths, rlimits, security};

/// The path of the init in the container. It is Docker's path, so that programs that look for it find it.
pub const INIT: &str = "/sbin/docker-init";

/// The default search path for programs, as in Docker.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest hostname that the kernel accepts (`__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 64;

/// The container's first process.
pub(crate) fn process(
    config: &ContainerConfig,
    image: &ImageConfig,
    user: User,
    bounding: &security::Bounding,
) -> Result<Process, Error> {
    let capabilities = security::process_capabilities(bounding, user.uid());
    let mut process = baseline::process();
    let (args, env) = (args(config, image)?, env(config, image)?);
    fits(&args, &env)?;
    process
        .set_terminal(config.terminal.then_some(true))
        .set_console_size(config.console_size.filter(|_| config.terminal).map(console_size))
        .set_args(Some(args))
        .set_env(Some(env))
        .set_cwd(cwd(config, image)?)
        .set_user(user)
        .set_capabilities(Some(capabilities))
        .set_rlimits(rlimits::rlimits(&config.rlimits)?)
        .set_no_new_privileges(Some(config.security.no_new_privileges))
        .set_oom_score_adj(oom_score_adj(config.oom_score_adj)?)
        .set_apparmor_profile(security::apparmor_profile(&config.security)?);
    Ok(process)
}

/// The size of a terminal, as a spec has it.
#[must_use]
pub fn console_size((height, width): (u16, u16)) -> Box {
    let size = BoxBuilder::default().height(height).width(width).build();
    // Both are set, so nothing is missing.
    size.unwrap_or_default()
}

/// Checks the score. The kernel refuses values outside this range (proc_pid_oom_score_adj(5)).
fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>, Error> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => Err(Error::OomScoreAdj { value }),
        fine => Ok(fine),
    }
}

/// The longest argument or variable that execve(2) accepts, with the final NUL (MAX_ARG_STRLEN).
const MAX_STRING: usize = 128 << 10;
/// The total size allowed with a stack limit of 8 MiB: a quarter of that (execve(2)), minus room for the file's own
/// name.
const MAX_TOTAL: usize = (2 << 20) - (16 << 10);
/// Each argument and variable also needs a pointer.
const POINTER: usize = 8;

/// Checks the sizes here, because the kernel would refuse only the init's call, and the init would end as if the
/// function had.
pub(crate) fn fits(args: &[String], env: &[String]) -> Result<(), Error> {
    if let Some(long) = args.iter().find(|arg| arg.len() >= MAX_STRING) {
        return Err(Error::LongArgument {
            start: long.chars().take(40).collect(),
            length: long.len(),
        });
    }
    if let Some(long) = env.iter().find(|variable| variable.len() >= MAX_STRING) {
        let name = long.split('=').next().unwrap_or_default().to_owned();
        return Err(Error::LongVariable {
            name,
            length: long.len(),
        });
    }
    let total: usize = args
        .iter()
        .chain(env)
        .map(|string| string.len() + 1 + POINTER)
        .sum();
    if total > MAX_TOTAL {
        return Err(Error::LongTotal { total });
    }
    Ok(())
}

/// Entrypoint and command, with Docker's precedence, after the init if there is one.
fn args(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let mut args = checked(command(config, image))?;
    if config.init.is_some() {
        // Words after `--` are never options of the init.
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    Ok(args)
}

/// A command that can be executed, as far as its text tells.
pub(crate) fn checked(args: Vec<String>) -> Result<Vec<String>, Error> {
    match args.first() {
        None => return Err(Error::NoCommand),
        Some(program) if program.is_empty() => return Err(Error::EmptyProgram { args }),
        Some(_) => {}
    }
    match args.iter().find(|argument| argument.contains('\0')) {
        Some(argument) => Err(Error::NulInArgument {
            argument: argument.clone(),
        }),
        None => Ok(args),
    }
}

/// Merges the command as Docker does:
/// - a command replaces the image's Cmd; an empty one counts as absent;
/// - an entrypoint replaces the image's Entrypoint and drops the image's Cmd;
/// - an empty entrypoint clears the image's Entrypoint and keeps the Cmd;
/// - the entrypoint `[""]` counts as absent; if it is the caller's, the image's Cmd is dropped, if it is the image's,
///   the Cmd is kept.
fn command(config: &ContainerConfig, image: &ImageConfig) -> Vec<String> {
    let own = config.command.as_deref().unwrap_or_default();
    let (entrypoint, image_cmd) = match config.entrypoint.as_deref() {
        None => (image.entrypoint.as_slice(), image.cmd.as_slice()),
        Some([]) => (Default::default(), image.cmd.as_slice()),
        Some(entrypoint) => (entrypoint, Default::default()),
    };
    let is_reset = matches!(entrypoint, [word] if word.is_empty());
    let entrypoint = if is_reset { Default::default() } else { entrypoint };
    let cmd = if own.is_empty() { image_cmd } else { own };
    [entrypoint, cmd].concat()
}

/// The environment: the variables that Docker adds (PATH, HOSTNAME if there is one, TERM if there is a terminal), the
/// image's, the caller's. A later entry replaces an earlier one of the same name in its place. Those that the caller
/// removes are absent, unless the caller sets them too.
fn env(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let mut env = Environment::default();
    env.set("PATH", DEFAULT_PATH)?;
    if let Some(hostname) = &config.hostname {
        env.set("HOSTNAME", hostname)?;
    }
    if config.terminal {
        env.set("TERM", "xterm")?;
    }
    for entry in &image.env {
        let (name, value) = entry
            .split_once('=')
            .ok_or_else(|| Error::ImageEnv { entry: entry.clone() })?;
        env.set(name, value)?;
    }
    for (name, value) in &config.env {
        env.set(name, value)?;
    }
    let is_removed = |name: &str| {
        config.env_removed.iter().any(|removed| removed == name)
            && !config.env.iter().any(|(set, _)| set == name)
    };
    let mut entries = env.entries;
    entries.retain(|entry| !entry.split('=').next().is_some_and(is_removed));
    Ok(entries)
}

/// The environment of an additional process: TERM if there is a terminal, the first process's variables, the caller's.
pub(crate) fn env_beside(first: &[String], config: &ExecConfig) -> Result<Vec<String>, Error> {
    let mut env = Environment::default();
    for entry in first {
        // Without a sign it would be no variable; the first process has none of that kind.
        if let Some((name, value)) = entry.split_once('=') {
            env.set(name, value)?;
        }
    }
    if config.terminal && !env.places.contains_key("TERM") {
        env.set("TERM", "xterm")?;
    }
    let mut removed = Vec::new();
    for entry in &config.env {
        match entry.split_once('=') {
            Some((name, value)) => env.set(name, value)?,
            None => removed.push(entry.as_str()),
        }
    }
    let is_set = |name: &str| {
        config
            .env
            .iter()
            .any(|entry| entry.split_once('=').is_some_and(|(set, _)| set == name))
    };
    let mut entries = env.entries;
    entries.retain(|entry| {
        let name = entry.split('=').next().unwrap_or_default();
        !removed.contains(&name) || is_set(name)
    });
    Ok(entries)
}

/// `NAME=value` entries with unique names, in the order of first mention.
#[derive(Default)]
struct Environment<'a> {
    entries: Vec<String>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Environment<'a> {
    fn set(&mut self, name: &'a str, value: &str) -> Result<(), Error> {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::EnvName {
                name: name.to_owned(),
            });
        }
        if value.contains('\0') {
            return Err(Error::EnvValue {
                name: name.to_owned(),
            });
        }
        let entry = format!("{name}={value}");
        let place = *self.places.entry(name).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some(earlier) => *earlier = entry,
            None => self.entries.push(entry),
        }
        Ok(())
    }
}

/// The working directory: the caller's, else the image's, else `/`; an empty one counts as absent. As in Docker, `..`
/// is resolved in the text, so that the process that creates the directory and the one that enters it use the same
/// path.
fn cwd(config: &ContainerConfig, image: &ImageConfig) -> Result<PathBuf, Error> {
    let wanted = [config.cwd.as_deref(), Some(image.working_dir.as_str()), Some("/")];
    let path = wanted
        .into_iter()
        .flatten()
        .find(|path| !path.is_empty())
        .unwrap_or("/");
    clean(path)
}

/// An absolute path without `.` and `..`.
pub(crate) fn clean(path: &str) -> Result<PathBuf, Error> {
    let refuse = |why| {
        Err(Error::Cwd {
            path: path.to_owned(),
            why,
        })
    };
    if !path.starts_with('/') {
        return refuse("it is not absolute");
    }
    if path.contains('\0') {
        return refuse("it contains a NUL byte");
    }
    let mut clean: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                clean.pop();
            }
            name => clean.push(name),
        }
    }
    let clean = format!("/{}", clean.join("/"));
    match paths::too_long(&clean, paths::INSIDE_MAX) {
        Some(why) => refuse(why),
        None => Ok(PathBuf::from(clean)),
    }
}

/// The hostname inside, if one is requested.
pub(crate) fn hostname(config: &ContainerConfig) -> Result<Option<String>, Error> {
    let Some(hostname) = &config.hostname else {
        return Ok(None);
    };
    let refuse = |why| {
        Err(Error::Hostname {
            hostname: hostname.clone(),
            why,
        })
    };
    if hostname.is_empty() {
        return refuse("it is empty");
    }
    if hostname.len() > HOSTNAME_MAX {
        return refuse("it is longer than 64 bytes");
    }
    for label in hostname.split('.') {
        // RFC 1123 does not allow underscores, but real hosts have them, and a container may take over its host's name.
        if !label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return refuse("only letters, digits, '-', '_' and '.' are allowed");
        }
        if label.is_empty() || label.len() > 63 {
            return refuse("each part between dots must have 1 to 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("no part between dots may start or end with '-'");
        }
    }
    Ok(Some(hostname.clone()))
}

/// Additional data for the runtime and hooks.
pub(crate) fn annotations(config: &ContainerConfig) -> Result<Option<HashMap<String, String>>, Error> {
    if let Some(value) = config.annotations.get("") {
        return Err(Error::AnnotationName { value: value.clone() });
    }
    let annotations: HashMap<_, _> = config.annotations.clone().into_iter().collect();
    Ok((!annotations.is_empty()).then_some(annotations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_not_take_is_refused_by_name() {
        let long = "x".repeat(MAX_STRING);
        let refused = fits(&[], &[format!("BIG={long}")]).unwrap_err().to_string();
        assert!(refused.contains("BIG") && refused.len() < 200, "{refused}");
        assert!(fits(std::slice::from_ref(&long), &[]).is_err());
        let many = vec!["y".repeat(1000); 3000];
        assert!(matches!(fits(&many, &[]), Err(Error::LongTotal { .. })));
        fits(&["sh".to_owned()], &["A=1".to_owned()]).unwrap();
    }

    #[test]
    fn a_score_that_the_kernel_does_not_have_is_refused_by_name() {
        for fine in [None, Some(-1000), Some(0), Some(1000)] {
            assert_eq!(oom_score_adj(fine), Ok(fine));
        }
        for value in [-1001, 1001, 5000] {
            let why = oom_score_adj(Some(value)).unwrap_err().to_string();
            assert!(
                why.contains("oom_score_adj") && why.contains(&value.to_string()),
                "{why}"
            );
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: words("/entry -x"),
            cmd: words("cmd"),
            env: words("PATH=/image A=image B=image"),
            working_dir: "/srv".into(),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn the_command_has_dockers_precedence() {
        let empty = || Some(vec![]);
        let some = |text| Some(words(text));
        for (entrypoint, command, expected) in [
            (None, None, "/entry -x cmd"),
            (None, some("own"), "/entry -x own"),
            (None, empty(), "/entry -x cmd"),
            (some("/own"), None, "/own"),
            (some("/own"), some("a b"), "/own a b"),
            (empty(), None, "cmd"),
            (empty(), some("own"), "own"),
            (Some(vec![String::new()]), some("own"), "own"),
        ] {
            let config = ContainerConfig {
                entrypoint,
                command,
                ..ContainerConfig::default()
            };
            assert_eq!(args(&config, &image()), Ok(words(expected)), "{config:?}");
        }
    }

    #[test]
    fn an_entrypoint_of_one_empty_word_is_none_whether_the_image_or_the_caller_sets_it() {
        let image = ImageConfig {
            entrypoint: vec![String::new()],
            cmd: words("cmd x"),
            ..ImageConfig::default()
        };
        let reset = || Some(vec![String::new()]);
        for (entrypoint, command, expected) in [
            (None, None, Ok("cmd x")),
            (None, Some(words("own")), Ok("own")),
            (Some(vec![]), None, Ok("cmd x")),
            (Some(words("/own")), None, Ok("/own")),
            (reset(), Some(words("own")), Ok("own")),
            (reset(), None, Err(Error::NoCommand)),
        ] {
            let config = ContainerConfig {
                entrypoint,
                command,
                ..ContainerConfig::default()
            };
            assert_eq!(args(&config, &image), expected.map(words), "{config:?}");
        }
        // With more words, it is a command whose first word names no program.
        let odd = ImageConfig {
            entrypoint: vec![String::new(), "x".to_owned()],
            ..image
        };
        let refused = args(&ContainerConfig::default(), &odd);
        assert!(matches!(refused, Err(Error::EmptyProgram { .. })), "{refused:?}");
    }

    #[test]
    fn a_container_without_a_command_is_refused() {
        let reset = ContainerConfig {
            entrypoint: Some(vec![String::new()]),
            ..ContainerConfig::default()
        };
        assert_eq!(args(&reset, &image()), Err(Error::NoCommand));
        assert_eq!(
            args(&ContainerConfig::default(), &ImageConfig::default()),
            Err(Error::NoCommand)
        );
        let empty = ContainerConfig {
            command: Some(vec![String::new()]),
            ..ContainerConfig::default()
        };
        assert!(matches!(
            args(&empty, &ImageConfig::default()),
            Err(Error::EmptyProgram { .. })
        ));
        let nul = ContainerConfig {
            command: Some(vec!["a".into(), "b\0".into()]),
            ..ContainerConfig::default()
        };
        assert_eq!(
            args(&nul, &image()),
            Err(Error::NulInArgument {
                argument: "b\0".into()
            })
        );
    }

    #[test]
    fn an_init_takes_the_whole_command_as_its_argument() {
        let config = ContainerConfig {
            init: Some("/usr/bin/tini".into()),
            ..ContainerConfig::default()
        };
        assert_eq!(
            args(&config, &image()),
            Ok(words("/sbin/docker-init -- /entry -x cmd"))
        );
    }

    #[test]
    fn the_callers_environment_wins_at_the_place_of_the_images() {
        let config = ContainerConfig {
            env: vec![
                ("A".into(), "own=1".into()),
                ("C".into(), String::new()),
                ("C".into(), "2".into()),
            ],
            ..ContainerConfig::default()
        };
        assert_eq!(
            env(&config, &image()),
            Ok(words("PATH=/image A=own=1 B=image C=2"))
        );
    }

    #[test]
    fn variables_are_removed_unless_the_caller_sets_them() {
        let config = ContainerConfig {
            env: vec![("B".into(), "own".into())],
            env_removed: vec!["A".into(), "B".into(), "PATH".into(), "unknown".into()],
            ..ContainerConfig::default()
        };
        assert_eq!(env(&config, &image()), Ok(words("B=own")));
    }

    #[test]
    fn the_environment_is_complete_without_an_image() {
        let bare = ImageConfig::default();
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(env(&ContainerConfig::default(), &bare), Ok(vec![path.clone()]));
        let config = ContainerConfig {
            terminal: true,
            hostname: Some("h".into()),
            ..ContainerConfig::default()
        };
        assert_eq!(
            env(&config, &bare),
            Ok(vec![path, "HOSTNAME=h".into(), "TERM=xterm".into()])
        );
    }

    #[test]
    fn an_environment_that_no_process_can_have_is_refused() {
        for (name, value) in [("", "v"), ("a=b", "v"), ("a\0", "v"), ("a", "v\0")] {
            let config = ContainerConfig {
                env: vec![(name.into(), value.into())],
                ..ContainerConfig::default()
            };
            assert!(
                env(&config, &ImageConfig::default()).is_err(),
                "{name:?}={value:?}"
            );
        }
        for entry in ["", "NAME", "=value"] {
            let image = ImageConfig {
                env: vec![entry.into()],
                ..ImageConfig::default()
            };
            assert!(env(&ContainerConfig::default(), &image).is_err(), "{entry:?}");
        }
    }

    #[test]
    fn the_working_directory_is_a_place_in_the_container() {
        for (own, of_image, expected) in [
            (None, "", "/"),
            (None, "/srv/", "/srv"),
            (Some(""), "/srv", "/srv"),
            (Some("/a/./b/../c"), "/srv", "/a/c"),
            (Some("/../.."), "", "/"),
        ] {
            let config = ContainerConfig {
                cwd: own.map(str::to_owned),
                ..ContainerConfig::default()
            };
            let image = ImageConfig {
                working_dir: of_image.into(),
                ..ImageConfig::default()
            };
            assert_eq!(cwd(&config, &image), Ok(PathBuf::from(expected)));
        }
        for bad in ["a", "./a", "/a\0"] {
            let config = ContainerConfig {
                cwd: Some(bad.into()),
                ..ContainerConfig::default()
            };
            assert!(
                matches!(cwd(&config, &image()), Err(Error::Cwd { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_hostname_is_one_that_the_kernel_and_resolvers_take() {
        let check = |name: &str| {
            hostname(&ContainerConfig {
                hostname: Some(name.into()),
                ..ContainerConfig::default()
            })
        };
        for good in ["a", "web-1", "my_host", "a.b.example", &"x".repeat(63)] {
            assert_eq!(check(good), Ok(Some(good.to_owned())));
        }
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a/b",
            "é",
            "a\0",
            &"x".repeat(64),
            &"a.".repeat(40),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
