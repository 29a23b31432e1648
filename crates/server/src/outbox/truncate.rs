//! Making the data of a notification smaller (SPEC O10).
//!
//! Owns which fields are left out, and in which order. Must not know how much room there is, nor what is
//! written around the data.

use std::cmp::Reverse;

use super::members::{Member, Members};

/// Who has these can ask for the rest; they stay, whatever happens.
const KEPT: [&str; 5] = ["application_id", "grant_id", "id", "object", "thread_id"];
/// The field that is left out first.
const BODY: &str = "body";
/// The most fields of an object that are looked at. None of Nylas's has a hundred.
const FIELDS_MOST: usize = 10_000;

/// `data` without the body of its object and, where that is not enough, without the object's largest fields, so
/// that it takes at most `room` bytes. Every other field keeps its bytes and its place.
///
/// `None` where it has no object, or what must stay is too large by itself.
pub(super) fn shorten(data: &str, room: usize) -> Option<String> {
    let around = fields(data)?;
    // Where there are two, readers take the last.
    let place = around.iter().rposition(|field| is(field, "object"))?;
    let object = fields(around[place].value.get())?;

    let mut stays: Vec<bool> = object.iter().map(|field| !is(field, BODY)).collect();
    let mut candidates: Vec<usize> = (0..object.len())
        .filter(|index| stays[*index] && !KEPT.iter().any(|kept| is(&object[*index], kept)))
        .collect();
    // The sort is stable: of two that are as large, the first one goes.
    candidates.sort_by_key(|index| Reverse(object[*index].len()));

    let outside = Size::of(&around).bytes() - around[place].value.get().len();
    let mut size = Size::of(remaining(&object, &stays));
    for index in candidates {
        if outside + size.bytes() <= room {
            break;
        }
        stays[index] = false;
        size.remove(object[index].len());
    }
    let bytes = outside + size.bytes();
    (bytes <= room).then(|| write(&around, place, &object, &stays, bytes))
}

/// The fields that were not left out.
fn remaining<'m, 'a>(object: &'m [Member<'a>], stays: &[bool]) -> impl Iterator<Item = &'m Member<'a>> {
    object
        .iter()
        .zip(stays)
        .filter(|(_, stays)| **stays)
        .map(|(field, _)| field)
}

fn fields(json: &str) -> Option<Vec<Member<'_>>> {
    let members = Members::of(json, FIELDS_MOST).ok()?;
    (!members.more).then_some(members.first)
}

fn is(field: &Member<'_>, name: &str) -> bool {
    field.name().is_some_and(|own| own == name)
}

fn write(around: &[Member<'_>], place: usize, object: &[Member<'_>], stays: &[bool], bytes: usize) -> String {
    let mut json = String::with_capacity(bytes);
    for (index, field) in around.iter().enumerate() {
        json.push(if index == 0 { '{' } else { ',' });
        if index != place {
            field.write(&mut json);
            continue;
        }
        json.push_str(field.name.get());
        json.push_str(":{");
        let mut separator = "";
        for field in remaining(object, stays) {
            json.push_str(separator);
            field.write(&mut json);
            separator = ",";
        }
        json.push('}');
    }
    json.push('}');
    json
}

/// The size of an object as compact JSON.
#[derive(Clone, Copy, Default)]
struct Size {
    fields: usize,
    field_bytes: usize,
}

impl Size {
    fn of<'m, 'a: 'm>(fields: impl IntoIterator<Item = &'m Member<'a>>) -> Self {
        let mut size = Self::default();
        for field in fields {
            size.fields += 1;
            size.field_bytes += field.len();
        }
        size
    }

    fn remove(&mut self, bytes: usize) {
        self.fields -= 1;
        self.field_bytes -= bytes;
    }

    fn bytes(self) -> usize {
        "{}".len() + self.field_bytes + self.fields.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(data: &str, room: usize, expected: Option<&str>) {
        assert_eq!(shorten(data, room).as_deref(), expected, "{data} in {room}");
    }

    #[test]
    fn the_body_goes_first_then_the_largest_fields_until_it_fits() {
        let data = r#"{"application_id":"a","object":{"id":"m","body":"b","to":"1234567","from":"12345","cc":"123"}}"#;
        let without = |fields: &[&str]| {
            fields
                .iter()
                .fold(data.to_owned(), |data, field| data.replace(field, ""))
        };
        let body = without(&[r#""body":"b","#]);
        check(data, 1_000, Some(&body));
        check(data, body.len(), Some(&body));
        let to = without(&[r#""body":"b","#, r#""to":"1234567","#]);
        check(data, body.len() - 1, Some(&to));
        check(data, to.len(), Some(&to));
        let from = without(&[r#""body":"b","#, r#""to":"1234567","#, r#""from":"12345","#]);
        check(data, to.len() - 1, Some(&from));
        let all = r#"{"application_id":"a","object":{"id":"m"}}"#;
        check(data, from.len() - 1, Some(all));
        check(data, all.len(), Some(all));
        check(data, all.len() - 1, None);
    }

    #[test]
    fn of_two_fields_as_large_the_first_one_goes() {
        let data = r#"{"object":{"one":"11","two":"22"}}"#;
        check(data, data.len() - 1, Some(r#"{"object":{"two":"22"}}"#));
        check(data, data.len(), Some(data));
    }

    #[test]
    fn what_stays_keeps_its_bytes_and_only_the_object_is_looked_into() {
        check(
            r#" { "body" : "mine" , "object" : { "bod\u0079" : 1, "x" : [ 1.0 ,2 ] } , "reason":"\ud83d" } "#,
            100,
            Some(r#"{"body":"mine","object":{"x":[ 1.0 ,2 ]},"reason":"\ud83d"}"#),
        );
        let names = r#"{"object":{"\ud83d":1,"\u0069d":2}}"#;
        check(names, 30, Some(r#"{"object":{"\u0069d":2}}"#));
    }

    #[test]
    fn of_a_name_that_is_there_twice_both_are_treated_alike() {
        check(
            r#"{"object":{"body":1,"id":1,"body":2,"id":2}}"#,
            100,
            Some(r#"{"object":{"id":1,"id":2}}"#),
        );
        check(
            r#"{"object":{"body":1},"object":{"body":2}}"#,
            100,
            Some(r#"{"object":{"body":1},"object":{}}"#),
        );
    }

    #[test]
    fn data_without_an_object_cannot_be_shortened() {
        for data in [
            "null",
            "[]",
            r#""object""#,
            r#"{}"#,
            r#"{"object":null}"#,
            r#"{"object":[{"body":1}]}"#,
            r#"{"object":{"body":1}"#,
        ] {
            check(data, 1_000, None);
        }
        let fields: Vec<_> = (0..=FIELDS_MOST).map(|index| format!("\"f{index}\":1")).collect();
        check(&format!("{{\"object\":{{{}}}}}", fields.join(",")), 1_000, None);
    }

    proptest! {
        #[test]
        fn it_fits_and_leaves_out_no_more_than_it_must(
            sizes in proptest::collection::vec((0_usize..40, any::<bool>()), 0..8),
            room in 0_usize..250,
        ) {
            let fields = sizes.iter().enumerate().map(|(index, (size, kept))| {
                let name = if *kept { KEPT[index % KEPT.len()].to_owned() } else { format!("f{index}") };
                (name, "x".repeat(*size))
            });
            let mut fields: Vec<_> = fields.collect();
            fields.push(("body".to_owned(), "b".repeat(room)));
            let data_of = |fields: &[(String, String)]| {
                let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
                format!("{{\"a\":[1],\"object\":{{{}}}}}", fields.join(","))
            };
            // The same by hand: the largest that may go goes, one after the other.
            let data = data_of(&fields);
            fields.pop();
            while data_of(&fields).len() > room {
                let free = fields.iter().enumerate().filter(|(_, (name, _))| !KEPT.contains(&name.as_str()));
                let largest = free.rev().max_by_key(|(_, (name, value))| name.len() + value.len());
                let Some((index, _)) = largest else { break };
                fields.remove(index);
            }
            let expected = Some(data_of(&fields)).filter(|data| data.len() <= room);
            prop_assert_eq!(shorten(&data, room), expected);
        }
    }
}
