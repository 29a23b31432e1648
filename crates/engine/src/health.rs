//! A destination's health: its breaker and its windows.
//!
//! Owns when a destination that is down is left alone, when it is probed, and when it is back (SPEC I10); and,
//! in `failing`, when it is failing and failed (SPEC O6). Its policy says which of the two watches it. Must not
//! know single deliveries. It is stored with the settlement that changed it, so it survives a restart. "Open"
//! means that attempts are suspended, as in SPEC.md.

mod failing;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::failing::{
    FAILED_AFTER, FAILING_PERCENT, FAILING_PROBE_FIRST, FAILING_PROBE_LONGEST, FAILING_WINDOW, SAMPLES_LEAST,
};
use self::failing::{Shown, Windows};
use crate::retry::Policy;
use crate::time::Timestamp;

/// The breaker opens at this many failures in a row …
pub const BREAKER_FAILURES_IN_A_ROW: u32 = 10;
/// … and at least half of the attempts failed over this many seconds.
pub const BREAKER_WINDOW_SECONDS: i64 = 10;
/// The first probe comes this long after the breaker opened.
pub const PROBE_DELAY_FIRST: Duration = Duration::from_secs(1);
/// Probes are never further apart than this.
pub const PROBE_DELAY_LONGEST: Duration = Duration::from_secs(30);

/// What is known of a destination's health.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Health {
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// When the last attempt succeeded.
    pub last_success_at: Option<Timestamp>,
    /// When the last attempt failed.
    pub last_failure_at: Option<Timestamp>,
    /// The attempts of the last seconds, one bucket a second, oldest first.
    recent: Vec<Second>,
    /// Set while the breaker is open.
    open: Option<Open>,
    /// How long the breaker was open in all, before it opened last.
    open_before: Duration,
    /// The windows of the outbox.
    #[serde(skip_serializing_if = "Windows::is_unused")]
    windows: Windows,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Second {
    at: i64,
    succeeded: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Open {
    since: Timestamp,
    probe_at: Timestamp,
    probe_delay: Duration,
}

/// What a destination admits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// Attempts, up to its limits.
    Ready,
    /// One probe at a time, not before this time.
    ProbeAt(Timestamp),
}

/// What recording an attempt changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Nothing that others need to know.
    None,
    /// The breaker opened.
    Opened,
    /// The breaker closed: what waits is due at once.
    Closed,
    /// The destination is failing: so many of so many attempts in the window were bad.
    Failing {
        /// The bad ones.
        bad: u64,
        /// All of them.
        total: u64,
    },
    /// The destination has failed, after so many bad attempts while it was failing.
    Failed {
        /// The attempts.
        attempts: u64,
    },
    /// The destination was failing and is back.
    Recovered,
}

impl Health {
    /// What the destination admits.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let probe_at = self.open.map(|open| open.probe_at);
        let probe_at = probe_at.or_else(|| self.windows.probe_at());
        probe_at.map_or(Gate::Ready, Gate::ProbeAt)
    }

    /// Since when the destination is failing, where it is.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.windows.failing_since()
    }

    /// Good and bad attempts of the 15 minutes before `now`, where windows watch the destination.
    #[must_use]
    pub fn window_counts(&self, now: Timestamp) -> (u64, u64) {
        self.windows.counts(now)
    }

    /// Forgets what was held against the destination: somebody made it active again.
    ///
    /// The breaker stays as it is: it belongs to the inbox, which nobody has to reactivate.
    pub fn reactivate(&mut self) {
        self.windows = Windows::default();
    }

    /// Since when the breaker is open, where it is.
    #[must_use]
    pub fn open_since(&self) -> Option<Timestamp> {
        self.open.map(|open| open.since)
    }

    /// How long the breaker has been open in all, up to `now`.
    #[must_use]
    pub fn open_total(&self, now: Timestamp) -> Duration {
        self.open_before
            .saturating_add(self.open.map_or(Duration::ZERO, |open| now.since(open.since)))
    }

    /// Records a success. The destination's `policy` says what watches it.
    pub fn succeeded(&mut self, now: Timestamp, policy: &Policy) -> Change {
        self.failures_in_a_row = 0;
        self.last_success_at = Some(now);
        if policy.breaker {
            self.second(now).succeeded += 1;
        }
        let shown = if policy.health_windows {
            self.windows.good(now)
        } else {
            self.windows = Windows::default();
            Shown::Nothing
        };
        match self.open.take() {
            Some(open) => {
                self.open_before = self.open_before.saturating_add(now.since(open.since));
                self.recent.clear();
                Change::Closed
            }
            None => change_of(shown),
        }
    }

    /// Records a failure. The destination's `policy` says what watches it.
    pub fn failed(&mut self, now: Timestamp, policy: &Policy) -> Change {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.last_failure_at = Some(now);
        if policy.health_windows {
            let change = change_of(self.windows.bad(now));
            if change != Change::None {
                return change;
            }
        } else {
            self.windows = Windows::default();
        }
        if policy.breaker {
            self.second(now).failed += 1;
        }
        let should_open = policy.breaker && self.should_open();
        match &mut self.open {
            // Attempts that were under way when it opened end here too; only a probe that was due counts.
            Some(open) if open.probe_at <= now => {
                open.probe_delay = open.probe_delay.saturating_mul(2).min(PROBE_DELAY_LONGEST);
                open.probe_at = now.plus(open.probe_delay);
                Change::None
            }
            Some(_) => Change::None,
            None if should_open => {
                let probe_at = now.plus(PROBE_DELAY_FIRST);
                self.open = Some(Open {
                    since: now,
                    probe_at,
                    probe_delay: PROBE_DELAY_FIRST,
                });
                Change::Opened
            }
            None => Change::None,
        }
    }

    fn should_open(&self) -> bool {
        let failed: u32 = self.recent.iter().map(|second| second.failed).sum();
        let succeeded: u32 = self.recent.iter().map(|second| second.succeeded).sum();
        self.failures_in_a_row >= BREAKER_FAILURES_IN_A_ROW && failed >= succeeded
    }

    /// The bucket of the second that `now` falls in; older ones than the window are dropped.
    fn second(&mut self, now: Timestamp) -> &mut Second {
        let at = now.as_secs();
        self.recent
            .retain(|second| second.at > at - BREAKER_WINDOW_SECONDS && second.at <= at);
        if self.recent.last().is_none_or(|last| last.at != at) {
            self.recent.push(Second {
                at,
                succeeded: 0,
                failed: 0,
            });
        }
        let last = self.recent.len() - 1;
        &mut self.recent[last]
    }
}

fn change_of(shown: Shown) -> Change {
    match shown {
        Shown::Nothing => Change::None,
        Shown::Failing { bad, total } => Change::Failing { bad, total },
        Shown::Failed { attempts } => Change::Failed { attempts },
        Shown::Recovered => Change::Recovered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn at(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    fn without() -> Policy {
        Policy {
            breaker: false,
            ..Policy::inbox()
        }
    }

    fn opened() -> Health {
        let mut health = Health::default();
        let changes: Vec<Change> = (0..10).map(|n| health.failed(at(n), &Policy::inbox())).collect();
        assert_eq!(changes[8..], [Change::None, Change::Opened]);
        health
    }

    #[test]
    fn ten_failures_in_a_row_open_the_breaker_and_nine_do_not() {
        let health = opened();
        assert_eq!(health.gate(), Gate::ProbeAt(at(1_009)));
    }

    #[test]
    fn ten_failures_after_many_successes_in_the_window_do_not_open_it() {
        let mut health = Health::default();
        (0..11).for_each(|n| _ = health.succeeded(at(n), &Policy::inbox()));
        (0..10).for_each(|n| assert_eq!(health.failed(at(100 + n), &Policy::inbox()), Change::None));
        assert_eq!(health.failed(at(200), &Policy::inbox()), Change::Opened);
    }

    #[test]
    fn a_policy_without_a_breaker_never_opens_it() {
        let mut health = Health::default();
        (0..1_000).for_each(|n| assert_eq!(health.failed(at(n), &without()), Change::None));
        assert_eq!(health.gate(), Gate::Ready);
    }

    #[test]
    fn probes_come_after_one_second_and_double_to_thirty() {
        let mut health = opened();
        let mut now = at(9);
        let mut gaps = Vec::new();
        for _ in 0..8 {
            let Gate::ProbeAt(probe_at) = health.gate() else {
                panic!("closed")
            };
            gaps.push(probe_at.since(now).as_secs());
            now = probe_at;
            health.failed(now, &Policy::inbox());
        }
        assert_eq!(gaps, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn attempts_that_were_under_way_do_not_delay_the_probe() {
        let mut health = opened();
        let gate = health.gate();
        health.failed(at(500), &Policy::inbox());
        assert_eq!(health.gate(), gate);
    }

    #[test]
    fn a_success_closes_it_and_the_open_time_is_kept() {
        let mut health = opened();
        assert_eq!(health.open_total(at(5_009)), Duration::from_secs(5));
        assert_eq!(health.succeeded(at(10_009), &Policy::inbox()), Change::Closed);
        assert_eq!(health.gate(), Gate::Ready);
        assert_eq!(health.open_total(at(99_000)), Duration::from_secs(10));
        assert_eq!(
            health.failed(at(99_000), &Policy::inbox()),
            Change::None,
            "the count starts anew"
        );
    }

    #[test]
    fn a_failing_destination_is_probed_until_a_success_or_somebody_ends_it() {
        let mut health = Health::default();
        let minutes = |n: u64| START.plus(Duration::from_secs(n * 30));
        let changes: Vec<Change> = (0..=30)
            .map(|n| health.failed(minutes(n), &Policy::standard()))
            .collect();
        assert!(
            matches!(changes.last(), Some(Change::Failing { .. })),
            "{changes:?}"
        );
        assert!(matches!(health.gate(), Gate::ProbeAt(_)));
        assert_eq!(health.failing_since(), Some(minutes(30)));
        let mut reactivated = health.clone();
        reactivated.reactivate();
        assert_eq!(
            (reactivated.gate(), reactivated.failing_since()),
            (Gate::Ready, None)
        );
        assert_eq!(
            health.succeeded(minutes(32), &Policy::standard()),
            Change::Recovered
        );
        assert_eq!(health.gate(), Gate::Ready);
    }

    #[test]
    fn the_inbox_has_no_windows_however_long_it_fails() {
        let mut health = Health::default();
        for n in 0..10_000 {
            let change = health.failed(START.plus(Duration::from_secs(n * 60)), &Policy::inbox());
            assert!(matches!(change, Change::None | Change::Opened), "{change:?}");
        }
        assert_eq!(health.failing_since(), None);
    }
}
