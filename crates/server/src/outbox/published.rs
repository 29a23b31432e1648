//! What an application publishes: one CloudEvents 1.0 event in the structured JSON form.
//!
//! Owns which bytes are such an event, and the words for what is wrong with others. Must not know how it is sent
//! on, nor which types there are.

use std::borrow::Cow;

use hookfast_engine::time::Timestamp;
use serde_json::value::RawValue;

use super::members::{Members, text};
use crate::admin::wire::Time;

/// The one version of CloudEvents that is spoken.
pub(super) const SPECVERSION: &str = "1.0";
/// The most attributes of an event, `data` included.
const ATTRIBUTES_MOST: usize = 64;
const ID_BYTES_MOST: usize = 256;
const SOURCE_BYTES_MOST: usize = 1024;
const TYPE_BYTES_MOST: usize = 256;

/// One event, in the bytes in which it was published.
#[derive(Clone, Debug)]
pub struct Published<'a> {
    /// The version of CloudEvents: always `1.0`.
    pub specversion: &'static str,
    /// The trigger type: at most 256 bytes, without control characters.
    pub event_type: Cow<'a, str>,
    /// Who says so: at most 1,024 bytes, without control characters.
    pub source: Cow<'a, str>,
    /// The publisher's own identifier: at most 256 bytes, without control characters.
    pub id: Cow<'a, str>,
    /// When it happened, where the publisher says.
    pub time: Option<Timestamp>,
    /// The content, byte for byte.
    pub data: Option<&'a RawValue>,
    /// Every other attribute in its order: a name of lower-case letters and digits, and a JSON string, boolean
    /// or whole number.
    pub extensions: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// Why bytes are not an event that can be published.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not text.
    #[error("the event is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Where the first wrong byte is, from 0.
        at: usize,
    },
    /// The text is not JSON.
    #[error("the event is not JSON; look at line {line} column {column}")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// The JSON is no object.
    #[error("the event is not a JSON object; it has at least `specversion`, `type`, `source` and `id`")]
    NotAnObject,
    /// There are more attributes than are taken.
    #[error("the event has more than {ATTRIBUTES_MOST} attributes; put what you send into `data`")]
    TooManyAttributes,
    /// An attribute is there twice.
    #[error("`{0}` is there twice; leave one out")]
    Duplicate(String),
    /// A name that CloudEvents does not allow.
    #[error(
        "`{0}` cannot be the name of an attribute, which has lower-case letters and digits only; put what you \
         send into `data`"
    )]
    Name(String),
    /// The attempt's number is not the publisher's to say.
    #[error("`webhook_delivery_attempt` is counted when the event is delivered; leave it out")]
    AttemptGiven,
    /// Binary content, which no notification can carry.
    #[error(
        "`data_base64` is not taken, because a notification is JSON; put the content as JSON into `data`"
    )]
    DataBase64,
    /// A required attribute is missing, or null.
    #[error("`{0}` is missing; every event has one")]
    Missing(&'static str),
    /// An attribute is not a string.
    #[error("`{0}` is not a string, or has an escape in it that is no character")]
    NotText(String),
    /// An attribute is an empty string.
    #[error("`{0}` is empty; give it a value")]
    Empty(String),
    /// An attribute is too long.
    #[error("`{name}` has {bytes} bytes; at most {most} are taken")]
    TooLong {
        /// The attribute.
        name: &'static str,
        /// Its length.
        bytes: usize,
        /// The greatest length.
        most: usize,
    },
    /// An attribute has a character that cannot be shown.
    #[error("`{0}` has a control character in it; leave it out")]
    NotPrintable(String),
    /// Another version of CloudEvents.
    #[error("`specversion` is `{0}`; this server speaks \"{SPECVERSION}\"")]
    Version(String),
    /// The time cannot be read.
    #[error(
        "`time` is {0}; write it as RFC 3339, such as \"2026-03-01T12:00:00Z\", or in whole Unix seconds"
    )]
    Time(String),
    /// An extension attribute of a type that CloudEvents does not have.
    #[error("`{0}` is neither a string, a boolean nor a whole number; put what you send into `data`")]
    Extension(String),
}

impl<'a> Published<'a> {
    /// Reads one event. An attribute that is null counts as missing, as CloudEvents says.
    ///
    /// # Errors
    /// Where it is not a CloudEvents 1.0 event, or not one that a notification can carry.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let json = std::str::from_utf8(body).map_err(|error| EnvelopeError::NotUtf8 {
            at: error.valid_up_to(),
        })?;
        let members = Members::of(json, ATTRIBUTES_MOST).map_err(|error| not_json(&error))?;
        if members.more {
            return Err(EnvelopeError::TooManyAttributes);
        }
        let mut attributes = Attributes::default();
        for member in members.first {
            let name = member
                .name()
                .ok_or_else(|| EnvelopeError::Name(shown(member.name.get().trim_matches('"'))))?;
            attributes.add(name, member.value)?;
        }
        attributes.into_published()
    }
}

/// The attributes of one event as they are read.
#[derive(Default)]
struct Attributes<'a> {
    known: [Option<&'a RawValue>; KNOWN.len()],
    extensions: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// The attributes that have a place of their own.
const KNOWN: [&str; 6] = ["specversion", "type", "source", "id", "time", "data"];

impl<'a> Attributes<'a> {
    fn add(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), EnvelopeError> {
        if let Some(place) = KNOWN.iter().position(|known| *known == name) {
            if self.known[place].replace(value).is_some() {
                return Err(EnvelopeError::Duplicate(name.into_owned()));
            }
            return Ok(());
        }
        check_name(&name)?;
        if self.extensions.iter().any(|(earlier, _)| *earlier == name) {
            return Err(EnvelopeError::Duplicate(shown(&name)));
        }
        self.extensions.push((name, value));
        Ok(())
    }

    fn into_published(self) -> Result<Published<'a>, EnvelopeError> {
        let [specversion, event_type, source, id, time, data] = self.known;
        let specversion = required("specversion", specversion, 256)?;
        if specversion != SPECVERSION {
            return Err(EnvelopeError::Version(shown(&specversion)));
        }
        let mut extensions = self.extensions;
        extensions.retain(|(_, value)| !is_null(value));
        for (name, value) in &extensions {
            check_extension(name, value)?;
        }
        Ok(Published {
            specversion: SPECVERSION,
            event_type: required("type", event_type, TYPE_BYTES_MOST)?,
            source: required("source", source, SOURCE_BYTES_MOST)?,
            id: required("id", id, ID_BYTES_MOST)?,
            time: time
                .filter(|value| !is_null(value))
                .map(point_in_time)
                .transpose()?,
            data,
            extensions,
        })
    }
}

fn required<'a>(
    name: &'static str,
    value: Option<&'a RawValue>,
    most: usize,
) -> Result<Cow<'a, str>, EnvelopeError> {
    let value = value.filter(|value| !is_null(value));
    let value = value.ok_or(EnvelopeError::Missing(name))?;
    let text = printable(name, value)?;
    if text.len() > most {
        let bytes = text.len();
        return Err(EnvelopeError::TooLong { name, bytes, most });
    }
    Ok(text)
}

/// A text with something in it that can be shown.
fn printable<'a>(name: &str, value: &'a RawValue) -> Result<Cow<'a, str>, EnvelopeError> {
    let text = text(value).ok_or_else(|| EnvelopeError::NotText(name.to_owned()))?;
    if text.trim().is_empty() {
        return Err(EnvelopeError::Empty(name.to_owned()));
    }
    if text.contains(char::is_control) {
        return Err(EnvelopeError::NotPrintable(name.to_owned()));
    }
    Ok(text)
}

/// CloudEvents 1.0, "Attribute Naming Convention".
fn check_name(name: &str) -> Result<(), EnvelopeError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match name {
        "data_base64" => Err(EnvelopeError::DataBase64),
        "webhook_delivery_attempt" => Err(EnvelopeError::AttemptGiven),
        "" => Err(EnvelopeError::Name(String::new())),
        _ if name.bytes().all(plain) => Ok(()),
        _ => Err(EnvelopeError::Name(shown(name))),
    }
}

/// CloudEvents 1.0, "Type System", in the JSON form.
fn check_extension(name: &str, value: &RawValue) -> Result<(), EnvelopeError> {
    if matches!(name, "datacontenttype" | "dataschema" | "subject") {
        return printable(name, value).map(drop);
    }
    let json = value.get();
    let whole = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if matches!(json, "true" | "false") || whole(json.strip_prefix('-').unwrap_or(json)) {
        return Ok(());
    }
    if !json.starts_with('"') {
        return Err(EnvelopeError::Extension(shown(name)));
    }
    text(value)
        .map(drop)
        .ok_or_else(|| EnvelopeError::NotText(shown(name)))
}

fn point_in_time(value: &RawValue) -> Result<Timestamp, EnvelopeError> {
    let read = match text(value) {
        Some(text) => rfc3339(&text),
        None => value.get().parse().ok().and_then(unix_seconds),
    };
    read.ok_or_else(|| EnvelopeError::Time(shown(value.get())))
}

/// Seconds since the Unix epoch, where a calendar knows them.
fn unix_seconds(seconds: i64) -> Option<Timestamp> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}

/// The time that `text` is, in the form of RFC 3339 and no other: what reads it for us takes more.
fn rfc3339(text: &str) -> Option<Timestamp> {
    let (seconds, rest) = text.split_at_checked("2026-03-01T12:00:00".len())?;
    let shape = seconds.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        other => other.to_ascii_uppercase(),
    });
    if !shape.eq(*b"0000-00-00T00:00:00") {
        return None;
    }
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let offset_shape = offset.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        b'-' => b'+',
        other => other.to_ascii_uppercase(),
    });
    if !offset_shape.clone().eq(*b"Z") && !offset_shape.eq(*b"+00:00") {
        return None;
    }
    text.parse::<Time>().ok().map(|time| time.0)
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

fn not_json(error: &serde_json::Error) -> EnvelopeError {
    if error.is_data() {
        return EnvelopeError::NotAnObject;
    }
    EnvelopeError::NotJson {
        line: error.line(),
        column: error.column(),
    }
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event with `attributes` put in front of the required ones.
    fn with(attributes: &str) -> String {
        format!(r#"{{{attributes},"specversion":"1.0","type":"t","source":"s","id":"i"}}"#)
    }

    fn fault(event: &str) -> String {
        Published::parse(event.as_bytes()).unwrap_err().to_string()
    }

    fn time_of(value: &str) -> Result<Option<Timestamp>, EnvelopeError> {
        let event = with(&format!("\"time\":{value}"));
        Published::parse(event.as_bytes()).map(|published| published.time)
    }

    #[test]
    fn an_event_is_read_with_its_data_and_extensions_as_they_are() {
        let event = r#" { "subject":"a\u0062", "data" : [ 1.0, {"x":1,"x":2} ] , "type":"\u0074","source":"/s",
            "id":"i-1","time":1790000000,"sampledrate":-5,"flag":true,"gone":null,"specversion":"1.0"} "#;
        let published = Published::parse(event.as_bytes()).unwrap();
        assert_eq!(published.event_type, "t");
        assert_eq!((&*published.source, &*published.id), ("/s", "i-1"));
        assert_eq!(published.time, Some(Timestamp::from_secs(1_790_000_000)));
        assert_eq!(published.data.unwrap().get(), r#"[ 1.0, {"x":1,"x":2} ]"#);
        let extensions = published.extensions.iter();
        let extensions: Vec<_> = extensions.map(|(name, value)| (&**name, value.get())).collect();
        let expected = [
            ("subject", r#""a\u0062""#),
            ("sampledrate", "-5"),
            ("flag", "true"),
        ];
        assert_eq!(extensions, expected);
        assert!(matches!(published.id, Cow::Borrowed(_)));
    }

    #[test]
    fn null_is_data_and_a_missing_attribute() {
        let published = |event: &str| Published::parse(event.as_bytes()).map(|event| event.data.is_some());
        assert_eq!(published(&with(r#""data":null"#)), Ok(true));
        assert_eq!(published(&with(r#""time":null,"subject":null"#)), Ok(false));
        let event = r#"{"specversion":"1.0","type":"t","source":"s","id":null}"#;
        assert_eq!(published(event), Err(EnvelopeError::Missing("id")));
    }

    #[test]
    fn what_is_no_event_is_refused_with_what_is_wrong() {
        let long = "x".repeat(257);
        let id = |id: &str| format!(r#"{{"specversion":"1.0","type":"t","source":"s","id":{id}}}"#);
        let events = [
            String::new(),
            "{\n \"id\": }".to_owned(),
            id("1} {"),
            "[]".to_owned(),
            "\"event\"".to_owned(),
            "{}".to_owned(),
            r#"{"specversion":"0.3","type":"t","source":"s","id":"i"}"#.to_owned(),
            r#"{"specversion":1.0,"type":"t","source":"s","id":"i"}"#.to_owned(),
            r#"{"specversion":"1.0","type":"t","id":"i"}"#.to_owned(),
            id("7"),
            id("\"\""),
            id("\"  \""),
            id("\"a\\nb\""),
            id("\"a\\u0085b\""),
            id("\"\\ud83d\""),
            id(&format!("\"{long}\"")),
            with(&format!("\"type\":\"{long}\"")),
            with(r#""id":"first""#),
            with(r#""trace":1,"trace":2"#),
            with(r#""data":1,"data":2"#),
            with(r#""i\u0064":"first""#),
            with(r#""Subject":"s""#),
            with(r#""":"s""#),
            with(r#""\ud83d":"s""#),
            with(r#""partition-key":"s""#),
            with(r#""data_base64":"AA==""#),
            with(r#""webhook_delivery_attempt":1"#),
            with(r#""subject":7"#),
            with(r#""subject":"""#),
            with(r#""trace":{"a":1}"#),
            with(r#""trace":[]"#),
            with(r#""trace":1.5"#),
            with(r#""trace":1e3"#),
            with(r#""trace":"\ud83d""#),
            with(r#""time":"yesterday""#),
            with(r#""time":1.5"#),
            with(r#""time":true"#),
        ];
        let faults: Vec<_> = events
            .iter()
            .map(|event| {
                let event: String = event.chars().take(90).collect();
                event
            })
            .zip(events.iter().map(|event| fault(event)))
            .map(|(event, fault)| format!("{event}\n    {fault}"))
            .collect();
        insta::assert_snapshot!(faults.join("\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_place() {
        let fault = Published::parse(b"{\"id\":\"\xff\"}").unwrap_err();
        assert_eq!(fault, EnvelopeError::NotUtf8 { at: 7 });
    }

    #[test]
    fn attributes_may_be_as_long_as_it_says_and_no_longer() {
        let event = |event_type: usize, source: usize, id: usize| {
            let [event_type, source, id] = [event_type, source, id].map(|bytes| "x".repeat(bytes));
            let event =
                format!(r#"{{"specversion":"1.0","type":"{event_type}","source":"{source}","id":"{id}"}}"#);
            Published::parse(event.as_bytes()).map(drop)
        };
        let too_long = |name, bytes, most| Err(EnvelopeError::TooLong { name, bytes, most });
        assert_eq!(event(256, 1024, 256), Ok(()));
        assert_eq!(event(257, 1024, 256), too_long("type", 257, 256));
        assert_eq!(event(256, 1025, 256), too_long("source", 1025, 1024));
        assert_eq!(event(256, 1024, 257), too_long("id", 257, 256));
    }

    #[test]
    fn a_great_many_attributes_are_refused_before_they_cost_anything() {
        let attributes = |count: usize| {
            let attributes: Vec<_> = (0..count).map(|index| format!("\"a{index}\":1")).collect();
            with(&attributes.join(","))
        };
        assert!(Published::parse(attributes(ATTRIBUTES_MOST - 4).as_bytes()).is_ok());
        for count in [ATTRIBUTES_MOST - 3, 200_000] {
            let fault = Published::parse(attributes(count).as_bytes()).unwrap_err();
            assert_eq!(fault, EnvelopeError::TooManyAttributes);
        }
    }

    #[test]
    fn times_are_read_as_rfc_3339_and_as_unix_seconds() {
        let noon = Timestamp::from_secs(1_772_366_400);
        for (text, expected) in [
            ("\"2026-03-01T12:00:00Z\"", noon),
            ("\"2026-03-01t12:00:00z\"", noon),
            ("\"2026-03-01T14:30:00+02:30\"", noon),
            ("\"2026-03-01T12:00:00-00:00\"", noon),
            (
                "\"2026-03-01T12:00:00.000001999Z\"",
                Timestamp::from_micros(noon.as_micros() + 1),
            ),
            ("1772366400", noon),
            ("-1", Timestamp::from_secs(-1)),
            ("\"1969-12-31T23:59:59Z\"", Timestamp::from_secs(-1)),
        ] {
            assert_eq!(time_of(text), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn times_in_another_form_are_refused() {
        for text in [
            "\"\"",
            "\"2026-03-01\"",
            "\"2026-03-01T12:00:00\"",
            "\"2026-03-01 12:00:00Z\"",
            "\"2026-03-01T12:00:00 Z\"",
            "\"2026-03-01T12:00Z\"",
            "\"2026-03-01T12:00:00.Z\"",
            "\"2026-03-01T12:00:00,5Z\"",
            "\"2026-03-01T12:00:00+02\"",
            "\"2026-03-01T12:00:00+0200\"",
            "\"2026-03-01T12:00:00Z[UTC]\"",
            "\"20260301T120000Z\"",
            "\"2026-02-30T12:00:00Z\"",
            "\"2026-03-01T24:00:00Z\"",
            "\"1772366400\"",
            "\"2026-03-01T12:00:0\u{0660}Z\"",
            "1772366400.0",
            "1e9",
            "99999999999999",
            "9223372036854775808",
            "[]",
        ] {
            assert!(matches!(time_of(text), Err(EnvelopeError::Time(_))), "{text}");
        }
    }
}
