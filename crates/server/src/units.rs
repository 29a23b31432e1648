//! Durations and sizes as people write them: `30s`, `1h30m`, `10MiB`.
//!
//! Owns both forms, read and written. Must not know who reads them: the configuration, the API and the command line
//! all do.

use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("`{0}` is not a duration: write numbers with us, ms, s, m, h or d, such as 30s, 1h30m or 7d")]
    Duration(String),
    /// Not a size.
    #[error("`{0}` is not a size: write a number of bytes, or one with KiB, MiB or GiB, such as 10MiB")]
    Size(String),
}

/// The units of durations from the largest to the smallest, with their microseconds.
const DURATIONS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// The units of sizes from the largest to the smallest. Decimal ones are read but never written.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a duration: whole numbers, each with its unit, added up.
///
/// # Errors
/// Where it has no number, no unit or an unknown one, or is longer than half a million years.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    parse_duration(text.trim()).ok_or_else(|| UnitError::Duration(shortened(text)))
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut micros) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, after) = after.split_at(letters);
        let (_, unit) = DURATIONS.into_iter().find(|(each, _)| *each == name)?;
        micros = micros.checked_add(number.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_micros(micros))
}

/// Reads a size in bytes.
///
/// # Errors
/// Where it is no number with a known unit, or does not fit 64 bits.
pub fn size(text: &str) -> Result<u64, UnitError> {
    parse_size(text.trim()).ok_or_else(|| UnitError::Size(shortened(text)))
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    match unit.trim_start() {
        "" => Some(number),
        name => {
            let (_, unit) = SIZES
                .into_iter()
                .find(|(each, _)| each.eq_ignore_ascii_case(name))?;
            number.checked_mul(unit)
        }
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Writes a duration as [`duration`] reads it.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in DURATIONS {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    text
}

/// Writes a size as [`size`] reads it, in the largest unit that divides it.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let whole = SIZES[..3]
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match whole {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_they_are_read() {
        let cases = [
            ("0s", 0),
            ("250us", 250),
            ("30s", 30_000_000),
            ("1s500ms", 1_500_000),
            ("1h30m", 5_400_000_000),
            ("7d", 604_800_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
            assert_eq!(duration_text(Duration::from_micros(micros)), text);
        }
        assert_eq!(duration("90m"), duration("1h30m"));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5h",
            "30 s",
            "1y",
            "99999999999999d",
            "1d\u{e9}",
        ] {
            let message = duration(text).unwrap_err().to_string();
            assert!(message.contains("such as 30s"), "{message}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("8KiB", 8192),
            ("10MiB", 10 << 20),
            ("3GiB", 3 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(size_text(bytes), text);
        }
        assert_eq!(size("10 mib"), Ok(10 << 20));
        assert_eq!(size("1kB"), Ok(1000));
        assert_eq!(size("12B"), Ok(12));
        for text in ["", "MiB", "-1", "1.5MiB", "10Mib/s", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_duration_and_size_survives_its_text(number: u64) {
            let length = Duration::from_micros(number);
            proptest::prop_assert_eq!(duration(&duration_text(length)), Ok(length));
            proptest::prop_assert_eq!(size(&size_text(number)), Ok(number));
        }
    }
}
