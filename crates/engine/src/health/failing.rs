//! Whether a destination of the outbox is failing, and for how long (SPEC O6).
//!
//! Owns the window of 15 minutes, the probes while a destination is failing, and when it has failed. Must not
//! know the breaker, which is the inbox's, nor what a destination's status means for its deliveries.
//!
//! A success ends failing, so a destination that was failing throughout 72 hours has had no success in them:
//! the window of 72 hours needs no buckets beside the number of its attempts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A destination is failing once this share of its attempts, in percent, …
pub const FAILING_PERCENT: u64 = 95;
/// … in this window is bad, the first bad one as long ago, …
pub const FAILING_WINDOW: Duration = Duration::from_secs(15 * 60);
/// … among at least this many attempts.
pub const SAMPLES_LEAST: u64 = 20;
/// It has failed once it was failing for this long.
pub const FAILED_AFTER: Duration = Duration::from_secs(72 * 3_600);
/// The first probe of a failing destination comes this long after it began to fail.
pub const FAILING_PROBE_FIRST: Duration = Duration::from_secs(30);
/// Its probes are never further apart than this.
pub const FAILING_PROBE_LONGEST: Duration = Duration::from_secs(5 * 60);

const MINUTE_SECONDS: i64 = 60;

/// What is known of a destination that health windows watch.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Windows {
    /// The attempts of the last minutes, one bucket a minute, oldest first.
    minutes: Vec<Minute>,
    /// When the present run of mostly bad attempts began.
    bad_since: Option<Timestamp>,
    /// Set while it is failing.
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Minute {
    at: i64,
    good: u64,
    bad: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Failing {
    since: Timestamp,
    /// Bad attempts since then.
    attempts: u64,
    probe_at: Timestamp,
    probe_delay: Duration,
}

/// What recording an attempt showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    /// Nothing new.
    Nothing,
    /// It is failing: so many of so many attempts in the window were bad.
    Failing { bad: u64, total: u64 },
    /// It has failed: so many attempts while it was failing, and none good.
    Failed { attempts: u64 },
    /// It was failing and is not any more.
    Recovered,
}

impl Windows {
    /// Whether there is nothing to remember.
    pub(super) fn is_unused(&self) -> bool {
        self.minutes.is_empty() && self.bad_since.is_none() && self.failing.is_none()
    }

    /// When the next probe may be made, where it is failing.
    pub(super) fn probe_at(&self) -> Option<Timestamp> {
        self.failing.map(|failing| failing.probe_at)
    }

    /// Since when it is failing.
    pub(super) fn failing_since(&self) -> Option<Timestamp> {
        self.failing.map(|failing| failing.since)
    }

    /// Good and bad attempts in the window that ends at `now`.
    pub(super) fn counts(&self, now: Timestamp) -> (u64, u64) {
        let from = first_minute(now);
        let within = self.minutes.iter().filter(|minute| minute.at >= from);
        within.fold((0, 0), |(good, bad), minute| {
            (good + minute.good, bad + minute.bad)
        })
    }

    /// Records a success.
    pub(super) fn good(&mut self, now: Timestamp) -> Shown {
        if self.failing.is_some() {
            *self = Self::default();
            self.minute(now).good += 1;
            return Shown::Recovered;
        }
        self.minute(now).good += 1;
        let (good, bad) = self.counts(now);
        if !mostly_bad(good, bad) {
            self.bad_since = None;
        }
        Shown::Nothing
    }

    /// Records anything else.
    pub(super) fn bad(&mut self, now: Timestamp) -> Shown {
        if let Some(failing) = &mut self.failing {
            failing.attempts += 1;
            // Attempts that were under way when it began to fail end here too; only a probe that was due counts.
            if failing.probe_at <= now {
                failing.probe_delay = failing.probe_delay.saturating_mul(2).min(FAILING_PROBE_LONGEST);
                failing.probe_at = now.plus(failing.probe_delay);
            }
            let failed = failing.since.plus(FAILED_AFTER) <= now && failing.attempts >= SAMPLES_LEAST;
            if failed {
                let attempts = failing.attempts;
                *self = Self::default();
                return Shown::Failed { attempts };
            }
            return Shown::Nothing;
        }
        self.minute(now).bad += 1;
        let since = *self.bad_since.get_or_insert(now);
        let (good, bad) = self.counts(now);
        let enough = good + bad >= SAMPLES_LEAST && since.plus(FAILING_WINDOW) <= now;
        if !enough || !mostly_bad(good, bad) {
            return Shown::Nothing;
        }
        self.failing = Some(Failing {
            since: now,
            attempts: 0,
            probe_at: now.plus(FAILING_PROBE_FIRST),
            probe_delay: FAILING_PROBE_FIRST,
        });
        Shown::Failing {
            bad,
            total: good + bad,
        }
    }

    /// The bucket of the minute that `now` falls in; those before the window are dropped.
    fn minute(&mut self, now: Timestamp) -> &mut Minute {
        let (from, at) = (first_minute(now), now.as_secs().div_euclid(MINUTE_SECONDS));
        self.minutes.retain(|minute| minute.at >= from && minute.at <= at);
        if self.minutes.last().is_none_or(|last| last.at != at) {
            self.minutes.push(Minute { at, good: 0, bad: 0 });
        }
        let last = self.minutes.len() - 1;
        &mut self.minutes[last]
    }
}

/// The first minute that belongs to the window ending at `now`.
fn first_minute(now: Timestamp) -> i64 {
    now.minus(FAILING_WINDOW).as_secs().div_euclid(MINUTE_SECONDS)
}

fn mostly_bad(good: u64, bad: u64) -> bool {
    bad * 100 >= (good + bad) * FAILING_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_790_000_040);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    /// Bad attempts every `step` seconds from `from` until something shows; when, and what.
    fn fail(windows: &mut Windows, from: u64, step: u64) -> (u64, Shown) {
        let shown = |seconds: u64, windows: &mut Windows| (seconds, windows.bad(at(seconds)));
        (from..)
            .step_by(usize::try_from(step).unwrap())
            .map(|seconds| shown(seconds, windows))
            .find(|(_, shown)| *shown != Shown::Nothing)
            .unwrap()
    }

    #[test]
    fn failing_begins_fifteen_minutes_after_the_first_bad_attempt_and_not_before() {
        let mut windows = Windows::default();
        let (seconds, shown) = fail(&mut windows, 0, 10);
        assert_eq!(seconds, 900);
        assert_eq!(shown, Shown::Failing { bad: 91, total: 91 });
        assert_eq!(windows.probe_at(), Some(at(930)));
    }

    #[test]
    fn a_destination_that_worked_until_now_is_failing_fifteen_minutes_later_however_much_it_took_before() {
        let mut windows = Windows::default();
        (0..10_000).for_each(|n| _ = windows.good(at(n / 10)));
        let (seconds, _) = fail(&mut windows, 1_000, 10);
        assert!((1_900..=1_960).contains(&seconds), "{seconds}");
    }

    #[test]
    fn nineteen_attempts_change_nothing_and_twenty_do() {
        let mut windows = Windows::default();
        let mut shown = Vec::new();
        // Within one window, the first of them long enough ago.
        shown.push(windows.bad(at(0)));
        (0..17).for_each(|n| shown.push(windows.bad(at(700 + n))));
        shown.push(windows.bad(at(901)));
        assert!(shown.iter().all(|shown| *shown == Shown::Nothing), "{shown:?}");
        assert_eq!(windows.bad(at(902)), Shown::Failing { bad: 20, total: 20 });
    }

    #[test]
    fn one_good_attempt_in_nineteen_is_enough_to_go_on_and_one_in_twenty_is_not() {
        let check = |bad_for_a_good: u64| {
            let mut windows = Windows::default();
            (0..1_200).any(|n| {
                let shown = if n % (bad_for_a_good + 1) == bad_for_a_good {
                    windows.good(at(n))
                } else {
                    windows.bad(at(n))
                };
                shown != Shown::Nothing
            })
        };
        assert!(!check(18));
        assert!(check(19));
    }

    #[test]
    fn probes_begin_after_thirty_seconds_and_double_to_five_minutes() {
        let mut windows = Windows::default();
        let (began, _) = fail(&mut windows, 0, 10);
        let mut now = at(began);
        let mut gaps = Vec::new();
        for _ in 0..6 {
            let probe_at = windows.probe_at().unwrap();
            gaps.push(probe_at.since(now).as_secs());
            now = probe_at;
            windows.bad(now);
        }
        assert_eq!(gaps, [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn after_seventy_two_hours_of_failing_it_has_failed_and_begins_anew() {
        let mut windows = Windows::default();
        let (began, _) = fail(&mut windows, 0, 10);
        let (seconds, shown) = fail(&mut windows, began + 300, 300);
        assert_eq!(seconds - began, 72 * 3_600);
        assert_eq!(shown, Shown::Failed { attempts: 864 });
        assert_eq!(windows, Windows::default());
    }

    #[test]
    fn too_few_attempts_in_seventy_two_hours_do_not_make_it_failed() {
        let mut windows = Windows::default();
        let (began, _) = fail(&mut windows, 0, 10);
        let shown = |n: u64| windows.bad(at(began + 72 * 3_600 + n));
        let all: Vec<Shown> = (0..20).map(shown).collect();
        assert!(all[..19].iter().all(|shown| *shown == Shown::Nothing));
        assert_eq!(all[19], Shown::Failed { attempts: 20 });
    }

    #[test]
    fn a_success_ends_failing_and_the_window_begins_anew() {
        let mut windows = Windows::default();
        let (began, _) = fail(&mut windows, 0, 10);
        assert_eq!(windows.good(at(began + 60)), Shown::Recovered);
        assert_eq!(windows.probe_at(), None);
        let (again, _) = fail(&mut windows, began + 61, 10);
        assert!(again >= began + 61 + 900, "{again}");
    }

    #[test]
    fn the_windows_survive_being_stored() {
        let mut windows = Windows::default();
        fail(&mut windows, 0, 10);
        let text = serde_json::to_string(&windows).unwrap();
        assert_eq!(serde_json::from_str::<Windows>(&text).unwrap(), windows);
    }
}
