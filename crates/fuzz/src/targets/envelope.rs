//! What an application publishes, and what is sent of it.

use bytes::Bytes;
use hookfast::outbox::envelope::{Form, NOTIFICATION_BYTES_MOST, Published, check_size, fit, notification};
use hookfast_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

const FORMS: [Form; 2] = [Form::Nylas, Form::Standard];

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

/// A notification as a receiver reads it. Its data is only looked at as JSON: what an application publishes may have an
/// escape in it, such as half of a surrogate pair, that some parsers take for no text.
#[derive(Deserialize)]
struct Sent<'a> {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    webhook_delivery_attempt: u32,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

fn sent(body: &Bytes) -> Sent<'_> {
    serde_json::from_slice(body).expect("a notification is JSON")
}

/// Any bytes: what is taken is sent as JSON with its id, type and attempt in it, and what fits at publishing fits when
/// it is sent.
pub(crate) fn publish(bytes: &[u8]) {
    let published = match Published::parse(bytes) {
        Ok(published) => published,
        Err(error) => return drop(error.to_string()),
    };
    let small_enough = check_size(&published, now()).is_ok();
    for form in FORMS {
        let made = notification(bytes, form, 3, now(), None).expect("what parsed once parses again");
        let read = sent(&made.body);
        assert_eq!(
            (&*read.id, &*read.event_type),
            (&*published.id, &*made.event_type)
        );
        assert_eq!(read.webhook_delivery_attempt, 3);
        assert_eq!(
            read.data.map(RawValue::get),
            published.data.map(RawValue::get).filter(|data| *data != "null"),
            "what was published goes out byte for byte"
        );
        if small_enough && matches!(form, Form::Nylas) {
            assert!(made.body.len() <= NOTIFICATION_BYTES_MOST);
        }
        let renamed = notification(bytes, form, 1, now(), Some("evt_2")).expect("it parses");
        assert_eq!(sent(&renamed.body).id, "evt_2");
    }
}

/// Any bytes, as the data of a message that is too large: where something can be left out, what is left is JSON, says
/// so in its type, and fits.
pub(crate) fn truncate(bytes: &[u8]) {
    let Ok(inner) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let filler = "x".repeat(NOTIFICATION_BYTES_MOST);
    let event = serde_json::json!({
        "specversion": "1.0", "type": "message.created", "source": "/fuzz", "id": "1",
        "data": {"application_id": "a", "object": {"id": "m", "fuzz": inner, "body": filler}},
    });
    let event = event.to_string();
    let published = Published::parse(event.as_bytes()).expect("an event");
    for form in FORMS {
        let Ok(made) = fit(&published, form, 1, now()) else {
            continue;
        };
        assert!(made.truncated && made.event_type == "message.created.truncated");
        assert!(made.body.len() <= NOTIFICATION_BYTES_MOST);
        let value: Value = serde_json::from_slice(&made.body).expect("a notification is JSON");
        assert_eq!(value["data"]["object"]["id"], "m");
        assert_eq!(value["data"]["object"].get("body"), None);
    }
}
