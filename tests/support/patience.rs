//! How long the tests wait for what must come: long enough for a machine that is busy with other things. On an emulated
//! one everything takes longer still: `FNCTR_TEST_PATIENCE` is the whole number that all such times are multiplied by.

use std::sync::OnceLock;
use std::time::Duration;

/// This time, on this machine.
pub(crate) fn patient(time: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| match std::env::var("FNCTR_TEST_PATIENCE") {
        Ok(text) => match text.parse() {
            Ok(factor) if factor > 0 => factor,
            _ => panic!("FNCTR_TEST_PATIENCE is {text:?}, and must be a whole number above 0"),
        },
        Err(_) => 3,
    });
    time * *factor
}
