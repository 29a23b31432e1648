//! Owns every reading of a clock in this package; the rest of it takes times as values.
//! It must not know what the times are for.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time of this process, for durations.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this package reads the monotonic clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since 1970 (UTC). Two processes of one machine can compare it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this package reads the wall clock"
)]
pub(crate) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of monotonic time since `start`.
pub(crate) fn nanos_since(start: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}
