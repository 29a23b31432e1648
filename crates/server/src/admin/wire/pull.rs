//! What a worker leases, acknowledges and gives back (SPEC I12).
//!
//! Owns its JSON. Must not know what a receipt is made of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Header, Span, Time};

/// Which deliveries a worker wants.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// At most this many, from 1 to 1000; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long to wait for the first, up to `30s`; `0s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// For how long they are leased, from `1s` to `12h`; `30s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span>,
}

/// Deliveries leased to a worker.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Pulled {
    /// The deliveries, oldest first; none where nothing came in time.
    pub deliveries: Vec<PulledDelivery>,
}

/// A delivery leased to a worker.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PulledDelivery {
    /// Its id.
    pub delivery: String,
    /// What proves the lease: give it to `ack`, `nack` or `extend`.
    pub receipt: String,
    /// Its event.
    pub event: PulledEvent,
    /// The event's headers in the order they came.
    pub headers: Vec<Header>,
    /// The event's body, in base64.
    pub body_base64: String,
    /// The number of this attempt.
    pub attempt: u32,
    /// The replay job that made it due.
    pub replay: Option<String>,
    /// Until when it is leased.
    pub lease_until: Time,
}

/// The event of a leased delivery.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PulledEvent {
    /// Its id, or the new one that a replay was asked to show.
    pub id: String,
    /// Its type.
    pub r#type: Option<String>,
    /// The name of its source; the id where the source is deleted.
    pub source: String,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// When the provider says that it happened.
    pub occurred_at: Option<Time>,
    /// When it was accepted.
    pub accepted_at: Time,
}

/// Leased deliveries that are done.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Their receipts, at most 1000.
    pub receipts: Vec<String>,
}

/// Leased deliveries that are given back.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nack {
    /// Their receipts, at most 1000.
    pub receipts: Vec<String>,
    /// How long to wait before they may be leased again, up to `12h`; `0s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}

/// Leased deliveries that take longer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// Their receipts, at most 1000.
    pub receipts: Vec<String>,
    /// For how long they are leased from now, from `1s` to `12h`; `30s` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span>,
}

/// What became of receipts, in their order.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Receipts {
    /// One for each receipt.
    pub results: Vec<ReceiptResult>,
}

/// What became of a receipt.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ReceiptResult {
    /// The receipt.
    pub receipt: String,
    /// What became of it.
    pub result: ReceiptOutcome,
}

/// What became of a receipt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptOutcome {
    /// It was as asked.
    Done,
    /// The lease is no longer this worker's: nothing changed, and the delivery may come again.
    Stale,
}
