//! What passes through: events, deliveries, replays, quarantine, refused requests.
//!
//! Owns their JSON. Must not know how they are stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Header, Time};

/// The state of a delivery.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its first attempt.
    Pending,
    /// An attempt is under way, or leased to a puller.
    InFlight,
    /// Waits for another attempt.
    Retrying,
    /// Waits, and its destination takes nothing at present.
    Held,
    /// The destination took it.
    Delivered,
    /// The destination refused it for good.
    Rejected,
    /// The policy's attempts are used up.
    Dead,
    /// The destination's filter dropped it.
    Filtered,
    /// Somebody, or retention, gave it up.
    Discarded,
}

/// An event without its content.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// The id of its application.
    pub application: String,
    /// The name of its source; the id where the source is deleted.
    pub source: String,
    /// The id of its source.
    pub source_id: String,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// Its type.
    pub r#type: Option<String>,
    /// When the provider says that it happened.
    pub occurred_at: Option<Time>,
    /// When it was accepted.
    pub accepted_at: Time,
    /// The size of its body in bytes.
    pub body_bytes: u64,
    /// How often it was repeated.
    pub repeats: u64,
    /// How many of the repeats had another body.
    pub conflicting: u64,
}

/// An event with its headers and deliveries. Its body is at `/api/v1/events/{id}/body`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EventDetail {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// Its headers in the order they came.
    pub headers: Vec<Header>,
    /// Its deliveries; none where no destination took it.
    pub deliveries: Vec<Delivery>,
}

/// How one event is delivered once more.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventReplay {
    /// To this destination alone (name or id), whether or not it took the event before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Under a new id, for handlers that drop repeats.
    #[serde(default)]
    pub new_id: bool,
}

/// A delivery without its attempts.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// The id of its event.
    pub event: String,
    /// The event's type.
    pub event_type: Option<String>,
    /// The name of its destination; the id where the destination is deleted.
    pub destination: String,
    /// The id of its destination.
    pub destination_id: String,
    /// Its state.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the event was accepted.
    pub accepted_at: Time,
    /// When its next attempt is due, or its lease ends; null once settled.
    pub due_at: Option<Time>,
    /// When it settled.
    pub settled_at: Option<Time>,
    /// Why it was filtered or discarded, or what its last attempt met.
    pub cause: Option<String>,
    /// The replay job that it belongs to.
    pub replay: Option<String>,
}

/// A delivery with its attempts.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Its attempts, oldest first; one under way is not among them.
    pub attempt_log: Vec<Attempt>,
}

/// One try of a delivery.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Time,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// How it ended: `answered`, `timed_out`, `connection_refused`, `acknowledged`, `lost` …
    pub outcome: String,
    /// The answer's status code.
    pub status: Option<u16>,
    /// What failed, in words, where it was not an answer.
    pub error: Option<String>,
    /// The answer's headers.
    pub response_headers: Vec<Header>,
    /// The beginning of the answer's body: text, or base64 where it is not UTF-8.
    pub response_body: String,
    /// Whether `response_body` is base64.
    pub response_body_base64: bool,
}

/// What became of a delivery that was to be retried or discarded.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DeliveryChanged {
    /// The delivery as it is now.
    pub delivery: Delivery,
    /// The state it was found in.
    pub was: DeliveryState,
    /// Whether anything changed: what is in flight, delivered or filtered is left alone.
    pub changed: bool,
}

/// A replay job to be started: which events, and where to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayCreate {
    /// This event alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Of this source, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of this type, or of a prefix such as `message.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// With this provider id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Accepted at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Accepted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Only those that no destination took.
    #[serde(default)]
    pub unrouted: bool,
    /// Only where the event's delivery is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// To this destination (name or id), whether or not it took them; without one, to those that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// At most this many events a second, from 1 to 10000; 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Under new ids, for handlers that drop repeats.
    #[serde(default)]
    pub new_id: bool,
    /// Only counts what would be replayed.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a replay job stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It is through.
    Done,
    /// Somebody cancelled it.
    Cancelled,
}

/// A replay job.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Replay {
    /// Its id.
    pub id: String,
    /// The id of its application.
    pub application: String,
    /// How it stands.
    pub state: ReplayState,
    /// Events looked at so far.
    pub looked_at: u64,
    /// Deliveries made due so far.
    pub replayed: u64,
    /// Deliveries that were waiting or in flight anyway.
    pub skipped: u64,
    /// How many events there are to look at.
    pub total: u64,
    /// At most this many events a second.
    pub rate: u32,
    /// Under new ids.
    pub new_id: bool,
    /// What was asked for.
    pub selection: ReplayCreate,
    /// When it was asked for.
    pub created_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
}

/// What a replay would touch.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ReplayCount {
    /// Events to be looked at.
    pub events: u64,
    /// Deliveries that would be made due.
    pub deliveries: u64,
    /// Deliveries that wait or are in flight anyway.
    pub skipped: u64,
}

/// A notification in quarantine, without its content.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Quarantined {
    /// Its id.
    pub id: String,
    /// The name of its source; the id where the source is deleted.
    pub source: String,
    /// The id of its source.
    pub source_id: String,
    /// When it came.
    pub received_at: Time,
    /// Why it was refused.
    pub cause: String,
    /// Who sent it.
    pub peer: String,
    /// The size of its body in bytes.
    pub body_bytes: u64,
}

/// A notification in quarantine, whole.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct QuarantinedDetail {
    /// The notification.
    #[serde(flatten)]
    pub item: Quarantined,
    /// The request's method.
    pub method: String,
    /// The request's path and query.
    pub target: String,
    /// Its headers in the order they came.
    pub headers: Vec<Header>,
    /// Its body, in base64.
    pub body_base64: String,
}

/// What to take out of quarantine: either `ids` or `source`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRelease {
    /// These.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Everything of this source, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Accepts stale timestamps, where the signature is good.
    #[serde(default)]
    pub ignore_timestamp: bool,
}

/// What became of a release.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Released {
    /// How many were accepted as events.
    pub released: u64,
    /// How many repeated an event that was there.
    pub repeats: u64,
    /// How many were handshakes: taken out, and no events.
    pub handshakes: u64,
    /// How many were no longer in quarantine.
    pub gone: u64,
    /// Those that stay in quarantine, and why; at most 100 are named.
    pub refused: Vec<NotReleased>,
    /// How many stay in quarantine.
    pub refused_count: u64,
}

/// A notification that stays in quarantine.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NotReleased {
    /// Its id.
    pub id: String,
    /// Why.
    pub cause: String,
}

/// What to give up of quarantine: either `ids` or `source`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineDiscard {
    /// These.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Everything of this source, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// How many were given up.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Discarded {
    /// How many.
    pub discarded: u64,
}

/// A request that the public listener refused.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Rejected {
    /// When.
    pub at: Time,
    /// The name of the source, where one was named that exists.
    pub source: Option<String>,
    /// The answer's status code.
    pub status: u16,
    /// Why, as a code.
    pub cause: String,
    /// More, in words.
    pub detail: String,
    /// Who sent it.
    pub peer: String,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// How many like it this row stands for.
    pub count: u64,
}
