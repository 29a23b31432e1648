//! Owns how long the tests with rounds go on, and the chance they are played with.
//! It must not know what a round is.

use super::time::unix_seconds;

/// `short` where every change waits for the test, `night` where a night has room for it (`HOOKFAST_NIGHTLY=1`).
pub(crate) fn short_or_nightly<T>(short: T, night: T) -> T {
    if std::env::var_os("HOOKFAST_NIGHTLY").is_some_and(|value| value == "1") {
        night
    } else {
        short
    }
}

/// Numbers that look like chance; the same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Chance {
    /// What it began with: `HOOKFAST_SEED`, or the time.
    pub(crate) seed: u64,
    state: u64,
}

impl Chance {
    /// Begins with the seed of the environment, or with one that differs from run to run.
    pub(crate) fn new() -> Self {
        let given = std::env::var("HOOKFAST_SEED").ok();
        let given = given.map(|text| text.parse().expect("HOOKFAST_SEED is a number"));
        let seed = given.unwrap_or_else(unix_seconds);
        Self { seed, state: seed }
    }

    /// A number from `low` up to and without `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        low + mix(self.state) % (high - low)
    }
}

/// A number that looks like chance and is always the same for the same text.
pub(crate) fn hash(text: &str) -> u64 {
    let fold = |hash: u64, byte| mix(hash ^ u64::from(byte));
    text.bytes().fold(0x005e_ed0f_7e57, fold)
}

/// The finalizer of `SplitMix64`.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
