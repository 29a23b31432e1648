//! What applications publish, and the types of it.
//!
//! Owns their JSON.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The largest body of a request that publishes, in bytes, whether of one event or of many.
pub const PUBLISHED_BYTES_MOST: usize = 10 * 1024 * 1024;
/// The most events in one request.
pub const PUBLISHED_EVENTS_MOST: usize = 10_000;

/// One event to be published: CloudEvents 1.0 in its structured JSON form.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// The trigger type, such as `message.created`.
    pub r#type: String,
    /// Who says so, such as `/google/emails/realtime`.
    pub source: String,
    /// The publisher's own id: the same (source, id) again within 7 days is a repeat.
    pub id: String,
    /// When it happened, as RFC 3339; when it is accepted, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The content. It goes out byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// That an event is stored.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Accepted {
    /// The event's id: the first one's, where it is a repeat.
    pub id: String,
    /// Whether it was published before: nothing is delivered twice.
    pub repeat: bool,
    /// How many destinations it goes to; null where it is a repeat.
    pub deliveries: Option<u32>,
}

/// What became of one of many events.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct LineResult {
    /// The status that the event alone would have been answered with.
    pub status: u16,
    /// The event's id, where it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether it was published before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<bool>,
    /// The code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl LineResult {
    /// Of an event that is stored.
    #[must_use]
    pub fn taken(accepted: Accepted) -> Self {
        Self {
            status: 202,
            id: Some(accepted.id),
            repeat: Some(accepted.repeat),
            code: None,
            detail: None,
        }
    }

    /// Of an event that was not taken.
    #[must_use]
    pub fn refused(status: u16, code: &str, detail: String) -> Self {
        Self {
            status,
            id: None,
            repeat: None,
            code: Some(code.to_owned()),
            detail: Some(detail),
        }
    }
}

/// Where an event type comes from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventTypeOrigin {
    /// The catalogue that comes with Hookfast.
    Preset,
    /// The configuration file.
    File,
    /// The API or the command line.
    Api,
}

/// An event type.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EventType {
    /// The type, such as `message.created`.
    pub name: String,
    /// What it tells.
    pub description: String,
    /// Whether destinations can list it; the others come with the type they are a form of.
    pub subscribable: bool,
    /// The JSON schema of the data.
    pub schema: Option<Value>,
    /// An example of the data; of a preset's types only where one is shown alone.
    pub example: Option<Value>,
    /// Where it comes from.
    pub origin: EventTypeOrigin,
    /// What to know about the change that was just made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An event type to be made.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTypeCreate {
    /// The type: words with dots between them.
    pub name: String,
    /// What it tells.
    #[serde(default)]
    pub description: String,
    /// The JSON schema of the data: kept and shown, not enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// An example of the data, for test events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
}

/// What to change of an event type. What is left out stays; null clears.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTypeUpdate {
    /// What it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of the data.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub schema: Option<Option<Value>>,
    /// An example of the data.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub example: Option<Option<Value>>,
}

/// Which trigger type a test event is of.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestAsked {
    /// The type; by default the first that the destination lists, or `message.created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_type: Option<String>,
}

/// How a destination answered a test event. Nothing of it is stored.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Tested {
    /// The type that was sent.
    pub trigger_type: String,
    /// Whether the answer is a success under the destination's policy.
    pub success: bool,
    /// The answer's status; null where there was none.
    pub status: Option<u16>,
    /// How long it took to the end of the answer's head, in milliseconds.
    pub duration_ms: f64,
    /// What failed, where there was no answer.
    pub error: Option<String>,
    /// The beginning of the answer's body; what is not UTF-8 is replaced.
    pub response_body: String,
}

/// Tells a field that is null from one that is left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Value>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
