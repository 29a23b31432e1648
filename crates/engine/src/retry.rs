//! Retry policies: what an outcome means for a delivery and when the next attempt is due.
//!
//! Owns the policies as data and the one function that reads them. Must not know the destination's health
//! (that is `health`) nor how a verdict is stored (that is `settle`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{DeliveryKey, Progress};
use crate::outcome::Outcome;
use crate::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A set of HTTP status codes, as inclusive ranges.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct CodeSet(Vec<(u16, u16)>);

impl CodeSet {
    /// The codes in these inclusive ranges.
    #[must_use]
    pub fn ranges(ranges: &[(u16, u16)]) -> Self {
        Self(ranges.to_vec())
    }

    /// The set that `words` name: a code (`429`), a class (`5xx`) or a range (`500-504`).
    ///
    /// # Errors
    /// The first word that names no code between 100 and 599.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, CodeSetError> {
        words
            .into_iter()
            .map(parse_range)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The set as [`CodeSet::parse`] reads it, as short as it can be written.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let word = |&(low, high): &(u16, u16)| match (low, high) {
            (low, high) if low == high => low.to_string(),
            (low, high) if low % 100 == 0 && high == low + 99 => format!("{}xx", low / 100),
            (low, high) => format!("{low}-{high}"),
        };
        self.0.iter().map(word).collect()
    }

    /// Whether `code` is in the set.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|&(low, high)| low <= code && code <= high)
    }
}

/// A word that names no status codes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` names no status codes: write a code (429), a class (5xx) or a range (500-504), from 100 to 599"
)]
pub struct CodeSetError(String);

fn parse_range(word: &str) -> Result<(u16, u16), CodeSetError> {
    let class = word
        .strip_suffix("xx")
        .and_then(|digit| digit.parse::<u16>().ok())
        .filter(|class| (1..=5).contains(class))
        .map(|class| (class * 100, class * 100 + 99));
    let range = word
        .split_once('-')
        .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    let code = word.parse().ok().map(|code| (code, code));
    match class.or(range).or(code) {
        Some((low, high)) if 100 <= low && low <= high && high <= 599 => Ok((low, high)),
        Some(_) | None => Err(CodeSetError(word.to_owned())),
    }
}

/// When a delivery is tried again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// These delays, one per retry; then no more.
    Delays(Vec<Duration>),
    /// `first`, then doubling up to `longest`, for as long as the round is younger than `span`.
    Exponential {
        /// The delay after the first attempt.
        first: Duration,
        /// The longest delay.
        longest: Duration,
        /// How long after the round's first attempt another may begin.
        span: Duration,
    },
}

/// What a destination's answers mean and how often it is tried.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Policy {
    /// The name that destinations give.
    pub name: String,
    /// Codes that mean success.
    pub success: CodeSet,
    /// Codes that are tried again. Every code in neither set is permanent.
    pub retried: CodeSet,
    /// When.
    pub schedule: Schedule,
    /// Each delay is spread evenly over plus and minus this many percent.
    pub jitter_percent: u8,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_longest: Duration,
    /// Where set, no attempt is moved past the round's first attempt plus this by a `Retry-After`.
    pub retry_after_span: Option<Duration>,
    /// Whether a breaker suspends the destination while it is down (SPEC I10).
    pub breaker: bool,
    /// Whether a destination that keeps failing becomes failing, then failed (SPEC O6).
    #[serde(default)]
    pub health_windows: bool,
}

impl Policy {
    /// The names of the built-in policies.
    pub const BUILT_IN: [&'static str; 3] = ["inbox", "nylas", "standard"];

    /// The built-in policy of that name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "inbox" => Some(Self::inbox()),
            "nylas" => Some(Self::nylas()),
            "standard" => Some(Self::standard()),
            _ => None,
        }
    }

    /// The policy of an application behind an inbox (SPEC I11).
    #[must_use]
    pub fn inbox() -> Self {
        Self {
            name: "inbox".to_owned(),
            success: CodeSet::ranges(&[(200, 299)]),
            retried: CodeSet::ranges(&[(100, 409), (411, 599)]),
            schedule: Schedule::Exponential {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(10 * MINUTE),
                span: Duration::from_secs(3 * DAY),
            },
            jitter_percent: 20,
            retry_after_longest: Duration::from_secs(DAY),
            retry_after_span: None,
            breaker: true,
            health_windows: false,
        }
    }

    /// Nylas's own policy (SPEC O4): 200 alone is success, six codes are retried, three attempts in all.
    ///
    /// With the jitter the last attempt falls 12 to 18 minutes after the first, inside Nylas's 10 to 20.
    #[must_use]
    pub fn nylas() -> Self {
        Self {
            name: "nylas".to_owned(),
            success: CodeSet::ranges(&[(200, 200)]),
            retried: CodeSet::ranges(&[(408, 408), (429, 429), (502, 504), (507, 507)]),
            schedule: Schedule::Delays(vec![Duration::from_secs(200), Duration::from_secs(700)]),
            jitter_percent: 20,
            retry_after_longest: Duration::from_secs(20 * MINUTE),
            retry_after_span: Some(Duration::from_secs(20 * MINUTE)),
            breaker: false,
            health_windows: true,
        }
    }

    /// The schedule that the Standard Webhooks specification recommends: ten attempts over about 75 hours.
    #[must_use]
    pub fn standard() -> Self {
        let delays = [
            5,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            14 * HOUR,
            20 * HOUR,
            24 * HOUR,
        ];
        Self {
            name: "standard".to_owned(),
            success: CodeSet::ranges(&[(200, 299)]),
            retried: CodeSet::ranges(&[(100, 409), (411, 599)]),
            schedule: Schedule::Delays(delays.map(Duration::from_secs).to_vec()),
            jitter_percent: 20,
            retry_after_longest: Duration::from_secs(DAY),
            retry_after_span: None,
            breaker: false,
            health_windows: true,
        }
    }
}

/// What an outcome leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The destination took it.
    Delivered,
    /// The destination refused it for good.
    Rejected,
    /// The policy's attempts are used up.
    Dead,
    /// Another attempt is due at this time.
    RetryAt(Timestamp),
}

/// How an outcome reads under a policy, before any schedule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// A success.
    Success,
    /// A failure that will not pass.
    Permanent,
    /// A failure that may pass.
    Retryable,
    /// Nothing is known of the destination: the attempt was lost or given back by us or a puller.
    Unknown,
}

/// What `outcome` means under `policy`.
#[must_use]
pub fn meaning(policy: &Policy, outcome: &Outcome) -> Meaning {
    match outcome {
        Outcome::Answered { status, .. } if policy.success.contains(*status) => Meaning::Success,
        Outcome::Answered { status, .. } if policy.retried.contains(*status) => Meaning::Retryable,
        Outcome::Answered { .. } => Meaning::Permanent,
        Outcome::Acknowledged => Meaning::Success,
        Outcome::TimedOut | Outcome::Unreachable { .. } => Meaning::Retryable,
        Outcome::Returned { .. } | Outcome::Lost | Outcome::Released => Meaning::Unknown,
    }
}

/// When a retryable failure at `now` is tried again. `progress` counts the attempt that just failed;
/// `breaker_open_total` is how long the destination's breaker has been open in all.
#[must_use]
pub fn next_attempt(
    now: Timestamp,
    policy: &Policy,
    key: DeliveryKey,
    progress: &Progress,
    breaker_open_total: Duration,
    retry_after: Option<Duration>,
) -> Verdict {
    let first = progress.first_attempt_at.unwrap_or(now);
    let stood_still = breaker_open_total.saturating_sub(progress.breaker_open_before);
    let age = now.since(first).saturating_sub(stood_still);
    let retries_before = progress.counted.saturating_sub(1);
    let scheduled = match &policy.schedule {
        Schedule::Delays(delays) => usize::try_from(retries_before)
            .ok()
            .and_then(|n| delays.get(n))
            .copied(),
        Schedule::Exponential { first, longest, span } => {
            let delay = first.saturating_mul(1 << retries_before.min(30)).min(*longest);
            (age.saturating_add(delay) <= *span).then_some(delay)
        }
    };
    let Some(delay) = scheduled else {
        return Verdict::Dead;
    };
    let spread = jittered(delay, policy.jitter_percent, key, progress.attempt);
    let asked = retry_after.map(|asked| bounded_retry_after(asked, policy, now, first));
    Verdict::RetryAt(now.plus(asked.map_or(spread, |asked| asked.max(spread))))
}

fn bounded_retry_after(asked: Duration, policy: &Policy, now: Timestamp, first: Timestamp) -> Duration {
    let longest = policy
        .retry_after_span
        .map_or(Duration::MAX, |span| first.plus(span).since(now));
    asked.min(policy.retry_after_longest).min(longest)
}

/// `delay` spread evenly over plus and minus `percent`, always the same for the same delivery and attempt.
fn jittered(delay: Duration, percent: u8, key: DeliveryKey, attempt: u32) -> Duration {
    let hash = mix(key.as_i64().cast_unsigned() ^ (u64::from(attempt) << 48));
    let fraction = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    let spread = f64::from(percent.min(100)) / 100.0;
    delay.mul_f64(1.0 - spread + 2.0 * spread * fraction)
}

/// The finalizer of `SplitMix64`: neighbouring inputs give unrelated outputs.
fn mix(seed: u64) -> u64 {
    let mut hash = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{DestinationNumber, EventSequence};

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status,
            retry_after: None,
        }
    }

    /// The attempt times of a delivery that always fails at once, in seconds after the first.
    fn attempt_times(policy: &Policy, event: i64, retry_after: Option<Duration>) -> Vec<f64> {
        let key = DeliveryKey::new(EventSequence(event), DestinationNumber(1));
        let start = Timestamp::from_secs(1_790_000_000);
        let (mut now, mut progress, mut times) = (start, Progress::default(), Vec::new());
        for _ in 0..10_000 {
            progress = progress.begin_attempt(now, Duration::ZERO);
            progress.counted += 1;
            times.push(now.since(start).as_secs_f64());
            match next_attempt(now, policy, key, &progress, Duration::ZERO, retry_after) {
                Verdict::RetryAt(at) => now = at,
                Verdict::Delivered | Verdict::Rejected | Verdict::Dead => break,
            }
        }
        times
    }

    #[test]
    fn every_code_reads_as_the_specification_says() {
        let retried_by_nylas = [408, 429, 502, 503, 504, 507];
        for status in 100..=599 {
            let nylas = meaning(&Policy::nylas(), &answered(status));
            let expected = match status {
                200 => Meaning::Success,
                _ if retried_by_nylas.contains(&status) => Meaning::Retryable,
                _ => Meaning::Permanent,
            };
            assert_eq!(nylas, expected, "nylas {status}");
            for policy in [Policy::inbox(), Policy::standard()] {
                let expected = match status {
                    200..=299 => Meaning::Success,
                    410 => Meaning::Permanent,
                    _ => Meaning::Retryable,
                };
                assert_eq!(
                    meaning(&policy, &answered(status)),
                    expected,
                    "{} {status}",
                    policy.name
                );
            }
        }
    }

    #[test]
    fn nylas_makes_three_attempts_the_last_ten_to_twenty_minutes_after_the_first() {
        for event in 1..2_000 {
            let times = attempt_times(&Policy::nylas(), event, None);
            assert_eq!(times.len(), 3);
            assert!((600.0..=1_200.0).contains(&times[2]), "{times:?}");
            assert!(times[2] - times[1] > times[1], "the delays grow: {times:?}");
        }
    }

    #[test]
    fn the_inbox_policy_doubles_to_ten_minutes_and_ends_within_three_days() {
        let times = attempt_times(&Policy::inbox(), 1, None);
        assert!((0.8..=1.2).contains(&times[1]), "{times:?}");
        assert!((430..=450).contains(&times.len()), "{}", times.len());
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| gap <= 720.0 + 1e-6));
        assert!(*times.last().unwrap() <= 3.0 * 86_400.0 + 720.0);
    }

    #[test]
    fn time_with_the_breaker_open_does_not_use_up_the_span() {
        let policy = Policy::inbox();
        let key = DeliveryKey::new(EventSequence(1), DestinationNumber(1));
        let start = Timestamp::from_secs(1_790_000_000);
        let progress = Progress {
            counted: 1,
            ..Progress::default().begin_attempt(start, Duration::ZERO)
        };
        let after_four_days = start.plus(Duration::from_secs(4 * DAY));
        let open = Duration::from_secs(3 * DAY);
        assert_eq!(
            next_attempt(after_four_days, &policy, key, &progress, Duration::ZERO, None),
            Verdict::Dead
        );
        let verdict = next_attempt(after_four_days, &policy, key, &progress, open, None);
        assert!(matches!(verdict, Verdict::RetryAt(_)), "{verdict:?}");
    }

    #[test]
    fn the_standard_policy_makes_ten_attempts_over_about_75_hours() {
        let times = attempt_times(&Policy::standard(), 3, None);
        assert_eq!(times.len(), 10);
        let hours = times[9] / 3_600.0;
        assert!((60.0..=91.0).contains(&hours), "{hours}");
    }

    #[test]
    fn retry_after_is_honoured_within_the_policys_bounds() {
        let asked = attempt_times(&Policy::inbox(), 1, Some(Duration::from_secs(90)));
        assert!(asked[1] >= 90.0);
        let too_long = attempt_times(&Policy::inbox(), 1, Some(Duration::from_secs(48 * HOUR)));
        assert!((too_long[1] - 86_400.0).abs() < 1.0, "{too_long:?}");
        let nylas = attempt_times(&Policy::nylas(), 1, Some(Duration::from_secs(HOUR)));
        assert_eq!(nylas.len(), 3);
        assert!((nylas[1] - 1_200.0).abs() < 1.0, "{nylas:?}");
    }

    #[test]
    fn code_sets_are_read_from_words_and_wrong_words_are_named() {
        // 657 times a hundred is 164 in sixteen bits.
        for wrong in ["0xx", "6xx", "657xx", "4294xx", "99", "600", "504-500"] {
            assert!(CodeSet::parse([wrong]).is_err(), "{wrong}");
        }
        let set = CodeSet::parse(["2xx", "429", "500-504"]).unwrap();
        assert_eq!(set.words(), ["2xx", "429", "500-504"]);
        let expected = [
            (200, true),
            (299, true),
            (300, false),
            (429, true),
            (428, false),
            (504, true),
            (505, false),
        ];
        for (code, contained) in expected {
            assert_eq!(set.contains(code), contained, "{code}");
        }
        for word in ["", "2x", "99", "600", "504-500", "6xx", "ok"] {
            let error = CodeSet::parse([word]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")), "{error}");
        }
    }
}
