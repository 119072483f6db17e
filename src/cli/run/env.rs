//! The environment variables that `run` and `create` set in a container, from its options and the files that they name.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::args::run::ContainerArgs;
use crate::cli::failure::Failure;

/// The byte order mark that some editors write at the start of a UTF-8 file.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
/// The byte order marks of UTF-16, little-endian and big-endian.
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Collects the variables of the files, then those of the options, which override them.
pub(super) fn environment(args: &ContainerArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for file in &args.env_file {
        let bytes = std::fs::read(file)
            .map_err(|error| Failure::usage(format!("cannot read --env-file {}: {error}", file.display())))?;
        for line in lines(file, &bytes)? {
            set(&mut env, line)?;
        }
    }
    env.extend(of_options(&args.env)?);
    Ok(env)
}

/// Collects the variables of options alone.
pub(in crate::cli) fn of_options(lines: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for line in lines {
        set(&mut env, line)?;
    }
    Ok(env)
}

/// The lines of a file, without empty lines and comments.
fn lines<'a>(file: &Path, bytes: &'a [u8]) -> Result<Vec<&'a str>, Failure> {
    let bad = |what: String| Failure::usage(format!("--env-file {} {what}", file.display()));
    if UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(bad("is UTF-16; save it as UTF-8".to_owned()));
    }
    let bytes = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        bad(format!("is not UTF-8 in line {line}"))
    })?;
    let lines = text.lines().map(str::trim_start);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect())
}

/// Sets `NAME=value`, or `NAME` with its value in this process. A variable that this process lacks is left out.
fn set(env: &mut BTreeMap<String, String>, line: &str) -> Result<(), Failure> {
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (line, inherited(line)?),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(Failure::usage(format!(
            "{name:?} cannot be the name of an environment variable"
        )));
    }
    if let Some(value) = value {
        env.insert(name.to_owned(), value);
    }
    Ok(())
}

fn inherited(name: &str) -> Result<Option<String>, Failure> {
    // No environment can contain such a name, so this process does not have the variable.
    if name.is_empty() || name.contains('\0') {
        return Ok(None);
    }
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!(
            "the value of the environment variable {name} is not UTF-8, which is all that a container's configuration can hold"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_are_not_empty_and_have_no_spaces() {
        let mut env = BTreeMap::new();
        for bad in ["", "=x", "export A=1", "A =1"] {
            assert!(set(&mut env, bad).is_err(), "{bad:?}");
        }
        set(&mut env, "A=b=c").unwrap();
        assert_eq!(env["A"], "b=c");
    }

    #[test]
    fn a_file_is_utf8_with_a_mark_or_without() {
        let lines = |bytes: &'static [u8]| lines(Path::new("f"), bytes).map_err(|why| why.to_string());
        assert_eq!(
            lines(b"\xef\xbb\xbf# first\r\nA=1\r\n\n  B=2").unwrap(),
            ["A=1", "B=2"]
        );
        assert_eq!(lines(b"\xef\xbb\xbfA=1").unwrap(), ["A=1"]);
        let why = lines(b"\xff\xfeA\x00=\x00").unwrap_err();
        assert_eq!(why, "--env-file f is UTF-16; save it as UTF-8");
        let why = lines(b"A=1\nB=\xe9\n").unwrap_err();
        assert_eq!(why, "--env-file f is not UTF-8 in line 2");
    }
}
