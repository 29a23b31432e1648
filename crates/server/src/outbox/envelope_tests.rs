//! Tests of notifications: their forms, their size and what is left out of them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::outbox::members::{Members, text};

const ACCEPTED: Timestamp = Timestamp::from_micros(1_772_366_405_123_456);
const FORMS: [Form; 2] = [Form::Nylas, Form::Standard];

fn shown(notification: &Notification) -> &str {
    std::str::from_utf8(&notification.body).unwrap()
}

fn sent(body: &str, form: Form, attempt: u32) -> Notification {
    notification(body.as_bytes(), form, attempt, ACCEPTED, None).unwrap()
}

const EVENT: &str = r#"{
  "id": "evt-1", "type": "message.created", "time": "2026-03-01T14:00:00.5+02:00",
  "traceparent": "00-01-02-00", "source": "/crm/\"mail\"", "data": {"b": 1.0, "a": [ "\u00e9", null ]},
  "subject": "message 7", "partitionkey": null, "sampled": true, "specversion": "1.0"
}"#;

#[test]
fn a_notification_in_the_nylas_form() {
    insta::assert_snapshot!(
        shown(&sent(EVENT, Form::Nylas, 2)),
        @r#"{"specversion":"1.0","type":"message.created","source":"/crm/\"mail\"","id":"evt-1","time":1772366400,"webhook_delivery_attempt":2,"data":{"b": 1.0, "a": [ "\u00e9", null ]},"traceparent":"00-01-02-00","subject":"message 7","sampled":true}"#
    );
}

#[test]
fn a_notification_in_the_standard_webhooks_form() {
    insta::assert_snapshot!(
        shown(&sent(EVENT, Form::Standard, 2)),
        @r#"{"specversion":"1.0","type":"message.created","source":"/crm/\"mail\"","id":"evt-1","time":"2026-03-01T12:00:00.500000Z","webhook_delivery_attempt":2,"data":{"b": 1.0, "a": [ "\u00e9", null ]},"traceparent":"00-01-02-00","subject":"message 7","sampled":true}"#
    );
}

#[test]
fn without_a_time_it_is_when_the_event_was_accepted() {
    let body = r#"{"specversion":"1.0","type":"t","source":"s","id":"i","data":null}"#;
    insta::assert_snapshot!(
        shown(&sent(body, Form::Nylas, 1)),
        @r#"{"specversion":"1.0","type":"t","source":"s","id":"i","time":1772366405,"webhook_delivery_attempt":1,"data":null}"#
    );
    insta::assert_snapshot!(
        shown(&sent(body, Form::Standard, 1)),
        @r#"{"specversion":"1.0","type":"t","source":"s","id":"i","time":"2026-03-01T12:00:05.123456Z","webhook_delivery_attempt":1,"data":null}"#
    );
}

#[test]
fn without_data_none_is_made_up() {
    let body = r#"{"specversion":"1.0","type":"t","source":"s","id":"i","time":0}"#;
    insta::assert_snapshot!(
        shown(&sent(body, Form::Nylas, 1)),
        @r#"{"specversion":"1.0","type":"t","source":"s","id":"i","time":0,"webhook_delivery_attempt":1}"#
    );
}

/// An event whose first notification in that form has exactly that many bytes.
fn event_of(event_type: &str, form: Form, bytes: usize) -> String {
    let with_body = |body: &str| {
        format!(
            r#"{{"specversion":"1.0","type":"{event_type}","source":"/crm","id":"i","data":{{"application_id":"app","object":{{"id":"m1","body":"{body}","subject":"Hello"}}}}}}"#
        )
    };
    let empty = with_body("");
    let published = Published::parse(empty.as_bytes()).unwrap();
    let missing = bytes - serialize(&published, form, 1, ACCEPTED).len();
    with_body(&"x".repeat(missing))
}

fn size_check(event: &str) -> Result<(), TooLarge> {
    check_size(&Published::parse(event.as_bytes()).unwrap(), ACCEPTED)
}

#[test]
fn a_message_of_a_million_bytes_goes_out_whole_and_one_byte_more_truncated() {
    for form in FORMS {
        let fits = event_of("message.created", form, 1_000_000);
        let larger = event_of("message.created", form, 1_000_001);
        for attempt in 1..=9 {
            let whole = sent(&fits, form, attempt);
            assert_eq!(whole.body.len(), 1_000_000);
            assert_eq!(
                (whole.event_type.as_str(), whole.truncated),
                ("message.created", false)
            );
            let truncated = sent(&larger, form, attempt);
            assert!(truncated.truncated);
            assert_eq!(truncated.event_type, "message.created.truncated");
        }
        assert_eq!(size_check(&fits), Ok(()));
        assert_eq!(size_check(&larger), Ok(()));
    }
    insta::assert_snapshot!(
        shown(&sent(&event_of("message.created", Form::Nylas, 1_000_001), Form::Nylas, 3)),
        @r#"{"specversion":"1.0","type":"message.created.truncated","source":"/crm","id":"i","time":1772366405,"webhook_delivery_attempt":3,"data":{"application_id":"app","object":{"id":"m1","subject":"Hello"}}}"#
    );
}

#[test]
fn another_type_of_a_million_bytes_is_taken_and_one_byte_more_is_not() {
    for event_type in [
        "event.created",
        "messages",
        "message",
        "message.created.truncated",
    ] {
        assert_eq!(size_check(&event_of(event_type, Form::Nylas, 1_000_000)), Ok(()));
        let larger = event_of(event_type, Form::Nylas, 1_000_001);
        let fault = size_check(&larger).unwrap_err();
        assert_eq!((fault.event_type.as_str(), fault.bytes), (event_type, 1_000_001));
        let published = Published::parse(larger.as_bytes()).unwrap();
        assert_eq!(fit(&published, Form::Nylas, 1, ACCEPTED), Err(fault));
    }
    let fault = size_check(&event_of("event.created", Form::Nylas, 1_000_001)).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the notification of `event.created` is 1000001 bytes, and at most 1000000 are sent; publish less, or where \
         to find the rest"
    );
}

#[test]
fn every_attempt_carries_the_same_content() {
    let fits = event_of("message.created", Form::Nylas, 1_000_000);
    for attempt in [1, 9, 10, 99, u32::MAX] {
        let later = sent(&fits, Form::Nylas, attempt);
        assert!(!later.truncated);
        assert_eq!(later, sent(&fits, Form::Nylas, attempt));
        let number = format!("\"webhook_delivery_attempt\":{attempt},");
        let first = shown(&later).replacen(&number, "\"webhook_delivery_attempt\":1,", 1);
        assert!(first == shown(&sent(&fits, Form::Nylas, 1)));
    }
}

#[test]
fn what_was_accepted_is_sent_even_where_the_other_form_is_longer() {
    let fits = event_of("event.created", Form::Nylas, 1_000_000);
    let standard = sent(&fits, Form::Standard, 1);
    assert_eq!(
        standard.body.len(),
        1_000_000 + "2026-03-01T12:00:05.123456Z".len() + 2 - 10
    );
    assert!(!standard.truncated);
}

#[test]
fn a_message_that_leaving_out_does_not_help_is_too_large() {
    let large = "x".repeat(1_100_000);
    let of = |data: &str| {
        format!(r#"{{"specversion":"1.0","type":"message.created","source":"s","id":"i",{data}}}"#)
    };
    for data in [
        format!(r#""data":"{large}""#),
        format!(r#""data":["{large}"]"#),
        format!(r#""data":{{"object":null,"reason":"{large}"}}"#),
        format!(r#""data":{{"object":{{"body":"b","id":"{large}"}}}}"#),
        format!(r#""data":{{"object":{{"body":"b"}},"grant_id":"{large}"}}"#),
        format!(r#""data":{{"object":{{"body":"b"}}}},"more":"{large}""#),
        format!(r#""more":"{large}""#),
    ] {
        let event = of(&data);
        let fault = size_check(&event).unwrap_err();
        assert!(fault.bytes > 1_100_000, "{}", fault.bytes);
        let whole = sent(&event, Form::Nylas, 1);
        assert_eq!((whole.body.len(), whole.truncated), (fault.bytes, false));
    }
}

#[test]
fn large_fields_go_after_the_body_and_no_other_field_does() {
    let (large, larger) = ("x".repeat(600_000), "y".repeat(700_000));
    let event = format!(
        r#"{{"specversion":"1.0","type":"message.updated","source":"s","id":"i","time":0,"data":{{"object":{{"id":"m","headers":"{large}","body":"b","folders":"{larger}","thread_id":"t"}},"application_id":"a"}}}}"#
    );
    let truncated = sent(&event, Form::Nylas, 1);
    let expected = format!(
        r#"{{"specversion":"1.0","type":"message.updated.truncated","source":"s","id":"i","time":0,"webhook_delivery_attempt":1,"data":{{"object":{{"id":"m","headers":"{large}","thread_id":"t"}},"application_id":"a"}}}}"#
    );
    assert!(shown(&truncated) == expected);
}

#[test]
fn a_stored_body_that_is_no_event_is_an_error() {
    let fault = notification(b"{\"id\":1}", Form::Nylas, 1, ACCEPTED, None).unwrap_err();
    assert_eq!(fault, EnvelopeError::Missing("specversion"));
}

/// A JSON document as somebody may write it.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 5, |inner| {
        let members = proptest::collection::btree_map("[a-z\"\\\\]{0,4}", inner.clone(), 0..5);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    });
    let written = (value, any::<bool>()).prop_map(|(value, pretty)| {
        if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        }
    });
    let odd = proptest::sample::select(vec![
        "{ \"a\":1 ,\"a\" : 1.50e+2}",
        "\"\\ud83d \\u0041\"",
        "-0.0",
        "[[[[]]]]",
    ]);
    prop_oneof![8 => written, 1 => odd.prop_map(str::to_owned)]
}

fn attribute() -> impl Strategy<Value = String> {
    "[a-zA-Z/.\"\\\\\u{e9}\u{1f600}-]{1,40}"
}

proptest! {
    #[test]
    fn what_is_published_arrives_with_its_data_byte_for_byte(
        (event_type, source, id) in (attribute(), attribute(), attribute()),
        data in document(),
        extension in attribute(),
        attempt in 1_u32..,
        standard: bool,
    ) {
        let form = if standard { Form::Standard } else { Form::Nylas };
        let [event_type_json, source_json, id_json, extension_json] =
            [&event_type, &source, &id, &extension].map(|text| Value::from(text.as_str()).to_string());
        let body = format!(
            "{{\"data\" : {data} ,\"specversion\":\"1.0\",\"type\":{event_type_json},\"source\":{source_json},\
             \"own1\":{extension_json},\"id\":{id_json}}}"
        );
        let sent = sent(&body, form, attempt);
        prop_assert_eq!(&sent.event_type, &event_type);
        prop_assert!(!sent.truncated);

        let members = Members::of(shown(&sent), 20).unwrap().first;
        let names: Vec<_> = members.iter().map(|member| member.name().unwrap()).collect();
        prop_assert_eq!(
            names,
            ["specversion", "type", "source", "id", "time", "webhook_delivery_attempt", "data", "own1"]
        );
        for (member, expected) in [(1, &event_type), (2, &source), (3, &id), (7, &extension)] {
            prop_assert_eq!(text(members[member].value).unwrap(), expected.as_str());
        }
        let number = attempt.to_string();
        prop_assert_eq!(members[5].value.get(), number.as_str());
        prop_assert_eq!(members[6].value.get(), data.as_str());
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        data in document(),
        cut: usize,
        flips in proptest::collection::vec(any::<(usize, u8)>(), 0..4),
    ) {
        let _ = notification(&bytes, Form::Nylas, 1, ACCEPTED, None);
        let mut event = format!(
            "{{\"specversion\":\"1.0\",\"type\":\"message.x\",\"source\":\"s\",\"id\":\"i\",\"time\":\
             \"2026-03-01T12:00:00Z\",\"data\":{data}}}"
        ).into_bytes();
        event.truncate(cut % (event.len() + 1));
        for (at, byte) in flips {
            if !event.is_empty() {
                let at = at % event.len();
                event[at] = byte;
            }
        }
        if let Ok(published) = Published::parse(&event) {
            let _ = check_size(&published, ACCEPTED);
        }
        for form in FORMS {
            let _ = notification(&event, form, 12, ACCEPTED, None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_truncated_message_fits_and_keeps_its_ids(
        sizes in proptest::collection::vec(0_usize..600_000, 1..6),
        body in 0_usize..1_500_000,
        standard: bool,
        attempt in 1_u32..10,
    ) {
        let form = if standard { Form::Standard } else { Form::Nylas };
        let mut object = serde_json::json!({
            "id": "m1", "grant_id": "g1", "object": "message", "thread_id": "t1", "body": "b".repeat(body),
        });
        for (index, size) in sizes.iter().enumerate() {
            object[format!("field{index}")] = Value::from("\u{e9}".repeat(*size / 2));
        }
        let event = serde_json::json!({
            "specversion": "1.0", "type": "message.created.cleaned", "source": "s", "id": "i",
            "data": { "application_id": "a1", "object": object },
        }).to_string();
        prop_assert_eq!(size_check(&event), Ok(()));

        let sent = sent(&event, form, attempt);
        prop_assert!(sent.body.len() <= NOTIFICATION_BYTES_MOST);
        let whole = serialize(&Published::parse(event.as_bytes()).unwrap(), form, attempt, ACCEPTED);
        prop_assert_eq!(sent.truncated, whole.len() > NOTIFICATION_BYTES_MOST);

        let read: Value = serde_json::from_slice(&sent.body).unwrap();
        let suffix = if sent.truncated { ".truncated" } else { "" };
        let expected = format!("message.created.cleaned{suffix}");
        prop_assert_eq!(read["type"].as_str(), Some(expected.as_str()));
        prop_assert_eq!(&sent.event_type, &expected);
        prop_assert_eq!(&read["data"]["application_id"], "a1");
        let left = read["data"]["object"].as_object().unwrap();
        for (name, value) in [("id", "m1"), ("grant_id", "g1"), ("object", "message"), ("thread_id", "t1")] {
            prop_assert_eq!(&left[name], value);
        }
        prop_assert_eq!(left.contains_key("body"), !sent.truncated);
        for (name, value) in left {
            prop_assert_eq!(value, &object[name.as_str()]);
        }
    }
}
