//! Time and chance.
//!
//! The only file that reads clocks and draws entropy (clippy bans both elsewhere). Everything else is given
//! a [`Clock`], or better the time itself.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads clocks and draws entropy"
)]

use std::time::{Duration, Instant, SystemTime};

use hookfast_engine::time::Timestamp;

/// The system's clock and its source of entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The time, in microseconds since the Unix epoch.
    #[must_use]
    pub fn now(self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::EPOCH.plus(since_epoch)
    }

    /// A point to measure durations from, which no change of the clock moves.
    #[must_use]
    pub fn start(self) -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// 128 bits that nobody can guess.
    ///
    /// # Panics
    /// Where the operating system has no entropy: nothing safe can be done without.
    #[must_use]
    pub fn entropy(self) -> u128 {
        u128::from_ne_bytes(self.entropy_bytes())
    }

    /// `N` bytes that nobody can guess.
    ///
    /// # Panics
    /// As [`Clock::entropy`].
    #[must_use]
    pub fn entropy_bytes<const N: usize>(self) -> [u8; N] {
        let mut bytes = [0; N];
        if let Err(error) = getrandom::fill(&mut bytes) {
            panic!("the operating system gives no entropy: {error}");
        }
        bytes
    }
}

/// A point in monotonic time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// How long ago it was started.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
