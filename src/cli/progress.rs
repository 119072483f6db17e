//! Progress of a pull: bars on a terminal, otherwise a line for each step of a layer; for programs, lines of JSON.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::output::{Print, note, plain};
use crate::engine::{LayerProgress, LayerState, Progress};

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(100);
/// The largest number of layers with a bar at once. More would not fit on a screen.
const BARS: usize = 12;
/// The largest and the smallest useful width of a bar in columns, without its brackets.
const WIDEST: usize = 30;
const NARROWEST: usize = 5;
/// The period over which a speed is measured.
const WINDOW: Duration = Duration::from_secs(3);

/// How progress is shown.
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
        speed: Speed::default(),
    };
    loop {
        // Wait for a change, but redraw at most once in this time.
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
    speed: Speed,
}

/// Measures how fast bytes arrive, from the readings of the last seconds.
#[derive(Default)]
struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    /// Adds a reading, and returns the speed in bytes per second; `None` until time has passed between two readings.
    fn now(&mut self, at: Instant, bytes: u64) -> Option<u64> {
        self.0.push_back((at, bytes));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(then, _)| at - *then >= WINDOW) {
            self.0.pop_front();
        }
        let (since, before) = *self.0.front()?;
        let ms = u64::try_from((at - since).as_millis()).ok()?;
        // A pull that was begun again has fewer bytes than before.
        (bytes.saturating_sub(before) * 1000).checked_div(ms)
    }
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
                let speed = self.speed.now(Instant::now(), fetched(&now).0);
                let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
                // Bars must not wrap, or the cursor would have to go back over more lines than were drawn.
                let columns = if columns == 0 { usize::MAX } else { columns.into() };
                let bars = bars(&now, speed, columns);
                let mut text = String::new();
                if self.drawn > 0 {
                    // Move the cursor to the first of the previous bars, and erase them.
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

/// Returns a line for each layer whose state has changed, for people.
fn lines(before: &Progress, now: &Progress) -> Vec<String> {
    let mut lines = Vec::new();
    if now.retries > before.retries {
        let why = now.last.as_ref().map(|why| format!(": {}", plain(why)));
        lines.push(format!("pulling again{}", why.unwrap_or_default()));
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

/// Returns a JSON value for each layer that has changed, including its number of bytes, for programs.
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

/// Of the layers that have to be fetched, the bytes that have arrived and the bytes in total.
fn fetched(now: &Progress) -> (u64, u64) {
    let comes = now
        .layers
        .iter()
        .filter(|layer| layer.state != LayerState::Exists);
    comes.fold((0, 0), |(here, all), layer| {
        (here + current(layer), all + layer.total)
    })
}

/// Returns a line for the whole pull, and one for each layer in progress. No line is longer than `columns`.
fn bars(now: &Progress, speed: Option<u64>, columns: usize) -> Vec<String> {
    let done = |state| matches!(state, LayerState::Done | LayerState::Exists);
    let layers = &now.layers;
    if layers.is_empty() {
        return vec![cut("resolving", columns)];
    }
    let finished = layers.iter().filter(|layer| done(layer.state)).count();
    let (here, all) = fetched(now);
    if layers.iter().all(|layer| layer.state == LayerState::Exists) {
        return vec![cut("all layers are here", columns)];
    }
    let mut whole = format!(
        "{finished} of {} layers, {} of {}",
        layers.len(),
        size(here),
        size(all)
    );
    if let Some(speed) = speed.filter(|_| here < all) {
        whole.push_str(&format!(", {}/s", size(speed)));
    }
    let mut lines = vec![cut(&whole, columns)];
    let busy = layers
        .iter()
        .filter(|layer| !done(layer.state) && layer.state != LayerState::Waiting);
    for layer in busy.take(BARS) {
        let name = short(layer.digest.hex());
        let line = match layer.state {
            LayerState::Downloading(bytes) => {
                let sizes = format!("{}/{}", size(bytes), size(layer.total));
                // The name, the sizes, the separators and the brackets of the bar take the rest of the line.
                let room = columns.saturating_sub(name.len() + sizes.len() + ": [] ".len());
                match room.min(WIDEST) {
                    0..NARROWEST => format!("{name}: {sizes}"),
                    room => format!("{name}: {} {sizes}", bar(bytes, layer.total, room)),
                }
            }
            state => format!("{name}: {} {}", word(state), size(layer.total)),
        };
        lines.push(cut(&line, columns));
    }
    lines
}

fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

fn bar(bytes: u64, total: u64, width: usize) -> String {
    let share = bytes.saturating_mul(width as u64).checked_div(total);
    let filled = share.map_or(0, |share| usize::try_from(share).unwrap_or(width).min(width));
    let mut bar = String::from("[");
    for at in 0..width {
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

/// Formats bytes as docker does, in powers of a thousand.
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
    fn bars_show_what_is_going_on_and_fit_into_the_terminal() {
        use LayerState::*;
        let now = at(&[Done, Downloading(1_250_000), Extracting, Waiting, Exists]);
        assert_eq!(
            bars(&now, Some(3_000_000), 80),
            [
                "2 of 5 layers, 6.2MB of 10.0MB, 3.0MB/s",
                "111111111111: [===============>              ] 1.2MB/2.5MB",
                "222222222222: extracting 2.5MB",
            ]
        );
        assert_eq!(
            bars(&now, None, 44)[1],
            "111111111111: [========>       ] 1.2MB/2.5MB"
        );
        assert_eq!(bars(&now, None, 30)[1], "111111111111: 1.2MB/2.5MB");
        for columns in [0, 1, 7, 20, 33, 44] {
            let widest = bars(&now, Some(1), columns)
                .iter()
                .map(|line| line.chars().count())
                .max();
            assert!(widest <= Some(columns), "{columns}");
        }
        assert_eq!(bars(&Progress::default(), None, 80), ["resolving"]);
        assert_eq!(bars(&at(&[Exists, Exists]), None, 80), ["all layers are here"]);
    }

    #[test]
    fn a_speed_is_that_of_the_last_seconds() {
        let (mut speed, begin) = (Speed::default(), Instant::now());
        let mut at = |ms, bytes| speed.now(begin + Duration::from_millis(ms), bytes);
        assert_eq!(at(0, 0), None);
        assert_eq!(at(500, 1000), Some(2000));
        assert_eq!(at(1000, 1000), Some(1000));
        assert_eq!(at(5000, 5000), Some(1000));
        assert_eq!(at(6000, 9000), Some(1600));
        assert_eq!(at(6500, 0), Some(0), "it began again");
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
