//! One line as one message of RFC 5424, as Docker's syslog driver writes it in the format `rfc5424`:
//!
//! ```text
//! <14>1 2024-05-01T10:00:00.123456Z host app_id=a,fn_id=b 4242 app_id=a,fn_id=b - the line
//!  │  │ │                           │    │                │    │                │ └ MSG, bytes as they came
//!  │  │ TIMESTAMP                   │    APP-NAME: tag    │    MSGID: tag       STRUCTURED-DATA: none
//!  │  VERSION                       HOSTNAME: the host's  PROCID: this process
//!  PRI: facility user × 8 + severity, 6 (information) for stdout and 3 (error) for stderr
//! ```
//!
//! As in Docker, the tag is in both fields and is never cut: receivers find a function's lines by the tag, and two ids
//! are longer than the 48 and 32 characters that the RFC allows in these fields. Characters that a field cannot contain
//! (blanks, control and non-ASCII characters, with which Docker breaks the message) become `_`. The time is more
//! precise than Docker's, which has whole seconds.

use std::time::SystemTime;

use prost_types::Timestamp;

/// RFC 5424, 6.2.1: user-level messages.
const USER: u8 = 1;
/// The longest HOSTNAME.
const LONGEST_HOST: usize = 255;

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// A line of stderr.
    Error = 3,
    /// A line of stdout.
    Info = 6,
}

/// The parts that all messages of one stream share.
#[derive(Debug)]
pub(super) struct Format {
    before_time: String,
    after_time: String,
    terminator: &'static [u8],
}

impl Format {
    pub(super) fn new(severity: Severity, host: &str, tag: &str, terminator: &'static [u8]) -> Self {
        let priority = USER * 8 + severity as u8;
        let (host, tag, process) = (
            field(host, LONGEST_HOST),
            field(tag, usize::MAX),
            std::process::id(),
        );
        Self {
            before_time: format!("<{priority}>1 "),
            after_time: format!(" {host} {tag} {process} {tag} - "),
            terminator,
        }
    }

    /// The message for one line at the moment `time` (see [`stamp`]).
    pub(super) fn message(&self, time: &str, line: &[u8]) -> Vec<u8> {
        [
            self.before_time.as_bytes(),
            time.as_bytes(),
            self.after_time.as_bytes(),
            line,
            self.terminator,
        ]
        .concat()
    }
}

/// A moment in UTC, in microseconds, the finest unit that RFC 5424 allows.
pub(super) fn stamp(at: SystemTime) -> String {
    // Its display already implements the calendar of RFC 3339.
    let mut at = Timestamp::from(at);
    at.nanos -= at.nanos % 1000;
    at.to_string()
}

/// The name of this host.
pub(super) fn host_name() -> String {
    // The same text as uname(2)'s node name, but it needs no wrapper of a system call.
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Converts text to a field of the header: visible ASCII, or `-` for an empty field.
fn field(text: &str, longest: usize) -> String {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let field: String = text.chars().take(longest).map(visible).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn text(severity: Severity, host: &str, tag: &str, line: &str) -> String {
        let time = stamp(UNIX_EPOCH + Duration::new(1_714_557_600, 123_456_789));
        String::from_utf8(Format::new(severity, host, tag, b"\n").message(&time, line.as_bytes())).unwrap()
    }

    #[test]
    fn a_line_is_worded_as_docker_words_it() {
        let pid = std::process::id();
        let tag = "app_id=01D8JQSE2BNG8G00GZJ0000001,fn_id=01D8JQSE2BNG8G00GZJ0000002";
        assert_eq!(
            text(Severity::Info, "box", tag, "hello  world\r"),
            format!("<14>1 2024-05-01T10:00:00.123456Z box {tag} {pid} {tag} - hello  world\r\n")
        );
        assert!(text(Severity::Error, "box", tag, "").starts_with("<11>1 "));
    }

    #[test]
    fn nothing_in_a_tag_can_break_the_header() {
        let message = text(Severity::Info, "", "name=a b\nc\u{e9}\0", "x");
        assert!(message.contains("Z - name=a_b_c__ "), "{message}");
        assert!(
            text(Severity::Info, &"h".repeat(300), "", "x").contains(&format!("Z {} - ", "h".repeat(255)))
        );
    }
}
