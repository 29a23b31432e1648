//! What people write: the configuration, and the small words in it and in the API.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use hookfast::config::{Config, Environment, Flags};
use hookfast::units;
use hookfast_engine::id::{DeliveryId, EventId};
use hookfast_engine::retry::CodeSet;
use hookfast_engine::route::check_pattern;
use hookfast_signature::TimeUnit;
use tempfile::NamedTempFile;

use super::Parts;

thread_local! {
    static FILE: NamedTempFile = NamedTempFile::new().expect("a temporary file");
}

/// Any bytes, as the configuration file: a configuration, or mistakes that can be shown.
pub(crate) fn configuration(bytes: &[u8]) {
    FILE.with(|file| {
        let mut writer = file.as_file();
        writer.set_len(0).expect("the file can be cut");
        writer
            .seek(SeekFrom::Start(0))
            .expect("the file can be read again");
        writer.write_all(bytes).expect("the file can be written");
        let flags = Flags {
            config: Some(file.path().to_owned()),
            ..Flags::default()
        };
        match Config::read(&flags, &Environment::new()) {
            Ok(_) => {}
            Err(mistakes) => assert!(!mistakes.to_string().is_empty(), "a refusal without a reason"),
        }
    });
}

/// `WORD …`: what is read as a duration, a size, a code set, a pattern, an id or a time is written so that it reads the
/// same.
pub(crate) fn words(bytes: &[u8]) {
    let mut parts = Parts(bytes);
    for _ in 0..8 {
        word(&parts.text());
    }
}

fn word(text: &str) {
    if let Ok(duration) = units::duration(text) {
        assert_eq!(units::duration(&units::duration_text(duration)), Ok(duration));
    }
    if let Ok(size) = units::size(text) {
        assert_eq!(units::size(&units::size_text(size)), Ok(size));
    }
    if let Ok(codes) = CodeSet::parse(text.split_whitespace()) {
        let words = codes.words();
        let again = CodeSet::parse(words.iter().map(String::as_str)).expect("our own words");
        for code in 100..=599 {
            assert_eq!(codes.contains(code), again.contains(code), "{code}");
        }
    }
    drop(check_pattern(text));
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
    }
    if let Ok(id) = text.parse::<DeliveryId>() {
        assert_eq!(id.to_string().parse::<DeliveryId>(), Ok(id));
    }
    for unit in [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Rfc3339] {
        let Some(time) = unit.parse(text) else { continue };
        // What is written is cut to the unit, and the calendar ends with the year 9999.
        if time < Duration::from_secs(253_402_300_800) {
            let again = unit.parse(&unit.format(time)).expect("our own time");
            assert!(again <= time && time - again < Duration::from_secs(1), "{text}");
        }
    }
}
