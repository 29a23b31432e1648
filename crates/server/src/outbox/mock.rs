//! Mock notifications, one for each trigger type of the Nylas catalogue (SPEC O13).
//!
//! Owns the examples in `mock/`: the fields are those that Nylas documents, the values are ours. Must not know
//! who is shown them or to whom they are sent.

use std::collections::BTreeMap;

use hookfast_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// By trigger type: the examples of one subject in one file.
const FILES: [&str; 12] = [
    include_str!("mock/alert.json"),
    include_str!("mock/booking.json"),
    include_str!("mock/calendar.json"),
    include_str!("mock/contact.json"),
    include_str!("mock/event.json"),
    include_str!("mock/folder.json"),
    include_str!("mock/grant.json"),
    include_str!("mock/intelligence.json"),
    include_str!("mock/message.json"),
    include_str!("mock/notetaker.json"),
    include_str!("mock/sent.json"),
    include_str!("mock/tracking.json"),
];

/// What a file says of one trigger type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// The type whose example this one changes.
    like: Option<String>,
    /// The envelope's `source`.
    source: Option<String>,
    /// The envelope's `data` but for the application, or with `like` a merge patch of it (RFC 7396).
    #[serde(default)]
    data: Map<String, Value>,
}

/// A whole notification of the type `trigger` as Nylas would send it at its first attempt; nothing where that is
/// no type of its catalogue.
///
/// Its id is the same for the same second: who sends it to a receiver that drops repeats sets one of its own.
#[must_use]
pub fn payload(trigger: &str, application_id: &str, now: Timestamp) -> Option<Value> {
    let Example { source, mut data, .. } = example(trigger)?;
    let seconds = now.as_secs();
    data.insert("application_id".to_owned(), Value::from(application_id));
    Some(json!({
        "specversion": "1.0",
        "type": trigger,
        "source": source?,
        "id": format!("mock-id-{seconds}"),
        "time": seconds,
        "webhook_delivery_attempt": 1,
        "data": data,
    }))
}

fn example(trigger: &str) -> Option<Example> {
    let own = FILES.into_iter().find_map(|file| {
        let mut examples: BTreeMap<String, Example> = serde_json::from_str(file).ok()?;
        examples.remove(trigger)
    })?;
    let Some(like) = &own.like else {
        return Some(own);
    };
    let mut changed = example(like)?;
    changed.source = own.source.or(changed.source);
    merge(&mut changed.data, own.data);
    Some(changed)
}

/// Changes `target` as the merge patch says: null removes, objects change, anything else replaces.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, change) in patch {
        match (change, target.get_mut(&name)) {
            (Value::Null, _) => {
                target.remove(&name);
            }
            (Value::Object(patch), Some(Value::Object(target))) => merge(target, patch),
            (change, _) => {
                target.insert(name, change);
            }
        }
    }
}

#[cfg(test)]
#[path = "mock_tests.rs"]
mod tests;
