//! Moments and durations as Docker writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::clock;
use crate::units::go_duration;

/// What Docker shows for a moment that has not come: the zero value of Go.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// A moment in UTC, in nanoseconds (RFC 3339).
pub(super) fn stamp(at: Option<SystemTime>) -> String {
    // Its display implements the calendar of RFC 3339.
    at.map_or_else(|| NEVER.to_owned(), |at| Timestamp::from(at).to_string())
}

/// Seconds since 1970.
pub(super) fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Nanoseconds since 1970.
pub(super) fn unix_nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A moment of a query: seconds since 1970, with or without a fraction, or RFC 3339 in UTC.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !are_digits(seconds) || !are_digits(fraction) {
        return SystemTime::try_from(text.parse::<Timestamp>().ok()?).ok();
    }
    // Every digit counts: clients send nanoseconds.
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanos.parse().ok()?))
}

/// A moment of a filter: one of a query, or how long ago it was, as in `24h`.
pub(super) fn moment_or_age(text: &str) -> Option<SystemTime> {
    moment(text).or_else(|| clock::now().checked_sub(go_duration(text)?))
}

/// How long ago a moment is, in words: "Less than a second", "3 minutes", "2 weeks".
pub(super) fn ago(at: Option<SystemTime>) -> String {
    in_words(at.and_then(clock::age).unwrap_or_default())
}

fn in_words(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_utc_and_the_zero_value_if_it_has_not_come() {
        let at = UNIX_EPOCH + Duration::new(1_764_000_000, 123_456_789);
        assert_eq!(stamp(Some(at)), "2025-11-24T16:00:00.123456789Z");
        assert_eq!(stamp(None), NEVER);
        assert_eq!(moment(&stamp(Some(at))), Some(at));
        assert_eq!(
            moment("1764000000.5"),
            Some(UNIX_EPOCH + Duration::from_millis(1_764_000_000_500))
        );
        assert_eq!(moment("yesterday"), None);
        assert_eq!(moment("-1"), None);
    }

    #[test]
    fn an_age_is_told_in_docker_s_words() {
        let told = |seconds| in_words(Duration::from_secs(seconds));
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (14 * 60, "14 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(told(seconds), words);
        }
    }
}
