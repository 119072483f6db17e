//! Sizes and shares as people write them: `64m`, `1.5`, `250`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a quantity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
}

/// A number of bytes. Written as a number with an optional unit `b`, `k`, `m`, `g` or `t` (powers of 1024, any case,
/// an `i`, a `b` or both may follow), as Docker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const UNITS: [(u32, char); 4] = [(40, 't'), (30, 'g'), (20, 'm'), (10, 'k')];

impl FromStr for ByteSize {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || InvalidQuantity {
            text: text.to_owned(),
            what: "a size in bytes, such as 512k, 64m or 1g",
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "ki" | "kib" => 10,
            "m" | "mb" | "mi" | "mib" => 20,
            "g" | "gb" | "gi" | "gib" => 30,
            "t" | "tb" | "ti" | "tib" => 40,
            _ => return Err(fail()),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail());
        }
        let number: u64 = digits.parse().map_err(|_| fail())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(fail)
    }
}

impl fmt::Display for ByteSize {
    /// Writes the number in the largest unit that divides it, so that the text can be parsed again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Thousandths of a CPU. Written as CPUs with up to three decimals: `1.5` is 1500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MilliCpus(pub u64);

impl FromStr for MilliCpus {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || InvalidQuantity {
            text: text.to_owned(),
            what: "a number of CPUs, such as 2, 0.5 or 1.25",
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || part.len() > 3 || !digits(whole) || !digits(part) {
            return Err(fail());
        }
        let whole: u64 = whole.parse().map_err(|_| fail())?;
        let part: u64 = format!("{part:0<3}").parse().map_err(|_| fail())?;
        whole
            .checked_mul(1000)
            .and_then(|n| n.checked_add(part))
            .map(Self)
            .ok_or_else(fail)
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            part => write!(
                f,
                "{}.{}",
                self.0 / 1000,
                format!("{part:03}").trim_end_matches('0')
            ),
        }
    }
}

/// Parses a duration in the format of Go: `1m30s`, `500ms`, `1.5h`.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
        if rest.is_empty() {
            return Some(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("5b", 5),
            ("64m", 64 << 20),
            ("1Gi", 1 << 30),
            ("2KB", 2048),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "m", "-1", "1.5g", "1x", "99999999t", "+1", "6４"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cpus_are_read_in_thousandths() {
        for (text, milli) in [("1", 1000), ("0.5", 500), ("1.25", 1250), ("0.001", 1)] {
            assert_eq!(text.parse(), Ok(MilliCpus(milli)), "{text}");
        }
        for bad in ["", ".", ".5", "0.0001", "-1", "1e3", "1.-5"] {
            assert!(bad.parse::<MilliCpus>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read_again(n: u64) {
            prop_assert_eq!(ByteSize(n).to_string().parse(), Ok(ByteSize(n)));
            prop_assert_eq!(MilliCpus(n).to_string().parse(), Ok(MilliCpus(n)));
        }
    }

    #[test]
    fn durations_of_go() {
        for (text, ms) in [
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("500ms", 500),
            ("0s", 0),
        ] {
            assert_eq!(go_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "",
            "10",
            "m",
            "1x",
            "1.2.3s",
            "-1s",
            "10 m",
            "999999999999999999999h",
        ] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }
}
