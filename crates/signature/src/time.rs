//! Timestamps of signature schemes: reading them, and judging their age against a clock that is passed in.
//!
//! Owns [`TimeUnit`] and [`Clock`]. Must not read any clock.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::refusal::Refusal;

/// How a provider writes a time. All of them become a [`Duration`] since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Decimal Unix seconds.
    Seconds,
    /// Decimal Unix milliseconds.
    Milliseconds,
    /// RFC 3339, for example `2023-11-14T22:13:20Z`.
    Rfc3339,
}

impl TimeUnit {
    /// Reads a time in this unit; `None` when it is not one, or lies before 1970.
    pub fn parse(self, text: &str) -> Option<Duration> {
        let decimal = || {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse::<u64>().ok()).flatten()
        };
        match self {
            Self::Seconds => decimal().map(Duration::from_secs),
            Self::Milliseconds => decimal().map(Duration::from_millis),
            Self::Rfc3339 => parse_rfc3339(text),
        }
    }

    /// Writes a time in this unit, cutting what is finer.
    pub fn format(self, time: Duration) -> String {
        match self {
            Self::Seconds => time.as_secs().to_string(),
            Self::Milliseconds => time.as_millis().to_string(),
            Self::Rfc3339 => format_rfc3339(time.as_secs()),
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Seconds => "a number of Unix seconds",
            Self::Milliseconds => "a number of Unix milliseconds",
            Self::Rfc3339 => "an RFC 3339 time",
        })
    }
}

/// The time of the check, and how far a signed timestamp may be from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Time since the Unix epoch. For kept requests this is when they came, not when they are looked at again.
    pub now: Duration,
    /// How far a signed timestamp may be from `now`, both ways.
    pub tolerance: Tolerance,
}

/// How far a signed timestamp may be from the time of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// What the scheme prescribes, which is 300 s for most.
    OfScheme,
    /// At most this far, both ways.
    Within(Duration),
    /// Any distance: for replays of kept requests whose timestamp is to be ignored.
    Any,
}

impl Clock {
    /// The clock at `now` (since the Unix epoch) with the tolerance that the scheme prescribes.
    pub fn at(now: Duration) -> Self {
        Self {
            now,
            tolerance: Tolerance::OfScheme,
        }
    }

    /// The clock at `now` (Unix seconds) with the tolerance that the scheme prescribes.
    pub fn at_seconds(now: u64) -> Self {
        Self::at(Duration::from_secs(now))
    }

    /// The same clock with another tolerance.
    pub fn with(self, tolerance: Tolerance) -> Self {
        Self { tolerance, ..self }
    }

    /// Judges a time by this clock, where the scheme allows `of_scheme`.
    ///
    /// Public because some providers sign a time inside the body (Linear): the caller extracts it and asks here.
    pub fn check(self, time: Duration, of_scheme: Duration) -> Result<(), Refusal> {
        let tolerance = match self.tolerance {
            Tolerance::OfScheme => of_scheme,
            Tolerance::Within(tolerance) => tolerance,
            Tolerance::Any => return Ok(()),
        };
        let age = self.now.saturating_sub(time);
        let ahead = time.saturating_sub(self.now);
        if age > tolerance {
            return Err(Refusal::TimestampTooOld { age, tolerance });
        }
        if ahead > tolerance {
            return Err(Refusal::TimestampTooNew { ahead, tolerance });
        }
        Ok(())
    }
}

/// Reads a signed timestamp or says which header has none that can be read.
#[expect(
    clippy::ptr_arg,
    reason = "a refusal keeps the name, without copying one from the table"
)]
pub(crate) fn parse_in_header(
    text: &str,
    unit: TimeUnit,
    header: &Cow<'static, str>,
) -> Result<Duration, Refusal> {
    unit.parse(text).ok_or_else(|| Refusal::TimestampMalformed {
        header: header.clone(),
        unit,
    })
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`.
fn parse_rfc3339(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 20
        && [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')]
            .iter()
            .all(|(at, mark)| bytes[*at] == *mark)
        && matches!(bytes[10], b'T' | b't' | b' ');
    if !shape {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let (nanoseconds, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let padded = format!("{:0<9.9}", &fraction[..digits]);
            (
                (digits > 0).then(|| padded.parse::<u32>().ok())??,
                &fraction[digits..],
            )
        }
        None => (0, rest),
    };
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let start = text.len() - 5;
            let minutes = number(start..start + 2)? * 60 + number(start + 3..start + 5)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds =
        days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset * 60;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanoseconds))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn format_rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_unit_that_is_due() {
        let table = [
            (
                TimeUnit::Seconds,
                "1700000000",
                Some(Duration::from_secs(1_700_000_000)),
            ),
            (
                TimeUnit::Milliseconds,
                "1700000000123",
                Some(Duration::from_millis(1_700_000_000_123)),
            ),
            (
                TimeUnit::Rfc3339,
                "2023-11-14T22:13:20Z",
                Some(Duration::from_secs(1_700_000_000)),
            ),
            (
                TimeUnit::Rfc3339,
                "2023-11-15T00:13:20.5+02:00",
                Some(Duration::from_millis(1_700_000_000_500)),
            ),
            (
                TimeUnit::Rfc3339,
                "2023-11-14T17:13:20.123456789012-05:00",
                Some(Duration::new(1_700_000_000, 123_456_789)),
            ),
            (TimeUnit::Rfc3339, "1969-12-31T23:59:59Z", None),
            (TimeUnit::Rfc3339, "2023-13-14T22:13:20Z", None),
            (TimeUnit::Rfc3339, "2023-11-14T22:13:20", None),
            (TimeUnit::Rfc3339, "2023-11-14T22:13:20.Z", None),
            (TimeUnit::Rfc3339, "2023-11-14T22:13:20é1:0", None),
            (TimeUnit::Seconds, "+1700000000", None),
            (TimeUnit::Seconds, "-1", None),
            (TimeUnit::Seconds, "", None),
            (TimeUnit::Seconds, "1700000000.5", None),
            (TimeUnit::Seconds, "99999999999999999999", None),
        ];
        for (unit, text, expected) in table {
            assert_eq!(unit.parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_that_is_written_is_read_again() {
        for seconds in (0..4_000_000_000).step_by(12_345_677) {
            let time = Duration::from_secs(seconds);
            for unit in [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Rfc3339] {
                assert_eq!(
                    unit.parse(&unit.format(time)),
                    Some(time),
                    "{}",
                    unit.format(time)
                );
            }
        }
        assert_eq!(
            TimeUnit::Rfc3339.format(Duration::from_secs(951_782_400)),
            "2000-02-29T00:00:00Z"
        );
    }

    #[test]
    fn the_tolerance_holds_both_ways_and_its_edge_is_inside() {
        let clock = Clock::at_seconds(1000);
        let scheme = Duration::from_secs(300);
        assert_eq!(clock.check(Duration::from_secs(700), scheme), Ok(()));
        assert_eq!(clock.check(Duration::from_secs(1300), scheme), Ok(()));
        let old = Refusal::TimestampTooOld {
            age: Duration::from_secs(301),
            tolerance: scheme,
        };
        assert_eq!(clock.check(Duration::from_secs(699), scheme), Err(old));
        let new = Refusal::TimestampTooNew {
            ahead: Duration::from_secs(301),
            tolerance: scheme,
        };
        assert_eq!(clock.check(Duration::from_secs(1301), scheme), Err(new));
        assert_eq!(clock.with(Tolerance::Any).check(Duration::ZERO, scheme), Ok(()));
    }
}
