//! Times and durations as the API writes them.
//!
//! Owns times: RFC 3339 in UTC with microseconds. Durations are written as everywhere, which `units` owns. Must not
//! read a clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hookfast_engine::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::units::{self, UnitError};

/// A point in time: RFC 3339, in UTC with microseconds when it comes from the server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-03-01T12:00:00.000000Z"))]
pub struct Time(pub Timestamp);

/// A length of time: whole numbers with `us`, `ms`, `s`, `m`, `h` or `d`, such as `30s`, `1h30m` or `7d`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, ToSchema)]
#[schema(value_type = String, examples("30s", "1h30m", "7d"))]
pub struct Span(pub Duration);

/// A text that is not a [`Time`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a time: write it as 2026-03-01T12:00:00Z")]
pub struct NoTime(String);

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
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|_| NoTime(text.chars().take(80).collect()))?;
        Ok(Self(Timestamp::from_micros(time.as_microsecond())))
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&units::duration_text(self.0))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::duration(text).map(Self)
    }
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
    fn durations_in_json_are_the_texts_that_people_write() {
        let span = Span(Duration::from_secs(5_400));
        assert_eq!(serde_json::to_string(&span).unwrap(), "\"1h30m\"");
        assert_eq!(serde_json::from_str::<Span>("\"90m\"").unwrap(), span);
        let error = serde_json::from_str::<Span>("\"90 minutes\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("30s, 1h30m or 7d"), "{error}");
    }
}
