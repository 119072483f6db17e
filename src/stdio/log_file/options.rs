//! How a log is written, by the names and values that users know from Docker's driver `json-file`. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backlog::CAPACITY;
use super::files::Rotation;

/// The most files of a log.
const MOST_FILES: u32 = 1000;
/// The most bytes of attributes: a container's short lines must not become much in memory.
const MOST_ATTRS: usize = 4096;

/// How a log is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogOptions {
    pub(crate) rotation: Rotation,
    /// Attributes of every entry.
    pub(crate) attrs: BTreeMap<String, String>,
    /// How many bytes wait for files that are slower than the container; more are dropped, the oldest first. With `None` the
    /// container waits as long as the files take anything.
    pub(crate) buffer: Option<usize>,
}

/// Why options were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLogOption {
    /// There is no such option.
    #[error("unknown log opt '{0}' for json-file log driver")]
    Unknown(String),
    /// Docker has it.
    #[error("log opt '{0}' is not served; name the labels or variables with labels and env")]
    NotServed(&'static str),
    /// It has another form.
    #[error("invalid value for log opt '{name}': '{value}' is not {wanted}")]
    Value {
        name: &'static str,
        value: String,
        wanted: &'static str,
    },
    /// Only full files are compressed.
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    NothingToCompress,
    /// Every entry has them.
    #[error("the labels and variables of every log entry have {length} bytes; the most is {MOST_ATTRS}")]
    Attributes { length: usize },
    /// Nothing waits otherwise.
    #[error("max-buffer-size has a meaning with mode=non-blocking only")]
    NoBuffer,
}

impl LogOptions {
    /// Reads options. `labels` and `env` are those of the container, from which attributes are taken.
    pub(crate) fn parse(
        given: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, BadLogOption> {
        let (mut this, mut is_non_blocking, mut buffer) = (Self::default(), false, None);
        for (name, value) in given {
            let bad = |name, wanted| BadLogOption::Value {
                name,
                value: value.clone(),
                wanted,
            };
            let size = |name| decimal(value).ok_or_else(|| bad(name, "a size above 0, such as 10m"));
            match name.as_str() {
                "max-size" if value == "-1" => {}
                "max-size" => this.rotation.max_size = Some(size("max-size")?),
                "max-file" => {
                    let number = value
                        .parse()
                        .ok()
                        .filter(|number| (1..=MOST_FILES).contains(number));
                    this.rotation.max_files =
                        number.ok_or_else(|| bad("max-file", "a number from 1 to 1000"))?;
                }
                "compress" => {
                    let flag = match value.as_str() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                        _ => None,
                    };
                    this.rotation.compress = flag.ok_or_else(|| bad("compress", "true or false"))?;
                }
                "mode" => match value.as_str() {
                    "blocking" | "" => {}
                    "non-blocking" => is_non_blocking = true,
                    _ => return Err(bad("mode", "blocking or non-blocking")),
                },
                "max-buffer-size" => {
                    buffer = Some(usize::try_from(size("max-buffer-size")?).unwrap_or(usize::MAX));
                }
                "labels" => this.add(value, labels),
                "env" => this.add(value, env),
                "tag" if value.contains("{{") => {
                    return Err(bad("tag", "plain text, which alone is served"));
                }
                "tag" if value.is_empty() => {}
                "tag" => drop(this.attrs.insert("tag".to_owned(), value.clone())),
                "labels-regex" => return Err(BadLogOption::NotServed("labels-regex")),
                "env-regex" => return Err(BadLogOption::NotServed("env-regex")),
                _ => return Err(BadLogOption::Unknown(name.clone())),
            }
        }
        if this.rotation.compress && (this.rotation.max_files < 2 || this.rotation.max_size.is_none()) {
            return Err(BadLogOption::NothingToCompress);
        }
        if buffer.is_some() && !is_non_blocking {
            return Err(BadLogOption::NoBuffer);
        }
        let length: usize = this
            .attrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if length > MOST_ATTRS {
            return Err(BadLogOption::Attributes { length });
        }
        this.buffer = is_non_blocking.then(|| buffer.unwrap_or(CAPACITY));
        Ok(this)
    }

    /// Adds those of the named values that there are.
    fn add(&mut self, names: &str, values: &BTreeMap<String, String>) {
        for name in names.split(',') {
            if let Some(value) = values.get(name) {
                self.attrs.insert(name.to_owned(), value.clone());
            }
        }
    }
}

/// A number of bytes above 0 as Docker reads it here: in powers of 1000, and with a fraction.
fn decimal(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let text = text.strip_suffix('i').unwrap_or(text);
    let (number, power) = match text.char_indices().next_back()? {
        (at, unit @ ('k' | 'm' | 'g' | 't')) => (text.get(..at)?, " kmgt".find(unit)?),
        _ => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let unit = 1000_u128.pow(u32::try_from(power).ok()?);
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = fraction.parse::<u128>().unwrap_or_default();
    let bytes = u128::from(whole.parse::<u64>().ok()?) * unit + fraction * unit / parts;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    fn parsed(pairs: &[(&str, &str)]) -> Result<LogOptions, String> {
        let (labels, env) = (map(&[("a", "1"), ("b", "2")]), map(&[("B", "3"), ("a", "4")]));
        LogOptions::parse(&map(pairs), &labels, &env).map_err(|error| error.to_string())
    }

    #[test]
    fn options_have_docker_s_names_and_defaults() {
        assert_eq!(parsed(&[]), Ok(LogOptions::default()));
        let rotation = Rotation {
            max_size: Some(10_000_000),
            max_files: 3,
            compress: true,
        };
        assert_eq!(
            parsed(&[("max-size", "10m"), ("max-file", "3"), ("compress", "true")])
                .map(|found| found.rotation),
            Ok(rotation)
        );
        assert_eq!(parsed(&[("max-size", "-1")]), Ok(LogOptions::default()));
        let found = parsed(&[("labels", "b,none"), ("env", "B,a"), ("tag", "t")]).unwrap();
        assert_eq!(
            found.attrs,
            map(&[("b", "2"), ("B", "3"), ("a", "4"), ("tag", "t")])
        );
        assert_eq!(parsed(&[("mode", "non-blocking")]).unwrap().buffer, Some(1 << 20));
        let small = [("mode", "non-blocking"), ("max-buffer-size", "64k")];
        assert_eq!(parsed(&small).unwrap().buffer, Some(64_000));
        for (text, bytes) in [("1.5m", 1_500_000), ("20k", 20_000), ("3KiB", 3_000), ("7", 7)] {
            assert_eq!(decimal(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (given, says) in [
            (&[("max-size", "x")][..], "'max-size'"),
            (&[("max-size", "0")], "'max-size'"),
            (&[("max-file", "0")], "'max-file'"),
            (&[("max-file", "1001")], "'max-file'"),
            (&[("max-size", "1e9")], "'max-size'"),
            (&[("compress", "maybe")], "'compress'"),
            (&[("compress", "true")], "compress cannot be true"),
            (
                &[("compress", "true"), ("max-size", "1m")],
                "compress cannot be true",
            ),
            (&[("mode", "x")], "'mode'"),
            (&[("max-buffer-size", "1m")], "mode=non-blocking"),
            (&[("tag", "{{.ID}}")], "'tag'"),
            (&[("env-regex", "^A")], "'env-regex'"),
            (
                &[("what", "x")],
                "unknown log opt 'what' for json-file log driver",
            ),
        ] {
            let refused = parsed(given).unwrap_err();
            assert!(refused.contains(says), "{given:?}: {refused}");
        }
    }
}
