//! Printing: tables and sentences for people, lines of JSON for programs.

use std::io::{self, Write as _};

use serde::Serialize;

use super::failure::Failure;

/// Prints results and failures, as text or as JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Print {
    json: bool,
}

impl Print {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the output is JSON.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `text` for people, `value` for programs.
    pub(super) fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            self.json(value);
        } else {
            line(&text());
        }
    }

    /// Prints one JSON value on a line of its own.
    pub(super) fn json(self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => line(&json),
            Err(error) => note(&format!("fnctr: cannot print JSON: {error}")),
        }
    }

    /// Prints the reason for a failure.
    pub(super) fn failure(self, failure: &Failure) {
        if self.json {
            self.json(&serde_json::json!({ "error": failure.to_string(), "kind": failure.kind() }));
        } else {
            note(&on_terminal(&format!("fnctr: {failure}")));
        }
    }
}

/// Prints a line on standard output. Errors are ignored: a reader may close the pipe early (`fnctr ps | head -1`).
pub(super) fn line(text: &str) {
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints a line on standard error.
pub(super) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// The text with its lines broken between words, if standard error is a terminal.
fn on_terminal(text: &str) -> String {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => wrapped(text, size.ws_col.into(), 0),
        _ => text.to_owned(),
    }
}

/// Replaces control characters by spaces, so that the text cannot move a terminal's cursor or change its colours.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Formats bytes as `docker images` does: three significant digits, in decimal units.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let decimals = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{name}")
}

/// Formats a table: each column is as wide as its widest cell, and columns are two spaces apart.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![render(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| render(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// The width in characters of the terminal on standard output; `None` if standard output is not a terminal.
pub(super) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Formats a table, and removes columns until its lines fit into `width` characters. Only columns in `may_go` are
/// removed: first the empty ones, then the others, each in the order of `may_go`.
pub(super) fn fitted(head: &[&str], rows: &[Vec<String>], may_go: &[&str], width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let at = |name: &&str| head.iter().position(|head| head == name);
    let is_empty = |at: usize| rows.iter().all(|row| row.get(at).is_none_or(String::is_empty));
    let (mut going, full): (Vec<_>, Vec<_>) = may_go.iter().filter_map(at).partition(|at| is_empty(*at));
    going.extend(full);
    let mut kept: Vec<usize> = (0..head.len()).collect();
    let mut going = going.into_iter();
    loop {
        let pick = |cells: &[String]| {
            kept.iter()
                .filter_map(|at| cells.get(*at).cloned())
                .collect::<Vec<_>>()
        };
        let heads: Vec<_> = kept.iter().filter_map(|at| head.get(*at).copied()).collect();
        let text = table(&heads, &rows.iter().map(|row| pick(row)).collect::<Vec<_>>());
        let fits = text.lines().all(|line| line.chars().count() <= width);
        match going.next() {
            Some(next) if !fits => kept.retain(|at| *at != next),
            _ => return text,
        }
    }
}

/// Breaks a text between words into lines of at most `width` characters. All lines but the first are indented by
/// `indent` spaces. A word longer than a line has a line of its own.
pub(super) fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut lines = vec![String::new()];
    let mut room = width;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + length > room {
            room = width.saturating_sub(indent);
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join(&format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use super::{fitted, table, wrapped};

    #[test]
    fn columns_that_do_not_fit_are_removed_and_empty_ones_first() {
        let rows = [vec![
            "web".to_owned(),
            "12".to_owned(),
            String::new(),
            "up".to_owned(),
        ]];
        let head = ["ID", "PID", "PORTS", "STATE"];
        let fit = |width| fitted(&head, &rows, &["PID", "PORTS"], width);
        assert_eq!(fit(None), "ID   PID  PORTS  STATE\nweb  12          up");
        assert_eq!(fit(Some(80)), fit(None));
        assert_eq!(fit(Some(20)), "ID   PID  STATE\nweb  12   up");
        assert_eq!(fit(Some(12)), "ID   STATE\nweb  up");
        assert_eq!(fit(Some(1)), "ID   STATE\nweb  up");
    }

    #[test]
    fn long_lines_break_between_words() {
        assert_eq!(wrapped("a bc def", 80, 4), "a bc def");
        assert_eq!(wrapped("aa bb cc dd", 6, 1), "aa bb\n cc dd");
        assert_eq!(wrapped("a longerword b", 5, 2), "a\n  longerword\n  b");
    }

    #[test]
    fn a_name_cannot_control_the_terminal() {
        assert_eq!(super::plain("a\n\x1b[31mb"), "a  [31mb");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["long-name".to_owned(), "1".to_owned()],
            vec!["x".to_owned(), String::new()],
        ];
        assert_eq!(table(&["ID", "PID"], &rows), "ID         PID\nlong-name  1\nx");
    }

    #[test]
    fn a_size_has_three_digits_that_count() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (4_262_000, "4.26MB"),
            (77_800_000, "77.8MB"),
            (999_600_000, "1.00GB"),
            (123_456_000_000, "123GB"),
        ] {
            assert_eq!(super::size(bytes), shown);
        }
    }
}
