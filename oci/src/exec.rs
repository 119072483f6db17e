//! An additional process in a container that runs.
//!
//! It is like the container's first process, except for what the caller chooses: Docker's rules for `docker exec`.

use std::path::PathBuf;

use oci_spec::runtime::{Process, User};

use crate::config::{ExecConfig, UserFiles};
use crate::error::Error;
use crate::{process, security, user};

/// The process that a runtime executes in a container whose first process is `first`.
///
/// # Errors
/// The first error in the input, with the field and its value. Nothing else can fail.
pub fn exec(first: &Process, config: &ExecConfig, files: &UserFiles) -> Result<Process, Error> {
    let user = match &config.user {
        None => first.user().clone(),
        Some(user) => user_of(user, files)?,
    };
    let bounding = first
        .capabilities()
        .as_ref()
        .and_then(|all| all.bounding().clone());
    let capabilities = security::process_capabilities(&bounding.unwrap_or_default(), user.uid());
    let args = process::checked(config.command.clone())?;
    let env = process::env_beside(first.env().as_deref().unwrap_or_default(), config)?;
    process::fits(&args, &env)?;
    let cwd = match &config.cwd {
        None => first.cwd().clone(),
        Some(cwd) => working_dir(cwd)?,
    };
    let mut process = first.clone();
    process
        .set_terminal(config.terminal.then_some(true))
        .set_console_size(
            config
                .console_size
                .filter(|_| config.terminal)
                .map(process::console_size),
        )
        .set_args(Some(args))
        .set_env(Some(env))
        .set_cwd(cwd)
        .set_user(user)
        .set_capabilities(Some(capabilities));
    Ok(process)
}

/// Whether the files of users and groups are needed: not for `uid:gid` in digits.
#[must_use]
pub fn needs_user_files(user: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    !user
        .split_once(':')
        .is_some_and(|(uid, gid)| digits(uid) && digits(gid))
}

fn user_of(wanted: &str, files: &UserFiles) -> Result<User, Error> {
    user::of(wanted, &[], files.passwd.as_deref(), files.group.as_deref())
}

fn working_dir(path: &str) -> Result<PathBuf, Error> {
    match path {
        "" => Ok(PathBuf::from("/")),
        path => process::clean(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline;
    use crate::config::Capabilities;

    /// The first process of a container.
    fn first() -> Process {
        let bounding = security::capabilities(&Capabilities::Docker).unwrap();
        let mut user = User::default();
        user.set_uid(7).set_gid(8).set_additional_gids(Some(vec![8]));
        let mut first = baseline::process();
        first
            .set_args(Some(texts(&["sleep", "9"])))
            .set_env(Some(texts(&["PATH=/bin", "A=1", "B=2"])))
            .set_cwd("/work".into())
            .set_capabilities(Some(security::process_capabilities(&bounding, 7)))
            .set_user(user);
        first
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn of(command: &[&str]) -> ExecConfig {
        ExecConfig {
            command: texts(command),
            ..ExecConfig::default()
        }
    }

    #[test]
    fn what_is_not_chosen_is_the_container_s() {
        let first = first();
        let process = exec(&first, &of(&["ls", "-l"]), &UserFiles::default()).unwrap();
        let mut same = first.clone();
        same.set_args(Some(texts(&["ls", "-l"])));
        assert_eq!(process, same);
    }

    #[test]
    fn variables_are_replaced_added_and_removed() {
        let first = first();
        let config = ExecConfig {
            env: texts(&["B=3", "C=4=5", "A", "D"]),
            ..of(&["env"])
        };
        let process = exec(&first, &config, &UserFiles::default()).unwrap();
        let env = process.env().clone().unwrap();
        let own: Vec<_> = env.iter().filter(|entry| !entry.starts_with("PATH=")).collect();
        assert_eq!(own, ["B=3", "C=4=5"]);
        let terminal = ExecConfig {
            terminal: true,
            console_size: Some((33, 77)),
            ..of(&["sh"])
        };
        let process = exec(&first, &terminal, &UserFiles::default()).unwrap();
        assert_eq!(process.console_size(), Some(crate::console_size((33, 77))));
        assert!(process.env().clone().unwrap().contains(&"TERM=xterm".to_owned()));
        assert_eq!(process.terminal(), Some(true));
    }

    #[test]
    fn a_user_has_the_groups_of_the_container_s_files_and_only_root_has_capabilities() {
        let first = first();
        let files = UserFiles {
            passwd: Some("root:x:0:0::/:/bin/sh\nann:x:1000:100::/:/bin/sh\n".to_owned()),
            group: Some("users:x:100:\nwheel:x:10:ann\n".to_owned()),
        };
        let by = |user: &str| {
            let config = ExecConfig {
                user: Some(user.to_owned()),
                ..of(&["id"])
            };
            exec(&first, &config, &files).unwrap()
        };
        let ann = by("ann");
        assert_eq!((ann.user().uid(), ann.user().gid()), (1000, 100));
        assert_eq!(ann.user().additional_gids().clone(), Some(vec![100, 10]));
        let effective = |process: &Process| {
            process
                .capabilities()
                .as_ref()
                .and_then(|all| all.effective().clone())
        };
        assert_eq!(effective(&ann).unwrap_or_default().len(), 0);
        let bounding = first
            .capabilities()
            .as_ref()
            .and_then(|all| all.bounding().clone());
        assert_eq!(effective(&by("root")), bounding);
        assert_eq!((by("5:6").user().uid(), by("5:6").user().gid()), (5, 6));
        let config = ExecConfig {
            user: Some("bob".to_owned()),
            ..of(&["id"])
        };
        let refused = exec(&first, &config, &files).unwrap_err();
        assert!(matches!(refused, Error::UnknownUser { .. }), "{refused}");
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let first = first();
        let refused = |config: ExecConfig| exec(&first, &config, &UserFiles::default()).unwrap_err();
        assert!(matches!(refused(of(&[])), Error::NoCommand));
        assert!(matches!(refused(of(&[""])), Error::EmptyProgram { .. }));
        assert!(matches!(refused(of(&["a\0b"])), Error::NulInArgument { .. }));
        let with = |env: &[&str], cwd: Option<&str>| ExecConfig {
            env: texts(env),
            cwd: cwd.map(str::to_owned),
            ..of(&["true"])
        };
        assert!(matches!(refused(with(&["=x"], None)), Error::EnvName { .. }));
        assert!(matches!(refused(with(&["A=\0"], None)), Error::EnvValue { .. }));
        assert!(matches!(refused(with(&[], Some("work"))), Error::Cwd { .. }));
    }

    #[test]
    fn only_numbers_for_user_and_group_need_no_files() {
        assert!(!needs_user_files("1000:1000"));
        for user in ["", "root", "1000", "1000:", "fn:1000", "1000:fn"] {
            assert!(needs_user_files(user), "{user:?}");
        }
    }
}
