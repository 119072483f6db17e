//! Measurements and their percentiles.

use std::time::Duration;

/// The measured values, in the order of measurement.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures(Vec<Duration>);

impl Figures {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The smallest measured value that is at least as large as `percent` % of the values (nearest-rank method); zero
    /// without any values.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// A percentile in microseconds, rounded to a tenth.
    pub(super) fn us(&self, percent: usize) -> f64 {
        (self.percentile(percent).as_secs_f64() * 1e7).round() / 10.0
    }

    /// A percentile in milliseconds, rounded to a thousandth.
    pub(super) fn ms(&self, percent: usize) -> f64 {
        (self.percentile(percent).as_secs_f64() * 1e6).round() / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut figures = Figures::default();
        assert_eq!(figures.percentile(50), Duration::ZERO);
        for n in (1..=100).rev() {
            figures.push(Duration::from_millis(n));
        }
        assert_eq!(figures.percentile(50), Duration::from_millis(50));
        assert_eq!(figures.percentile(99), Duration::from_millis(99));
        assert_eq!(figures.percentile(100), Duration::from_millis(100));
        assert!((figures.ms(90) - 90.0).abs() < f64::EPSILON);
    }
}
