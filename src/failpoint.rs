//! Points at which a test can kill this process, to verify that a process leaves nothing behind whenever it dies.
//!
//! In a build with the feature `failpoints`, `FNCTR_FAILPOINT=NAME` ends the process by SIGKILL as soon as it reaches the
//! point of that name, `FNCTR_STOP_POINT=NAME` stops it there by SIGSTOP, and `FNCTR_FAILPOINT_LOG=FILE` writes the name
//! of each point that it reaches to a file.
//! `FNCTR_CLOCK_OFFSET=SECONDS` sets the host's clock wrong for this process alone. Without the feature, which no
//! release has, a point does nothing.

#[cfg(feature = "failpoints")]
mod enabled {
    use std::io::Write as _;
    use std::sync::OnceLock;

    use nix::sys::signal::{Signal, raise};

    /// How many seconds the host's clock is to be wrong by.
    pub(crate) fn clock_offset() -> i64 {
        static OFFSET: OnceLock<i64> = OnceLock::new();
        *OFFSET.get_or_init(|| {
            let offset = std::env::var("FNCTR_CLOCK_OFFSET").ok();
            offset.and_then(|offset| offset.parse().ok()).unwrap_or(0)
        })
    }

    /// Reaches the point `kind:name`.
    pub(crate) fn reach(kind: &str, name: &str) {
        static WANTED: OnceLock<[Option<String>; 3]> = OnceLock::new();
        let names = ["FNCTR_FAILPOINT", "FNCTR_STOP_POINT", "FNCTR_FAILPOINT_LOG"];
        let [end, stop, log] = WANTED.get_or_init(|| names.map(|name| std::env::var(name).ok()));
        let point = format!("{kind}:{name}");
        if let Some(log) = log {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
            let written = file.and_then(|mut file| writeln!(file, "{point}"));
            debug_assert!(written.is_ok(), "the log of points can be written");
        }
        for (wanted, signal) in [(end, Signal::SIGKILL), (stop, Signal::SIGSTOP)] {
            if wanted.as_ref() == Some(&point) {
                // To this thread, so that it goes no further: a signal to the process may be another thread's to act on.
                let sent = raise(signal);
                debug_assert!(sent.is_ok(), "a thread may signal itself");
            }
        }
    }
}

#[cfg(not(feature = "failpoints"))]
mod enabled {
    /// The clock is right.
    #[inline]
    pub(crate) fn clock_offset() -> i64 {
        0
    }

    /// Does nothing.
    #[inline]
    pub(crate) fn reach(_: &str, _: &str) {}
}

pub(crate) use enabled::{clock_offset, reach};
