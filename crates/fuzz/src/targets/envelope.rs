//! What an application publishes, and what is sent of it.

use bytes::Bytes;
use hookfast::outbox::envelope::{Form, NOTIFICATION_BYTES_MOST, Published, check_size, fit, notification};
use hookfast_engine::time::Timestamp;
use serde_json::Value;

const FORMS: [Form; 2] = [Form::Nylas, Form::Standard];

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn parsed(body: &Bytes) -> Value {
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
        let sent = notification(bytes, form, 3, now(), None).expect("what parsed once parses again");
        let value = parsed(&sent.body);
        assert_eq!(value["id"], *published.id);
        assert_eq!(value["type"], *sent.event_type);
        assert_eq!(value["webhook_delivery_attempt"], 3);
        if small_enough && matches!(form, Form::Nylas) {
            assert!(sent.body.len() <= NOTIFICATION_BYTES_MOST);
        }
        let renamed = notification(bytes, form, 1, now(), Some("evt_2")).expect("it parses");
        assert_eq!(parsed(&renamed.body)["id"], "evt_2");
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
        let Ok(sent) = fit(&published, form, 1, now()) else {
            continue;
        };
        assert!(sent.truncated && sent.event_type == "message.created.truncated");
        assert!(sent.body.len() <= NOTIFICATION_BYTES_MOST);
        let value = parsed(&sent.body);
        assert_eq!(value["data"]["object"]["id"], "m");
        assert_eq!(value["data"]["object"].get("body"), None);
    }
}
