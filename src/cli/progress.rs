//! How far a pull is, for people: bars on a terminal, else a line for each step of a layer; for programs: JSON lines.

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::sync::watch;

use super::output::{Print, note};
use crate::engine::{LayerProgress, LayerState, Progress};

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(100);
/// The most layers that have a bar at once; more would not fit on a screen.
const BARS: usize = 12;
/// Of the bar alone.
const WIDTH: usize = 30;

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Nothing,
    Lines,
    Bars,
    Json,
}

/// Shows progress until the work has ended.
pub(super) async fn until<T>(
    work: impl Future<Output = T>,
    mut progress: watch::Receiver<Progress>,
    show: Show,
) -> T {
    let mut work = std::pin::pin!(work);
    let mut screen = Screen {
        show,
        shown: Progress::default(),
        drawn: 0,
    };
    loop {
        // Something new, but not too often.
        let next = async {
            tokio::time::sleep(REDRAW).await;
            if progress.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let out = tokio::select! {
            biased;
            out = &mut work => Some(out),
            () = next => None,
        };
        screen.update(progress.borrow_and_update().clone());
        if let Some(out) = out {
            return out;
        }
    }
}

struct Screen {
    show: Show,
    shown: Progress,
    /// How many lines of bars are on the terminal.
    drawn: usize,
}

impl Screen {
    fn update(&mut self, now: Progress) {
        match self.show {
            Show::Nothing => {}
            Show::Lines => lines(&self.shown, &now).iter().for_each(|line| note(line)),
            Show::Json => changes(&self.shown, &now)
                .iter()
                .for_each(|value| Print::new(true).json(value)),
            Show::Bars => {
                let bars = bars(&now);
                let mut text = String::new();
                if self.drawn > 0 {
                    // Up to where the last ones began, and away with them.
                    text = format!("\x1b[{}A\x1b[J", self.drawn);
                }
                for bar in &bars {
                    text.push_str(bar);
                    text.push('\n');
                }
                self.drawn = bars.len();
                drop(io::stderr().lock().write_all(text.as_bytes()));
            }
        }
        self.shown = now;
    }
}

fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Waiting => "waiting",
        LayerState::Downloading(_) => "downloading",
        LayerState::Fetched => "fetched",
        LayerState::Extracting => "extracting",
        LayerState::Done => "done",
        LayerState::Exists => "exists",
    }
}

/// The layers that are in another state than before, as a person reads them.
fn lines(before: &Progress, now: &Progress) -> Vec<String> {
    let mut lines = Vec::new();
    if now.retries > before.retries {
        lines.push("pulling again".to_owned());
    }
    for (at, layer) in now.layers.iter().enumerate() {
        let was = before.layers.get(at).map(|layer| word(layer.state));
        let is = word(layer.state);
        if was != Some(is) && layer.state != LayerState::Waiting {
            lines.push(format!(
                "{}: {is} ({})",
                short(layer.digest.hex()),
                size(layer.total)
            ));
        }
    }
    lines
}

/// The same for programs; bytes count as a change too.
fn changes(before: &Progress, now: &Progress) -> Vec<serde_json::Value> {
    let changed = now
        .layers
        .iter()
        .enumerate()
        .filter(|(at, layer)| before.layers.get(*at) != Some(layer));
    changed
        .map(|(_, layer)| {
            serde_json::json!({
                "layer": layer.digest.as_str(),
                "state": word(layer.state),
                "current": current(layer),
                "total": layer.total,
            })
        })
        .collect()
}

fn current(layer: &LayerProgress) -> u64 {
    match layer.state {
        LayerState::Waiting => 0,
        LayerState::Downloading(bytes) => bytes,
        _ => layer.total,
    }
}

/// A line for the whole, and one for each layer that something happens to.
fn bars(now: &Progress) -> Vec<String> {
    let done = |state| matches!(state, LayerState::Done | LayerState::Exists);
    let layers = &now.layers;
    if layers.is_empty() {
        return vec!["resolving".to_owned()];
    }
    let finished = layers.iter().filter(|layer| done(layer.state)).count();
    let mut lines = vec![format!("{finished} of {} layers", layers.len())];
    let busy = layers
        .iter()
        .filter(|layer| !done(layer.state) && layer.state != LayerState::Waiting);
    for layer in busy.take(BARS) {
        let name = short(layer.digest.hex());
        lines.push(match layer.state {
            LayerState::Downloading(bytes) => {
                format!(
                    "{name}: {} {}/{}",
                    bar(bytes, layer.total),
                    size(bytes),
                    size(layer.total)
                )
            }
            state => format!("{name}: {} {}", word(state), size(layer.total)),
        });
    }
    lines
}

fn bar(bytes: u64, total: u64) -> String {
    let share = bytes.saturating_mul(WIDTH as u64).checked_div(total);
    let filled = share.map_or(0, |share| usize::try_from(share).unwrap_or(WIDTH).min(WIDTH));
    let mut bar = String::from("[");
    for at in 0..WIDTH {
        bar.push(match at.cmp(&filled) {
            std::cmp::Ordering::Less => '=',
            std::cmp::Ordering::Equal => '>',
            std::cmp::Ordering::Greater => ' ',
        });
    }
    bar.push(']');
    bar
}

fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}

/// Bytes as docker shows them, in powers of a thousand.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn at(states: &[LayerState]) -> Progress {
        let mut progress = Progress::default();
        for (at, state) in states.iter().enumerate() {
            let digest = Digest::new(format!("sha256:{}", format!("{at:x}").repeat(64))).unwrap();
            progress.layers.push(LayerProgress {
                digest,
                total: 2_500_000,
                state: *state,
            });
        }
        progress
    }

    #[test]
    fn a_line_is_written_for_each_step_and_not_for_bytes() {
        use LayerState::*;
        let before = at(&[Waiting, Downloading(1), Exists]);
        let now = at(&[Downloading(5), Downloading(9), Exists]);
        assert_eq!(lines(&before, &now), ["000000000000: downloading (2.5MB)"]);
        assert_eq!(changes(&before, &now).len(), 2);
        assert_eq!(lines(&now, &now), Vec::<String>::new());
    }

    #[test]
    fn bars_show_what_is_going_on() {
        use LayerState::*;
        let now = at(&[Done, Downloading(1_250_000), Extracting, Waiting]);
        assert_eq!(
            bars(&now),
            [
                "1 of 4 layers",
                "111111111111: [===============>              ] 1.2MB/2.5MB",
                "222222222222: extracting 2.5MB",
            ]
        );
        assert_eq!(bars(&Progress::default()), ["resolving"]);
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1.0kB"),
            (12_340_000, "12.3MB"),
            (5_000_000_000, "5.0GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
