//! Owns the clocks of the tests and the one way to wait for what cannot signal.
//! It must not know what is waited for.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything in a test may take before it counts as hung: generous, as machines that test are busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Now, to measure with.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of the real binary lives in real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, in whole seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of the real binary lives in real time"
)]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Looks until `look` finds something, and fails with `what` where it does not within `LIMIT`.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, look)
}

/// Looks until `look` finds something, and fails with `what` where it does not within `limit`.
pub(crate) fn wait_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
