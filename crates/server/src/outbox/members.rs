//! The members of one JSON object, unread.
//!
//! Owns reading one level of an object whatever is below it: the bytes of each member stay as they are, and
//! nesting of any depth costs no stack. Must not know what the members mean.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One member: its name as it was written, with the quotation marks, and its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) name: &'a RawValue,
    pub(super) value: &'a RawValue,
}

/// The members of an object, in their order, duplicates included.
#[derive(Debug)]
pub(super) struct Members<'a> {
    pub(super) first: Vec<Member<'a>>,
    /// Whether there were more than were asked for.
    pub(super) more: bool,
}

impl<'a> Members<'a> {
    /// Reads the first `most` members of the object that `json` is.
    pub(super) fn of(json: &'a str, most: usize) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let members = serde::Deserializer::deserialize_map(&mut deserializer, Reader { most })?;
        deserializer.end()?;
        Ok(members)
    }
}

impl<'a> Member<'a> {
    /// The name; nothing where an escape in it is no character.
    pub(super) fn name(&self) -> Option<Cow<'a, str>> {
        text(self.name)
    }

    /// The bytes that it takes, with the colon.
    pub(super) fn len(&self) -> usize {
        self.name.get().len() + 1 + self.value.get().len()
    }

    /// Appends it as compact JSON.
    pub(super) fn write(&self, json: &mut String) {
        json.push_str(self.name.get());
        json.push(':');
        json.push_str(self.value.get());
    }
}

/// The text of a JSON string; nothing where `value` is none, or an escape in it is no character.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'_>>(value.get())
        .ok()
        .map(|text| text.0)
}

struct Reader {
    most: usize,
}

impl<'de> Visitor<'de> for Reader {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members {
            first: Vec::with_capacity(self.most.min(16)),
            more: false,
        };
        while members.first.len() < self.most {
            let Some((name, value)) = map.next_entry()? else {
                return Ok(members);
            };
            members.first.push(Member { name, value });
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            members.more = true;
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str, most: usize) -> String {
        let members = Members::of(json, most).unwrap();
        let mut shown = String::new();
        for member in &members.first {
            let start = shown.len();
            member.write(&mut shown);
            assert_eq!(shown.len() - start, member.len());
            shown.push(' ');
        }
        shown + if members.more { "and more" } else { "" }
    }

    #[test]
    fn members_keep_their_bytes_their_order_and_their_duplicates() {
        let json = " { \"b\" : [1, 2] , \"\\u0061\": \"\\u0061\",\"b\":{\"b\" :null } } ";
        let expected = "\"b\":[1, 2] \"\\u0061\":\"\\u0061\" \"b\":{\"b\" :null } ";
        assert_eq!(shown(json, 3), expected);
        assert_eq!(shown(json, 2), "\"b\":[1, 2] \"\\u0061\":\"\\u0061\" and more");
        assert_eq!(shown("{}", 3), "");
    }

    #[test]
    fn names_and_texts_are_read_where_they_are_texts() {
        let json = r#"{"\u0061":"x\u00e9","\ud83d":"\ud83d","c":1}"#;
        let members = Members::of(json, 9).unwrap().first;
        let read: Vec<_> = members
            .iter()
            .map(|member| (member.name(), text(member.value)))
            .collect();
        let expected = [
            (Some("a".into()), Some("x\u{e9}".into())),
            (None, None),
            (Some("c".into()), None),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in [
            "",
            "{",
            "[]",
            "1",
            "null",
            "{} {}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":nul}",
        ] {
            assert!(Members::of(json, 9).is_err(), "{json}");
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(Members::of(&deep, 9).unwrap().first.len(), 1);
        assert!(Members::of(&deep, 0).unwrap().more);
    }
}
