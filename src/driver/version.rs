//! The oldest engine that a configuration accepts.

use crate::driver::{Error, ErrorKind};

/// Fails for an `engine` older than `minimum`; an empty minimum accepts all versions.
pub(crate) fn require(engine: &str, minimum: &str, found: &str) -> Result<(), Error> {
    if minimum.is_empty() {
        return Ok(());
    }
    let refuse = |text: String| Err(Error::new(ErrorKind::InvalidConfig, text));
    let Some(wanted) = numbers(minimum) else {
        return refuse(format!(
            "server_version {minimum:?} is not a version, such as 1.6.0"
        ));
    };
    match numbers(found) {
        Some(version) if version >= wanted => Ok(()),
        _ => refuse(format!(
            "{engine} is version {found}, and server_version requires {minimum} or newer"
        )),
    }
}

/// Major, minor and patch of `1.6.20~ds1`, `v2.1.9` or `1.7`; the rest is ignored.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(version.split('.')) {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        *number = part.get(..end)?.parse().ok()?;
        if end < part.len() {
            break;
        }
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        for (minimum, found) in [
            ("", "x"),
            ("1.6", "1.6.20~ds1"),
            ("1.6.20", "1.6.20~ds1"),
            ("1.7.2", "v2.1.9"),
        ] {
            require("the engine", minimum, found).unwrap();
        }
        for (minimum, found) in [
            ("1.7", "1.6.20"),
            ("2.0.0", "1.7.24"),
            ("1.6.21", "1.6.20~ds1"),
            ("1", "unknown"),
        ] {
            let error = require("the engine", minimum, found).unwrap_err();
            assert!(error.report().contains(found), "{error:?}");
        }
        assert!(
            require("the engine", "new", "1.6.0")
                .unwrap_err()
                .report()
                .contains("\"new\" is not a version")
        );
    }
}
