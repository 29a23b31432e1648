//! Rate limits of sources (SPEC I6).
//!
//! Owns how many requests a second each source still takes: a bucket that holds one second's worth. Must not
//! read clocks: the time is passed in, and only moves forward.

use std::collections::HashMap;
use std::time::Duration;

use hookfast_engine::id::SourceId;
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);

/// The rate limits of all sources that have one.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// For each source, when its bucket will be full again.
    full_at: Mutex<HashMap<SourceId, Duration>>,
}

impl RateLimits {
    /// Takes one request of a source that may have `rate` a second, at `now` since any fixed point.
    ///
    /// # Errors
    /// How long to wait where the bucket is empty.
    pub fn take(&self, source: SourceId, rate: u32, now: Duration) -> Result<(), Duration> {
        let interval = SECOND / rate.max(1);
        let mut full_at = self.full_at.lock();
        let at = full_at.entry(source).or_insert(now);
        let after = (*at).max(now) + interval;
        let wait = after.saturating_sub(now + SECOND);
        if rate == 0 || !wait.is_zero() {
            return Err(wait.max(interval));
        }
        *at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hookfast_engine::time::Timestamp;

    use super::*;

    #[test]
    fn a_second_holds_exactly_as_many_requests_as_the_rate() {
        let (limits, start) = (RateLimits::default(), Duration::from_secs(100));
        let source = SourceId::new(Timestamp::EPOCH, 1);
        let other = SourceId::new(Timestamp::EPOCH, 2);
        for _ in 0..10 {
            assert_eq!(limits.take(source, 10, start), Ok(()));
        }
        assert_eq!(limits.take(source, 10, start), Err(Duration::from_millis(100)));
        assert_eq!(limits.take(other, 10, start), Ok(()));
        let later = start + Duration::from_millis(100);
        assert_eq!(limits.take(source, 10, later), Ok(()));
        assert!(limits.take(source, 10, later).is_err());
        let much_later = start + Duration::from_secs(60);
        let taken = (0..100).filter(|_| limits.take(source, 10, much_later).is_ok());
        assert_eq!(taken.count(), 10);
    }

    #[test]
    fn a_rate_of_zero_takes_nothing() {
        let source = SourceId::new(Timestamp::EPOCH, 1);
        assert_eq!(RateLimits::default().take(source, 0, SECOND), Err(SECOND));
    }
}
