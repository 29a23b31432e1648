//! Times and durations as the API writes them.
//!
//! Owns two texts: RFC 3339 in UTC with microseconds, and durations such as `1h30m`. Must not read a clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hookfast_engine::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// A point in time: RFC 3339, in UTC with microseconds when it comes from the server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-03-01T12:00:00.000000Z"))]
pub struct Time(pub Timestamp);

/// A length of time: whole numbers with `us`, `ms`, `s`, `m`, `h` or `d`, such as `30s`, `1h30m` or `7d`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, ToSchema)]
#[schema(value_type = String, examples("30s", "1h30m", "7d"))]
pub struct Span(pub Duration);

/// Why a text is not a [`Time`] or a [`Span`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct TextError {
    text: String,
    expected: &'static str,
}

impl TextError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            expected,
        }
    }
}

const A_TIME: &str = "a time: write it as 2026-03-01T12:00:00Z";
const A_SPAN: &str = "a duration: write whole numbers with us, ms, s, m, h or d, such as 30s, 1h30m or 7d";

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0.as_micros()) {
            Ok(time) => write!(formatter, "{time:.6}"),
            // Beyond the years that calendars know; such a time is never stored.
            Err(_) => formatter.write_str("9999-12-31T23:59:59.999999Z"),
        }
    }
}

impl FromStr for Time {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let time: jiff::Timestamp = text.parse().map_err(|_| TextError::new(text, A_TIME))?;
        Ok(Self(Timestamp::from_micros(time.as_microsecond())))
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

/// The units from the largest to the smallest, with their microseconds.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return formatter.write_str("0s");
        }
        for (unit, micros) in UNITS {
            if rest >= micros {
                write!(formatter, "{}{unit}", rest / micros)?;
                rest %= micros;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        parse_span(text)
            .map(Self)
            .ok_or_else(|| TextError::new(text, A_SPAN))
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        let (_, micros) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(micros)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(Duration::from_micros(total))
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Time Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_microseconds_and_read_back() {
        let time = Time(Timestamp::from_micros(1_790_000_000_000_001));
        assert_eq!(time.to_string(), "2026-09-21T14:13:20.000001Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        let elsewhere = "2026-09-21T16:13:20.000001+02:00".parse();
        assert_eq!(elsewhere, Ok(time));
        for wrong in ["", "yesterday", "2026-09-21", "1790000000"] {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
        assert!(!Time(Timestamp::MAX).to_string().is_empty());
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        let cases = [
            ("0s", 0),
            ("30s", 30_000_000),
            ("1h30m", 5_400_000_000),
            ("7d", 604_800_000_000),
            ("1s500ms", 1_500_000),
            ("250us", 250),
        ];
        for (text, micros) in cases {
            let span = Span(Duration::from_micros(micros));
            assert_eq!(text.parse(), Ok(span), "{text}");
            assert_eq!(span.to_string(), text);
        }
        assert_eq!("90m".parse(), Ok(Span(Duration::from_secs(5_400))));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_form_expected() {
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1.5h",
            "30 s",
            "1y",
            "99999999999999999999d",
            "1d\u{e9}",
        ] {
            let error = wrong.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("30s, 1h30m or 7d"), "{error}");
        }
    }
}
