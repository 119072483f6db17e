//! The table of `fnctr stats`: its columns, its units, and what a narrow terminal leaves out. Pure, except [`Screen`].

use std::io;
use std::time::Duration;

use super::output;
use crate::engine::Usage;

/// The line of one container.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) id: &'a str,
    pub(super) state: &'static str,
    /// `None` for a container that does not run or cannot be read.
    pub(super) now: Option<&'a Usage>,
    /// An earlier reading, from which rates are computed.
    pub(super) before: Option<&'a Usage>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    columns: usize,
    rows: usize,
}

impl Screen {
    /// The size of the terminal on standard output; `None` if standard output is not a terminal.
    pub(super) fn of_stdout() -> Option<Self> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some(Self {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }
}

/// A column: its heading, its cell, and its turn to be left out when there is too little room. A column without a turn
/// stays.
type Column = (&'static str, fn(&Row<'_>) -> String, Option<u8>);

const COLUMNS: [Column; 12] = [
    ("ID", |row| row.id.to_owned(), None),
    ("STATE", |row| row.state.to_owned(), None),
    ("CPU", cpu, None),
    ("MEM", memory, None),
    ("LIMIT", limit, Some(8)),
    ("PEAK", peak, Some(5)),
    ("PIDS", pids, Some(7)),
    ("NET IN/OUT", network, Some(2)),
    ("DISK IN/OUT", disk, Some(1)),
    ("THROTTLED", throttled, Some(4)),
    ("PRESSURE", pressure, Some(3)),
    ("FROZEN", frozen, Some(6)),
];
/// Shown only if a process was killed because memory ran out.
const OOM: Column = ("OOM", oom, None);

/// Formats the whole table, with at most `width` characters in a line.
pub(super) fn table(rows: &[Row<'_>], width: Option<usize>) -> String {
    let mut columns = COLUMNS.to_vec();
    if rows
        .iter()
        .any(|row| row.now.is_some_and(|now| now.cgroup.oom_kills > Some(0)))
    {
        columns.push(OOM);
    }
    loop {
        let text = render(rows, &columns);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let next = columns.iter().filter_map(|(_, _, turn)| *turn).min();
        match (width, next) {
            (Some(width), Some(next)) if widest > width => columns.retain(|(.., turn)| *turn != Some(next)),
            (Some(width), None) if widest > width => return cut(&text, width),
            _ => return text,
        }
    }
}

/// Returns the output that redraws a terminal: moves the cursor home, rewrites each line to its end, and clears
/// everything below.
pub(super) fn frame(rows: &[Row<'_>], screen: Screen, first: bool) -> String {
    let text = table(rows, Some(screen.columns));
    // The last line of the screen stays empty, so that the screen does not scroll.
    let room = screen.rows.saturating_sub(1).max(1);
    let all = text.lines().count();
    let mut lines: Vec<_> = text.lines().take(room).map(str::to_owned).collect();
    if all > room {
        let hidden = all - room + 1;
        lines.pop();
        lines.push(cut(&format!("... and {hidden} more"), screen.columns));
    }
    let begin = if first { "\x1b[2J\x1b[H" } else { "\x1b[H" };
    format!("{begin}{}\x1b[K\n\x1b[J", lines.join("\x1b[K\n"))
}

fn render(rows: &[Row<'_>], columns: &[Column]) -> String {
    let heads: Vec<_> = columns.iter().map(|(head, ..)| *head).collect();
    let cells = |row: &Row<'_>| columns.iter().map(|(_, cell, _)| cell(row)).collect();
    output::table(&heads, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn cut(text: &str, width: usize) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().take(width).collect())
        .collect();
    lines.join("\n")
}

fn cpu(row: &Row<'_>) -> String {
    let rates = row.now.zip(row.before).map(|(now, before)| now.since(before));
    known(rates.and_then(|rates| rates.cpu_total).map(percent))
}

fn memory(row: &Row<'_>) -> String {
    let memory = row.now.and_then(|now| now.cgroup.memory);
    known(memory.map(|memory| bytes(memory.usage)))
}

fn limit(row: &Row<'_>) -> String {
    let memory = row.now.and_then(|now| now.cgroup.memory);
    known(memory.map(|memory| memory.limit.map_or_else(|| "none".to_owned(), bytes)))
}

fn peak(row: &Row<'_>) -> String {
    let memory = row.now.and_then(|now| now.cgroup.memory);
    known(memory.and_then(|memory| memory.peak).map(bytes))
}

fn pids(row: &Row<'_>) -> String {
    known(
        row.now
            .and_then(|now| now.cgroup.pids)
            .map(|pids| pids.to_string()),
    )
}

fn network(row: &Row<'_>) -> String {
    let network = row.now.and_then(|now| now.network);
    known(network.map(|network| format!("{}/{}", bytes(network.rx), bytes(network.tx))))
}

fn disk(row: &Row<'_>) -> String {
    let disk = row.now.and_then(|now| now.cgroup.disk);
    known(disk.map(|disk| format!("{}/{}", bytes(disk.read), bytes(disk.written))))
}

/// The share of throttled periods since the previous reading. No periods pass in a container that has no quota or is
/// idle.
fn throttled(row: &Row<'_>) -> String {
    let readings = row.now.zip(row.before);
    let quotas = readings.and_then(|(now, before)| now.cgroup.throttling.zip(before.cgroup.throttling));
    known(quotas.map(|(now, before)| {
        let throttled = now.throttled.saturating_sub(before.throttled);
        let periods = now.periods.saturating_sub(before.periods);
        let share = throttled.saturating_mul(10_000).checked_div(periods);
        percent(share.unwrap_or(0))
    }))
}

fn pressure(row: &Row<'_>) -> String {
    let rates = row.now.zip(row.before).map(|(now, before)| now.since(before));
    let stalled = rates.and_then(|rates| {
        let (cpu, memory, io) = (rates.stalled_on_cpu, rates.stalled_on_memory, rates.stalled_on_io);
        Some((cpu.some?, memory.some?, io.some?))
    });
    let whole = |hundredths: u64| hundredths.saturating_add(50) / 100;
    known(stalled.map(|(cpu, memory, io)| format!("{}/{}/{}%", whole(cpu), whole(memory), whole(io))))
}

fn frozen(row: &Row<'_>) -> String {
    known(row.now.and_then(|now| now.frozen).map(time))
}

fn oom(row: &Row<'_>) -> String {
    let kills = row.now.and_then(|now| now.cgroup.oom_kills);
    known(kills.map(|kills| kills.to_string()))
}

fn known(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

/// Formats hundredths of a percent as a percentage.
fn percent(hundredths: u64) -> String {
    let tenths = hundredths.saturating_add(5) / 10;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// Formats bytes in the units of sizes on the command line, with one digit after the point.
fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("t", 1 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            match tenths % 10 {
                0 => format!("{}{name}", tenths / 10),
                tenth => format!("{}.{tenth}{name}", tenths / 10),
            }
        }
        None => bytes.to_string(),
    }
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.is_zero() => "0".to_owned(),
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::cgroup::{Memory, Sample, Throttling};

    fn usage(at: Instant, oom_kills: u64) -> Usage {
        let cgroup = Sample {
            at,
            memory: Some(Memory {
                usage: 33 << 20,
                limit: Some(64 << 20),
                peak: None,
            }),
            oom_kills: Some(oom_kills),
            cpu: None,
            throttling: Some(Throttling {
                periods: 10,
                throttled: 4,
                time: 1,
            }),
            pids: Some(7),
            disk: None,
            pressure: crate::cgroup::Pressure::default(),
            frozen: None,
        };
        Usage {
            at,
            read_by: at,
            cgroup,
            network: None,
            frozen: Some(Duration::from_millis(12_345)),
        }
    }

    fn row<'a>(id: &'a str, now: Option<&'a Usage>) -> Row<'a> {
        Row {
            id,
            state: "running",
            now,
            before: None,
        }
    }

    #[test]
    fn an_unknown_value_is_a_dash() {
        let usage = usage(Instant::now(), 0);
        let text = table(&[row("c1", Some(&usage)), row("gone", None)], None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "ID    STATE    CPU  MEM  LIMIT  PEAK  PIDS  NET IN/OUT  DISK IN/OUT  THROTTLED  PRESSURE  FROZEN",
                "c1    running  -    33m  64m    -     7     -           -            -          -         12.3s",
                "gone  running  -    -    -      -     -     -           -            -          -         -",
            ]
        );
    }

    #[test]
    fn kills_for_memory_have_a_column_once_there_are_some() {
        let (none, some) = (usage(Instant::now(), 0), usage(Instant::now(), 2));
        assert!(!table(&[row("a", Some(&none))], None).contains("OOM"));
        let text = table(&[row("a", Some(&none)), row("b", Some(&some))], None);
        assert!(
            text.lines().nth(2).is_some_and(|line| line.ends_with("  2")),
            "{text}"
        );
    }

    #[test]
    fn a_narrow_terminal_loses_columns_and_never_breaks_a_line() {
        let usage = usage(Instant::now(), 0);
        let rows = [row("a-container-with-a-long-name", Some(&usage))];
        for width in [1, 10, 40, 60, 80, 100, 132] {
            let text = table(&rows, Some(width));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{width}: {text}");
        }
        let text = table(&rows, Some(80));
        assert!(
            text.contains("MEM") && text.contains("PIDS") && !text.contains("DISK"),
            "{text}"
        );
    }

    #[test]
    fn a_low_terminal_shows_how_many_rows_it_hides() {
        let usage = usage(Instant::now(), 0);
        let names = ["a", "b", "c", "d", "e"];
        let rows = names.map(|name| row(name, Some(&usage)));
        let screen = |rows| Screen { columns: 80, rows };
        let frame_of = |height| frame(&rows, screen(height), false);
        assert!(frame_of(5).contains("... and 3 more"), "{}", frame_of(5));
        assert_eq!(frame_of(5).lines().count(), 5);
        assert!(!frame_of(7).contains("more"));
        assert!(frame(&rows, screen(7), true).starts_with("\x1b[2J"));
    }

    #[test]
    fn numbers_have_units_that_suit_them() {
        let sizes = [0, 1023, 1024, 1536, 64 << 20, (3 << 30) + (1 << 29), u64::MAX].map(bytes);
        assert_eq!(sizes, ["0", "1023", "1k", "1.5k", "64m", "3.5g", "16777215.9t"]);
        let percents = [0, 4, 5, 9_999, 10_000, 15_050].map(percent);
        assert_eq!(percents, ["0.0%", "0.0%", "0.1%", "100.0%", "100.0%", "150.5%"]);
        let times = [0, 7, 1_250, 61_000, 7_260_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(times, ["0", "7ms", "1.2s", "1m01s", "2h01m"]);
    }
}
